-- Deletes jobs in any state, their attempts, and payloads that no other job shares.
-- Locks: the jobs in id order, skipping those that another transaction has locked; then the shared payloads in id order.
-- Concurrency: the worker of a job in progress can no longer settle it. A trigger deletes what belongs to the jobs, including rows committed while this statement waited for locks; of two statements that delete the last jobs of a payload the later deletes the payload.
-- Index: job (id), attempt (job_id, attempt), payload (id).
-- Cost: about 20 us per job, and the pages of large payloads.
-- Outcome: 0 not found, 1 changed, 2 refused: the precondition is not met, 3 in another queue than required, 5 locked by another transaction.
with item as materialized (
  select * from pg_catalog.unnest($1::pg_catalog.uuid[]) with ordinality as item(id, ordinal)
), target as materialized (
  select item.ordinal, job.id, job.state, job.paused, job.lease, job.queue_id
  from item join {schema}.job on job.id = any(array[item.id])
  order by item.id
  for update of job skip locked
), {precondition}, deleted as (
  delete from {schema}.job using judged where job.id = any(array[judged.id]) and judged.fits returning job.id
)
select item.ordinal,
       {bulk_outcome:deleted} as outcome,
       judged.shown as state, judged.queue_id
from item left join judged on judged.ordinal = item.ordinal
