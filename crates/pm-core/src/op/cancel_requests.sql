-- Returns which of these leases are of jobs that are to be cancelled.
-- Locks: none.
-- Concurrency: reads one snapshot; a lease that has ended is not returned.
-- Index: job (id).
-- Cost: one index probe per lease.
select item.ordinal
from unnest($1::pg_catalog.uuid[], $2::pg_catalog.int8[]) with ordinality as item(id, lease, ordinal)
join {schema}.job on job.id = any(array[item.id]) and job.lease = item.lease and job.state = 1
where job.cancelled_at is not null
