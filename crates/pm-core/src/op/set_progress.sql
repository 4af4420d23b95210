-- Stores the progress of jobs under their leases.
-- Locks: the jobs, in the order given (the core sorts by job), skipping those that another transaction has locked.
-- Concurrency: fenced by (id, lease) and state; under a lease that has ended it changes nothing.
-- Index: job (id). A HOT update.
-- Cost: independent of the size of the table; about 8 us per job in batches of 500.
-- Reply: the number of an item whose job is still leased, but was skipped because another transaction has locked it.
with item as materialized (
  select * from unnest($1::pg_catalog.uuid[], $2::pg_catalog.int8[], $3::pg_catalog.text[]) with ordinality as item(id, lease, progress, ordinal)
), unlocked as materialized (
  select item.ordinal, leased.id, item.progress
  from item cross join lateral (
    select job.id from {schema}.job
    where job.id = item.id and job.lease = item.lease and job.state = 1
    limit 1
    for no key update skip locked
  ) leased
), stored as (
  update {schema}.job set progress = unlocked.progress
  from unlocked
  where job.id = any(array[unlocked.id])
  returning unlocked.ordinal
)
select item.ordinal
from item join {schema}.job on job.id = any(array[item.id]) and job.lease = item.lease and job.state = 1
where item.ordinal not in (select ordinal from unlocked)
