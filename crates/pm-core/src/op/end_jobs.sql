-- Declares jobs done or failed by an operator's word; jobs that ended already are refused.
-- Locks: the jobs, in id order, passing by those that another transaction has locked.
-- Concurrency: a job in progress loses its lease number, so its holder's next word is refused. With a lease given, only its holder is overruled.
-- Index: job (id), attempt (job_id, attempt).
-- Cost: about 15 us a job.
-- Outcome: 0 not found, 1 changed, 2 refused, 3 in another queue than it was to be in, 5 locked by another transaction.
with item as materialized (
  select * from pg_catalog.unnest($1::pg_catalog.uuid[]) with ordinality as item(id, ordinal)
), target as materialized (
  select item.ordinal, job.id, job.state, job.paused, job.attempt, job.lease, job.worker, job.queue_id
  from item join {schema}.job on job.id = any(array[item.id])
  order by item.id
  for no key update of job skip locked
), {precondition}, changed as (
  update {schema}.job
  set state = $5::pg_catalog.int2, verdict = $6::pg_catalog.int2, reason = $7::pg_catalog.text, lease = null, lease_expires_at = null, paused = false,
      ended_at = pg_catalog.statement_timestamp(), failed_at = case when $5::pg_catalog.int2 = 3 then pg_catalog.statement_timestamp() end,
      seq = null, run_at = null,
      reserved_key = case when coalesce(job.key_until <= pg_catalog.statement_timestamp(), true) then null else job.reserved_key end
  from still
  where job.id = any(array[still.id]) and still.state < 2 and still.fits
  returning job.id
), told as (
  insert into {schema}.attempt (job_id, attempt, lease, ended_at, verdict, worker, reason)
  select id, attempt, null, pg_catalog.statement_timestamp(), $6::pg_catalog.int2, worker, $7::pg_catalog.text
  from still where state = 1 and id in (select id from changed)
  on conflict do nothing
)
select item.ordinal,
       case when still.id is null then {not_locked} when still.id in (select id from changed) then 1::pg_catalog.int2 when still.is_here then 2::pg_catalog.int2 else 3::pg_catalog.int2 end as outcome,
       still.shown as state, still.queue_id
from item left join still on still.ordinal = item.ordinal
