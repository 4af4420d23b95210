-- Leases one job by its id, if it is ready and its queue is not paused; for as long as a claim.
-- Locks: the job, unless another transaction has locked it; a frontier, if it has to insert one.
-- Concurrency: as a claim, which leaves a job that changes between pick and update. The job gets a position no higher than the frontier of its line, so that the reaper finds it; once released, it stands near the head of the line.
-- Index: job (id), claim_frontier.
-- Cost: constant.
-- Reply: as claim.
with target as materialized (
  select job.ctid as tid, job.queue_id, job.priority, job.seq
  from {schema}.job join {schema}.queue on queue.id = job.queue_id
  where job.id = $1::pg_catalog.uuid and job.state = 0 and not job.paused and not queue.paused and queue.name is not null
    and (job.seq is not null or job.run_at <= pg_catalog.statement_timestamp()) and {may_start}
  for no key update of job skip locked
), {new_frontier:target}, claimed as (
  update {schema}.job
  set state = 1, attempt = least(job.attempt, 2147483646) + 1, lease = $2::pg_catalog.int8, worker = $3::pg_catalog.text, run_at = null,
      lease_expires_at = {first_lease_end},
      seq = least(job.seq, coalesce((select f.seq from {schema}.claim_frontier f where {is_frontier_of:target.queue_id, target.priority}), 1))
  from target join {schema}.queue on queue.id = target.queue_id
  where job.ctid = target.tid
  returning {leased_job}
)
select null::pg_catalog.uuid as id, queue.id as queue_id, queue.name, queue.lease_ms, queue.max_retries, queue.backoff_ms, queue.jitter_percent,
       pg_catalog.statement_timestamp() as claimed_at, {no_leased_job}
from {schema}.queue where queue.id in (select queue_id from claimed)
union all
select id, queue_id, null, unreadable_ms, max_retries, backoff_ms, jitter_percent, null, {leased_columns}
from claimed
