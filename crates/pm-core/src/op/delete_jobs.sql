-- Deletes jobs in any state, their attempts, and payloads that nobody shares any longer.
-- Locks: the jobs in id order, passing by those that another transaction has locked; then the shared payloads in id order.
-- Concurrency: the holder of a job in progress is refused from then on. A trigger deletes what belongs to the jobs, also what was committed while this waited for their locks; of two that delete the last sharers the later frees the payload.
-- Index: job (id), attempt (job_id, attempt), payload (id).
-- Cost: about 20 us a job, and the pages of large payloads.
-- Outcome: 0 not found, 1 changed, 2 refused: it is not what it was to be, 3 in another queue, 5 locked by another transaction.
with item as materialized (
  select * from pg_catalog.unnest($1::pg_catalog.uuid[]) with ordinality as item(id, ordinal)
), target as materialized (
  select item.ordinal, job.id, job.state, job.paused, job.lease, job.queue_id
  from item join {schema}.job on job.id = any(array[item.id])
  order by item.id
  for update of job skip locked
), {precondition}, gone as (
  delete from {schema}.job using still where job.id = any(array[still.id]) and still.fits returning job.id
)
select item.ordinal,
       case when still.id is null then {not_locked} when still.id in (select id from gone) then 1::pg_catalog.int2 when still.is_here then 2::pg_catalog.int2 else 3::pg_catalog.int2 end as outcome,
       still.shown as state, still.queue_id
from item left join still on still.ordinal = item.ordinal
