-- Returns one job, without its payload.
-- Locks: none.
-- Concurrency: reads one snapshot.
-- Index: job (id).
-- Cost: constant.
select {job_columns}
from {schema}.job join {schema}.queue on queue.id = job.queue_id
where queue.name is not null and job.id = $1::pg_catalog.uuid
