-- Releases all jobs that one claim with a lost reply has leased.
-- Locks: the jobs of that claim, in id order.
-- Concurrency: fenced by the lease number; harmless if the claim never ran, and if it is sent twice. A job that is to be cancelled has failed.
-- Index: job_line up to the claim frontier of each line; then job (id).
-- Cost: grows with the jobs in progress (about 0.3 us each), not with the backlog.
with in_progress as materialized (
  select in_progress.id
  from {schema}.claim_frontier cross join lateral (
    select job.id, job.lease from {schema}.job
    where {is_in_progress}
    offset 0
  ) in_progress
  where in_progress.lease = $1::pg_catalog.int8
), released as (
  update {schema}.job
  set state = case when job.cancelled_at is null then 0 else 3 end, verdict = case when job.cancelled_at is null then 3 else 10 end, lease_expires_at = null,
      attempt = job.attempt - (job.cancelled_at is null)::pg_catalog.int4,
      seq = case when job.cancelled_at is null then job.seq end, expires_at = case when job.cancelled_at is null then job.expires_at end,
      reason = case when job.cancelled_at is null then job.reason else job.cancel_reason end,
      ended_at = case when job.cancelled_at is not null then pg_catalog.statement_timestamp() end,
      failed_at = case when job.cancelled_at is not null then pg_catalog.statement_timestamp() end,
      reserved_key = {key_if_ended:job.cancelled_at is not null}
  where job.id = any(array(select id from in_progress order by id)) and job.lease = $1::pg_catalog.int8 and job.state = 1
  returning job.id
)
select pg_catalog.count(*) as released from released
