-- Part of other statements: whether a key is free. `wish` says which jobs (id) are to hold a key (key) of a queue (queue_id); `spared` names jobs that are locked and changed elsewhere in the statement. Holds that have lapsed are let go; `taken` names the wishes whose key another job holds.
-- A key is held while its holder has not ended, and beyond that until its key_until.
-- Locks: the ended jobs whose holds have lapsed, when there are any, passing by those that another transaction has locked.
-- Concurrency: who takes a key after the snapshot is found by the unique index.
-- Index: job_key, one probe a wish.
-- Cost: about 2 us a wish.
lapsing as materialized (
  select holder.id
  from wish cross join lateral (
    select job.id from {schema}.job
    where job.queue_id = wish.queue_id and job.key_held = wish.key and {key_has_lapsed} and job.id not in (select id from spared)
    for no key update skip locked
  ) holder
), lapsed as (
  update {schema}.job set key_held = null where job.id = any(array(select id from lapsing)) returning job.id
), taken as materialized (
  select wish.id
  from wish cross join lateral (
    select job.id from {schema}.job where job.queue_id = wish.queue_id and job.key_held = wish.key offset 0
  ) holder
  where holder.id <> wish.id and holder.id not in (select id from lapsed)
)
