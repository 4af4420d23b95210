-- Marks jobs as finished or failed for an operator. Jobs that have ended already are refused.
-- Locks: the jobs in id order, skipping those that another transaction has locked.
-- Concurrency: a job in progress loses its lease number, so its worker can no longer settle it. If the precondition names a lease, only a job under this lease is ended.
-- Index: job (id), attempt (job_id, attempt).
-- Cost: about 15 us per job.
-- Outcome: 0 not found, 1 changed, 2 refused, 3 in another queue than required, 5 locked by another transaction.
with {bulk_targets:job.id, job.state, job.paused, job.attempt, job.lease, job.worker, job.queue_id}, {precondition}, changed as (
  update {schema}.job
  set state = $5::pg_catalog.int2, verdict = $6::pg_catalog.int2, reason = $7::pg_catalog.text, lease = null, lease_expires_at = null, paused = false,
      ended_at = pg_catalog.statement_timestamp(), failed_at = case when $5::pg_catalog.int2 = 3 then pg_catalog.statement_timestamp() end,
      seq = null, run_at = null, expires_at = null,
      reserved_key = {key_if_ended:true}
  from judged
  where job.id = any(array[judged.id]) and judged.state < 2 and judged.fits
  returning job.id
), new_attempt as (
  {add_attempts:null, pg_catalog.statement_timestamp(), $6::pg_catalog.int2, worker, $7::pg_catalog.text from judged where state = 1 and id in (select id from changed)}
)
select item.ordinal,
       {bulk_outcome:changed} as outcome,
       judged.shown as state, judged.queue_id
from item left join judged on judged.ordinal = item.ordinal
