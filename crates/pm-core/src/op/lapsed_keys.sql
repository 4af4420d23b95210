-- Part of other statements: whether a key is free. `wanted_key` says which jobs (id) are to hold a key (key) of a queue (queue_id); `changed_here` names jobs that are locked and changed elsewhere in the statement. Holds that have lapsed are let go; `taken` names those whose key another job has reserved.
-- A key is held while its holder has not ended, and beyond that until its key_until.
-- Locks: the ended jobs whose holds have lapsed, when there are any, passing by those that another transaction has locked.
-- Concurrency: who takes a key after the snapshot is found by the unique index.
-- Index: job_key, one probe a wanted_key.
-- Cost: about 2 us a wanted_key.
lapsing as materialized (
  select holder.id
  from wanted_key cross join lateral (
    select job.id from {schema}.job
    where job.queue_id = wanted_key.queue_id and job.reserved_key = wanted_key.key and {key_has_lapsed} and job.id not in (select id from changed_here)
    for no key update skip locked
  ) holder
), lapsed as (
  update {schema}.job set reserved_key = null where job.id = any(array(select id from lapsing)) returning job.id
), taken as materialized (
  select wanted_key.id
  from wanted_key cross join lateral (
    select job.id from {schema}.job where job.queue_id = wanted_key.queue_id and job.reserved_key = wanted_key.key offset 0
  ) holder
  where holder.id <> wanted_key.id and holder.id not in (select id from lapsed)
)
