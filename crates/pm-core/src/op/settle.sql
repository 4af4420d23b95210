-- Ends leases, each with its own verdict; answers the positions that changed nothing.
-- Locks: the jobs, in the order given (the core sorts by id); when told to pass by, skipping those that someone has locked.
-- Concurrency: fenced by (id, lease) and state; a late or repeated word changes nothing.
-- Index: job (id); the new version leaves job_line when the job ended or waits.
-- Cost: flat as the table grows; about 11 us a job in batches of 500, a third more when told to pass by.
-- Reply: a position; its negative when the job is still leased, but locked by someone and passed by.
with item as materialized (
  select * from unnest($1::pg_catalog.uuid[], $2::pg_catalog.int8[], $3::pg_catalog.int2[], $4::pg_catalog.int2[], $5::pg_catalog.int8[], $6::pg_catalog.text[])
    with ordinality as item(id, lease, verdict, state, delay_ms, reason, ordinal)
), free as materialized (
  select job.id
  from item join {schema}.job on job.id = any(array[item.id]) and job.lease = item.lease and job.state = 1
  where $7::pg_catalog.bool
  for no key update of job skip locked
), done as materialized (
  update {schema}.job
  set state = item.state, verdict = item.verdict, lease_expires_at = null,
      ended_at = case when item.state >= 2 then pg_catalog.statement_timestamp() end,
      failed_at = case when item.state = 3 then pg_catalog.statement_timestamp() end,
      reserved_key = case when item.state >= 2 and coalesce(job.key_until <= pg_catalog.statement_timestamp(), true) then null else job.reserved_key end,
      seq = case when item.state >= 2 then null when item.verdict = 3 then job.seq when item.delay_ms > 0 then null else pg_catalog.nextval('{schema}.job_seq') end,
      run_at = case when item.state = 0 and item.delay_ms > 0 then pg_catalog.statement_timestamp() + item.delay_ms::pg_catalog.float8 * interval '1 ms' end,
      retry_count = least(job.retry_count, 2147483646) + (item.verdict = 1)::pg_catalog.int4,
      unreadable_since = case item.verdict when 8 then coalesce(job.unreadable_since, pg_catalog.statement_timestamp()) when 3 then job.unreadable_since end,
      reason = case when item.verdict = 0 then null else coalesce(item.reason, job.reason) end
  from item
  where job.id = any(array[item.id]) and job.lease = item.lease and job.state = 1
    and (not $7::pg_catalog.bool or item.id in (select id from free))
  returning item.ordinal, job.id, job.attempt, job.lease, item.verdict, job.worker, item.reason
), told as (
  insert into {schema}.attempt (job_id, attempt, lease, ended_at, verdict, worker, reason)
  select id, attempt, lease, pg_catalog.statement_timestamp(), verdict, worker, reason from done where verdict not in (0, 3)
  on conflict do nothing
)
select case when $7::pg_catalog.bool and exists (
         select from {schema}.job where job.id = any(array[item.id]) and job.lease = item.lease and job.state = 1 offset 0
       ) then -item.ordinal else item.ordinal end
from item where item.ordinal not in (select ordinal from done)
