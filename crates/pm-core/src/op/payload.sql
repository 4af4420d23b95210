-- Returns the payload of one job, its own or a shared one.
-- Locks: none.
-- Concurrency: reads one snapshot.
-- Index: job (id), payload (id).
-- Cost: grows with the size of the payload.
select job.codec, {payload_of:job} as payload
from {schema}.job join {schema}.queue on queue.id = job.queue_id
where queue.name is not null and job.id = $1::pg_catalog.uuid
