-- Soft-fails expired leases, oldest first, and fails jobs that have not started by their time to expire. Returns when the next of both is due. Deletes the frontiers of lines that are no longer used.
-- Locks: the jobs with expired leases, then those that were to start by now, then the unused frontiers, skipping locked rows of all.
-- Concurrency: two reapers share the work; a settlement that comes first is applied, and one that comes later is refused. A job that is to be cancelled has failed. Locked jobs do not count against the limit. A frontier is retired first, so that claims raise it anew, and deleted an hour later if its line is still empty: a claim that began before it was retired has ended by then, and one that began later has raised it.
-- Index: job_line up to the claim frontier of each line; then job (id), one probe per expired job; job_expiry up to now. Every end of a job or of a lease but a release takes the job out of job_expiry; one that is there although it has started leaves it here.
-- Cost: grows with the jobs in progress (about 0.3 us each) and the frontiers (about 1 us each), not with the backlog.
with in_progress as materialized (
  select in_progress.id, in_progress.lease_expires_at
  from {schema}.claim_frontier cross join lateral (
    select job.id, job.lease_expires_at from {schema}.job
    where {is_in_progress}
    offset 0
  ) in_progress
), pick as materialized (
  select pick.*
  from (
    select id from in_progress where lease_expires_at <= pg_catalog.statement_timestamp() order by lease_expires_at
  ) expired cross join lateral (
    select job.id, job.queue_id, job.attempt, job.lease, job.worker, job.retry_count, job.cancelled_at, job.cancel_reason,
           job.backoff_ms, job.max_retries, job.jitter_percent
    from {schema}.job
    where job.id = any(array[expired.id]) and job.state = 1 and job.lease_expires_at <= pg_catalog.statement_timestamp()
    for no key update skip locked
  ) pick
  limit $1::pg_catalog.int8
), base_delay as materialized (
  select pick.id, pick.attempt, pick.lease, pick.worker, pick.retry_count, pick.cancelled_at, pick.cancel_reason,
         case when pick.cancelled_at is null and pick.retry_count < coalesce(pick.max_retries, queue.max_retries) then greatest(0::pg_catalog.int8, least(315360000000, coalesce(
           (coalesce(pick.backoff_ms, queue.backoff_ms))[greatest(1, least(least(pick.retry_count, 2147483646) + 1, pg_catalog.cardinality(coalesce(pick.backoff_ms, queue.backoff_ms))))],
           0)))
         end as base_ms,
         coalesce(pick.jitter_percent, queue.jitter_percent) as jitter_percent,
         pg_catalog.uuid_hash_extended(pick.id, $2::pg_catalog.int8) & 1048575::pg_catalog.int8 as part
  from pick join {schema}.queue on queue.id = pick.queue_id
  order by pick.id
), delay as materialized (
  select base_delay.*,
         case when jitter_percent > 0 and (retry_count = 0 or base_ms = 0) then greatest(base_ms * jitter_percent / 100, 2000::pg_catalog.int8)
              else base_ms * jitter_percent / 100 end as spread_ms
  from base_delay
), reaped as (
  update {schema}.job
  set state = case when delay.base_ms is null then 3 else 0 end, verdict = case when delay.cancelled_at is null then 4 else 10 end, lease_expires_at = null,
      reason = case when delay.cancelled_at is null then 'lease expired' else delay.cancel_reason end,
      retry_count = least(job.retry_count, 2147483646) + 1, expires_at = null,
      ended_at = case when delay.base_ms is null then pg_catalog.statement_timestamp() end,
      failed_at = case when delay.base_ms is null then pg_catalog.statement_timestamp() end,
      reserved_key = {key_if_ended:delay.base_ms is null},
      seq = case when delay.base_ms + delay.spread_ms = 0 then {next_position} end,
      run_at = case when delay.base_ms + delay.spread_ms > 0 then
        pg_catalog.statement_timestamp() + {interval:(delay.base_ms + (delay.spread_ms * delay.part >> 20))} end
  from delay
  where job.id = any(array[delay.id])
  returning job.id
), new_attempt as (
  {add_attempts:lease, pg_catalog.statement_timestamp(), case when cancelled_at is null then 4 else 10 end, worker, 'lease expired' from base_delay}
), overdue as materialized (
  select job.id, job.state = 0 and job.attempt = 0 and job.snoozes is null as has_expired
  from {schema}.job
  where job.expires_at is not null and job.expires_at <= pg_catalog.statement_timestamp() and job.state <> 1
  order by job.expires_at
  limit $1::pg_catalog.int8
  for no key update skip locked
), ended as (
  update {schema}.job
  set {expired}, reserved_key = {key_if_ended:true}
  from overdue
  where job.id = any(array[overdue.id]) and overdue.has_expired
  returning job.id
), started as (
  update {schema}.job set expires_at = null
  from overdue
  where job.id = any(array[overdue.id]) and not overdue.has_expired
), unused as materialized (
  select frontier.queue_id, frontier.priority, frontier.retired_at
  from {schema}.claim_frontier frontier
  where frontier.seq <= (select greatest(pg_catalog.max(seq), 0) - 2000 from {schema}.claim_frontier)
    and (frontier.retired_at is null or frontier.retired_at < pg_catalog.statement_timestamp() - interval '1 hour')
    and not exists (
      select from {schema}.job where job.queue_id = frontier.queue_id and job.priority = frontier.priority and job.seq is not null
    )
  limit 1000
  for update of frontier skip locked
), retired as (
  update {schema}.claim_frontier as frontier set retired_at = pg_catalog.statement_timestamp()
  from unused
  where frontier.queue_id = unused.queue_id and frontier.priority = unused.priority and unused.retired_at is null
), deleted as (
  delete from {schema}.claim_frontier as frontier using unused
  where frontier.queue_id = unused.queue_id and frontier.priority = unused.priority and unused.retired_at is not null
)
select (select pg_catalog.count(*) from reaped) as reaped,
       (select pg_catalog.count(*) from ended) as expired,
       (select {ms_until:pg_catalog.min(next.at)} from (
          select lease_expires_at as at from in_progress where id not in (select id from pick) and lease_expires_at < 'infinity'
          union all
          (select job.expires_at from {schema}.job where job.expires_at is not null and job.expires_at > pg_catalog.statement_timestamp() and job.expires_at < 'infinity' and job.state <> 1 order by job.expires_at limit 1)
        ) next
        having pg_catalog.min(next.at) is not null) as next_ms
