-- Settles leases, each with its own verdict. Returns the items that changed nothing.
-- Locks: the jobs, in the order given (the core sorts by id); if $7 is true, skipping those that another transaction has locked.
-- Concurrency: fenced by (id, lease) and state; a late or repeated settlement changes nothing. A job that is to be cancelled has failed, unless it succeeded. Only a release keeps the time to expire: it undoes the attempt.
-- Index: job (id); the new row version leaves job_line if the job has ended or waits.
-- Cost: independent of the size of the table; about 11 us per job in batches of 500, a third more if $7 is true.
-- Reply: the number of an item in the batch; negative if its job is still leased, but was skipped because another transaction has locked it.
with item as materialized (
  select * from unnest($1::pg_catalog.uuid[], $2::pg_catalog.int8[], $3::pg_catalog.int2[], $4::pg_catalog.int2[], $5::pg_catalog.int8[], $6::pg_catalog.text[], $8::pg_catalog.text[])
    with ordinality as item(id, lease, verdict, state, delay_ms, reason, result, ordinal)
), unlocked as materialized (
  select job.id
  from item join {schema}.job on job.id = any(array[item.id]) and job.lease = item.lease and job.state = 1
  where $7::pg_catalog.bool
  for no key update of job skip locked
), settled as materialized (
  update {schema}.job
  set state = case when {fails_cancelled} then 3 else item.state end, verdict = case when {fails_cancelled} then 10 else item.verdict end, lease_expires_at = null,
      ended_at = case when item.state >= 2 or {fails_cancelled} then pg_catalog.statement_timestamp() end,
      failed_at = case when item.state = 3 or {fails_cancelled} then pg_catalog.statement_timestamp() end,
      reserved_key = {key_if_ended:(item.state >= 2 or {fails_cancelled})},
      seq = case when item.state >= 2 or {fails_cancelled} then null when item.verdict = 3 then job.seq when item.delay_ms > 0 then null else {next_position} end,
      run_at = case when item.state = 0 and not {fails_cancelled} and item.delay_ms > 0 then pg_catalog.statement_timestamp() + {interval:item.delay_ms} end,
      expires_at = case when item.verdict = 3 and not {fails_cancelled} then job.expires_at end,
      retry_count = least(job.retry_count, 2147483646) + (item.verdict = 1)::pg_catalog.int4,
      attempt = job.attempt - (item.verdict in (3, 9) and job.cancelled_at is null)::pg_catalog.int4,
      snoozes = case when item.verdict = 9 and job.cancelled_at is null then least(coalesce(job.snoozes, 0), 2147483646) + 1 else job.snoozes end,
      unreadable_since = case item.verdict when 8 then coalesce(job.unreadable_since, pg_catalog.statement_timestamp()) when 3 then job.unreadable_since end,
      reason = case when {fails_cancelled} then job.cancel_reason when item.verdict = 0 then null else coalesce(item.reason, job.reason) end,
      result = item.result
  from item
  where job.id = any(array[item.id]) and job.lease = item.lease and job.state = 1
    and (not $7::pg_catalog.bool or item.id in (select id from unlocked))
  returning item.ordinal, job.id, job.attempt, job.lease, job.verdict, job.worker, coalesce(item.reason, job.reason) as reason
), ended_attempt as (
  {add_attempts:lease, pg_catalog.statement_timestamp(), verdict, worker, reason from settled where verdict not in (0, 3, 9)}
)
select case when $7::pg_catalog.bool and exists (
         select from {schema}.job where job.id = any(array[item.id]) and job.lease = item.lease and job.state = 1 offset 0
       ) then -item.ordinal else item.ordinal end
from item where item.ordinal not in (select ordinal from settled)
