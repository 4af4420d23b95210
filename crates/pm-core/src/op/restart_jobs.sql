-- Makes jobs pending again, ready at once and in the order of their ids; those in progress only when forced.
-- Locks: the jobs, in id order, passing by those that another transaction has locked.
-- Concurrency: a job comes back with its key or not at all; of two with one key the first by id does. A job in progress loses its lease number when forced, so its holder's next word is refused. A commit it replaces leaves an attempt row, so that a late resend is still told what became of it.
-- Index: job (id), attempt (job_id, attempt), job_key for jobs with a key.
-- Cost: about 20 us a job.
-- Outcome: 0 not found, 1 changed, 2 refused, 3 in another queue than it was to be in, 4 refused: another job holds its key, 5 locked by another transaction.
with item as materialized (
  select * from pg_catalog.unnest($1::pg_catalog.uuid[]) with ordinality as item(id, ordinal)
), target as materialized (
  select item.ordinal, job.*
  from item join {schema}.job on job.id = any(array[item.id])
  order by item.id
  for no key update of job skip locked
), {precondition}, asked as materialized (
  select still.* from still where fits and (state <> 1 or $5::pg_catalog.bool)
), wanted_key as materialized (
  select id, queue_id, key from asked where key is not null and reserved_key is null
), changed_here as (
  select id from asked
), {lapsed_keys}, second as materialized (
  select id from (
    select id, pg_catalog.first_value(id) over (partition by queue_id, key order by id) as first from wanted_key
  ) ranked
  where first <> id
), key_taken as materialized (
  select id from taken union all select id from second
), allowed as materialized (
  select fit.*, case when fit.state = 0 and fit.seq is not null then fit.seq else pg_catalog.nextval('{schema}.job_seq') end as position
  from (
    select asked.* from asked where id not in (select id from key_taken) order by id offset 0
  ) fit
), told as (
  insert into {schema}.attempt (job_id, attempt, lease, ended_at, verdict, worker, reason)
  select id, attempt, case when state = 2 then lease end, coalesce(ended_at, pg_catalog.statement_timestamp()), case when state = 2 then verdict else 7::pg_catalog.int2 end, worker, reason
  from allowed where (state = 2 and verdict = 0) or state = 1
  on conflict do nothing
), changed as (
  update {schema}.job
  set state = 0, retry_count = 0, reason = null, unreadable_since = null, run_at = null, ended_at = null, failed_at = null, paused = false,
      lease = case when a.state = 1 then null else a.lease end, lease_expires_at = null,
      seq = a.position, reserved_key = a.key
  from allowed a
  where job.id = any(array[a.id])
  returning job.id
)
select item.ordinal,
       case when still.id is null then {not_locked} when still.id in (select id from changed) then 1::pg_catalog.int2 when still.id in (select id from key_taken) then 4::pg_catalog.int2 when still.is_here then 2::pg_catalog.int2 else 3::pg_catalog.int2 end as outcome,
       still.shown as state, still.queue_id
from item left join still on still.ordinal = item.ordinal
