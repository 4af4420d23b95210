-- Returns the result of one job, if it has one.
-- Locks: none.
-- Concurrency: reads one snapshot.
-- Index: job (id).
-- Cost: grows with the size of the result.
select job.result
from {schema}.job join {schema}.queue on queue.id = job.queue_id
where queue.name is not null and job.id = $1::pg_catalog.uuid and job.result is not null
