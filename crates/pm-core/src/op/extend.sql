-- Extends leases to a full length from now; never shortens one.
-- Locks: the jobs, in the order given (the core sorts by job), skipping those that someone has locked.
-- Concurrency: fenced by (id, lease) and state; an expired lease that was not reaped yet counts. A job that someone has locked is told as still leased, not extended: it holds up no other.
-- Index: job (id). A HOT update.
-- Cost: flat as the table grows; about 8 us a lease in batches of 500.
-- Reply: what remains of each lease; null while the job is locked; no row when the lease is lost.
with item as materialized (
  select * from unnest($1::pg_catalog.uuid[], $2::pg_catalog.int8[]) with ordinality as item(id, lease, ordinal)
), free as materialized (
  select item.ordinal, leased.id, leased.queue_id
  from item cross join lateral (
    select job.id, job.queue_id from {schema}.job
    where job.id = item.id and job.lease = item.lease and job.state = 1
    limit 1
    for no key update skip locked
  ) leased
), done as (
  update {schema}.job
  set lease_expires_at = greatest(job.lease_expires_at, pg_catalog.statement_timestamp() + greatest(0::pg_catalog.int8, least(queue.lease_ms, 31536000000000))::pg_catalog.float8 * interval '1 ms')
  from free join {schema}.queue on queue.id = free.queue_id
  where job.id = any(array[free.id])
  returning free.ordinal, case when job.lease_expires_at < 'infinity' then (extract(epoch from job.lease_expires_at - pg_catalog.statement_timestamp()) * 1000.0)::pg_catalog.int8
            else 31536000000000 end as remaining_ms
)
select ordinal, remaining_ms from done
union all
select item.ordinal, null
from item join {schema}.job on job.id = any(array[item.id]) and job.lease = item.lease and job.state = 1
where item.ordinal not in (select ordinal from free)
