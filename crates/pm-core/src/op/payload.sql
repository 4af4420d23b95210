-- Reads the payload of one job, its own or the shared one.
-- Locks: none.
-- Concurrency: reads one snapshot.
-- Index: job (id), payload (id).
-- Cost: the payload's size.
select job.codec, coalesce(job.payload, (select payload.data from {schema}.payload where payload.id = job.payload_id)) as payload
from {schema}.job join {schema}.queue on queue.id = job.queue_id
where queue.name is not null and job.id = $1::pg_catalog.uuid
