-- Cancels jobs: one that waits has failed; one in progress is asked to stop, or loses its lease if $5 is true. Jobs that have ended are refused.
-- Locks: the jobs in id order, skipping those that another transaction has locked.
-- Concurrency: the request is stored with the job, so that however its lease ends, except with success, the job has failed. A second request changes nothing.
-- Index: job (id), attempt (job_id, attempt). The request of a job in progress is a HOT update.
-- Cost: about 15 us per job.
-- Outcome: 0 not found, 1 cancelled, 2 refused, 3 in another queue than required, 5 locked by another transaction, 6 asked to stop.
with {bulk_targets:job.id, job.state, job.paused, job.attempt, job.lease, job.worker, job.queue_id}, {precondition}, changed as (
  update {schema}.job
  set state = 3, verdict = 10, reason = $6::pg_catalog.text, lease = null, lease_expires_at = null, paused = false,
      ended_at = pg_catalog.statement_timestamp(), failed_at = pg_catalog.statement_timestamp(), seq = null, run_at = null, expires_at = null,
      cancelled_at = coalesce(job.cancelled_at, pg_catalog.statement_timestamp()), cancel_reason = coalesce(job.cancel_reason, $6::pg_catalog.text),
      reserved_key = {key_if_ended:true}
  from judged
  where job.id = any(array[judged.id]) and judged.fits and (judged.state = 0 or (judged.state = 1 and $5::pg_catalog.bool))
  returning job.id
), requested as (
  update {schema}.job
  set cancelled_at = coalesce(job.cancelled_at, pg_catalog.statement_timestamp()), cancel_reason = coalesce(job.cancel_reason, $6::pg_catalog.text)
  from judged
  where job.id = any(array[judged.id]) and judged.fits and judged.state = 1 and not $5::pg_catalog.bool
  returning job.id
), new_attempt as (
  {add_attempts:null, pg_catalog.statement_timestamp(), 10, worker, $6::pg_catalog.text from judged where state = 1 and id in (select id from changed)}
)
select item.ordinal,
       case when judged.id in (select id from requested) then 6::pg_catalog.int2 else {bulk_outcome:changed} end as outcome,
       judged.shown as state, judged.queue_id
from item left join judged on judged.ordinal = item.ordinal
