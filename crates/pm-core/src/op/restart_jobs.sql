-- Makes jobs pending again, ready at once and in the order of their ids; those in progress only if forced.
-- Locks: the jobs in id order, skipping those that another transaction has locked.
-- Concurrency: a job is restarted with its key or not at all; of two with the same key the first by id is, of those that are not locked. A job in progress that is restarted by force loses its lease number, so its worker can no longer settle it. A restarted commit leaves an attempt, so that the commit still gets its outcome if it is sent again later.
-- Index: job (id), attempt (job_id, attempt), job_key for jobs with a key.
-- Cost: about 20 us per job.
-- Outcome: 0 not found, 1 changed, 2 refused, 3 in another queue than required, 4 refused: another job has reserved its key, 5 locked by another transaction.
with {bulk_targets:job.*}, {precondition}, restartable as materialized (
  select judged.* from judged where fits and (state <> 1 or $5::pg_catalog.bool)
), wanted_key as materialized (
  select id, queue_id, key from restartable where key is not null and reserved_key is null
), changed_here as (
  select id from restartable
), {lapsed_keys}, same_key as materialized (
  select id from (
    select id, pg_catalog.first_value(id) over (partition by queue_id, key order by id) as first from wanted_key
  ) ranked
  where first <> id
), key_taken as materialized (
  select id from taken union all select id from same_key
), allowed as materialized (
  select fit.*, case when fit.state = 0 and fit.seq is not null then fit.seq else {next_position} end as position
  from (
    select restartable.* from restartable where id not in (select id from key_taken) order by id offset 0
  ) fit
), new_attempt as (
  {add_attempts:case when state = 2 then lease end, coalesce(ended_at, pg_catalog.statement_timestamp()), case when state = 2 then verdict else 7::pg_catalog.int2 end, worker, reason
  from allowed where (state = 2 and verdict = 0) or state = 1}
), changed as (
  update {schema}.job
  set state = 0, retry_count = 0, snoozes = case when a.snoozes is not null then 0 end, cancelled_at = null, cancel_reason = null, expires_at = null, reason = null, result = null, progress = null, unreadable_since = null, trace = {link_only:job}, run_at = null, ended_at = null, failed_at = null, paused = false,
      lease = case when a.state = 1 then null else a.lease end, lease_expires_at = null,
      seq = a.position, reserved_key = a.key
  from allowed a
  where job.id = any(array[a.id])
  returning job.id
)
select item.ordinal,
       case when judged.id in (select id from key_taken) then 4::pg_catalog.int2 else {bulk_outcome:changed} end as outcome,
       judged.shown as state, judged.queue_id
from item left join judged on judged.ordinal = item.ordinal
