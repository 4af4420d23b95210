-- Part of other statements: whether keys are free. `wanted_key` lists the jobs (id) that are to reserve a key (key) of a queue (queue_id); `changed_here` lists jobs that another part of the statement locks and changes. Reservations that have lapsed are released, and those of jobs that have expired with them: these have failed, as after a reap; `taken` lists the jobs of `wanted_key` whose key another job has reserved.
-- A job reserves its key until it has ended or expired, and beyond that until its key_until.
-- Locks: the jobs whose reservations have lapsed, if there are any, skipping those that another transaction has locked.
-- Concurrency: a reservation made after the snapshot is found by the unique index.
-- Index: job_key, one probe per wanted_key.
-- Cost: about 2 us per wanted_key.
lapsing as materialized (
  select holder.id, holder.has_ended
  from wanted_key cross join lateral (
    select job.id, job.state >= 2 as has_ended from {schema}.job
    where job.queue_id = wanted_key.queue_id and job.reserved_key = wanted_key.key and {key_has_lapsed} and job.id not in (select id from changed_here)
    for no key update skip locked
  ) holder
), released as (
  update {schema}.job set reserved_key = null where job.id = any(array(select id from lapsing where has_ended)) returning job.id
), expired as (
  update {schema}.job set {expired}, reserved_key = null where job.id = any(array(select id from lapsing where not has_ended)) returning job.id
), lapsed as (
  select id from released union all select id from expired
), taken as materialized (
  select wanted_key.id
  from wanted_key cross join lateral (
    select job.id from {schema}.job where job.queue_id = wanted_key.queue_id and job.reserved_key = wanted_key.key offset 0
  ) holder
  where holder.id <> wanted_key.id and holder.id not in (select id from lapsed)
)
