-- Returns which of these leases are of jobs that are to be cancelled, and which have ended otherwise than by their worker.
-- Locks: none.
-- Concurrency: reads one snapshot. The worker leaves out leases that a caller's transaction settles.
-- Index: job (id).
-- Cost: one index probe per lease.
select item.ordinal, job.id is null as has_ended
from unnest($1::pg_catalog.uuid[], $2::pg_catalog.int8[]) with ordinality as item(id, lease, ordinal)
left join {schema}.job on job.id = any(array[item.id]) and job.lease = item.lease and job.state = 1
where job.id is null or job.cancelled_at is not null
