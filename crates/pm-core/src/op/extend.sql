-- Extends leases to a full length from now, each up to its latest end if it has one; never shortens one.
-- Locks: the jobs, in the order given (the core sorts by job), skipping those that another transaction has locked.
-- Concurrency: fenced by (id, lease) and state; an expired lease that was not reaped yet is extended. A locked job is reported as leased and not extended, and does not delay the others.
-- Index: job (id). A HOT update.
-- Cost: independent of the size of the table; about 8 us per lease in batches of 500.
-- Reply: what remains of each lease (null if the job is locked), and whether the job is to be cancelled; no row if the lease is lost.
with item as materialized (
  select * from unnest($1::pg_catalog.uuid[], $2::pg_catalog.int8[], $3::pg_catalog.timestamptz[]) with ordinality as item(id, lease, latest_end, ordinal)
), unlocked as materialized (
  select item.ordinal, item.latest_end, leased.id, leased.queue_id
  from item cross join lateral (
    select job.id, job.queue_id from {schema}.job
    where job.id = item.id and job.lease = item.lease and job.state = 1
    limit 1
    for no key update skip locked
  ) leased
), extended as (
  update {schema}.job
  set lease_expires_at = greatest(job.lease_expires_at, least({lease_end}, unlocked.latest_end))
  from unlocked join {schema}.queue on queue.id = unlocked.queue_id
  where job.id = any(array[unlocked.id])
  returning unlocked.ordinal, case when job.lease_expires_at < 'infinity' then {ms:job.lease_expires_at - pg_catalog.statement_timestamp()}
            else 31536000000000 end as remaining_ms, job.cancelled_at is not null as is_cancelled
)
select ordinal, remaining_ms, is_cancelled from extended
union all
select item.ordinal, null, false
from item join {schema}.job on job.id = any(array[item.id]) and job.lease = item.lease and job.state = 1
where item.ordinal not in (select ordinal from unlocked)
