-- Changes the priority of pending jobs, paused ones too. Jobs in progress and ended ones are refused.
-- Locks: the jobs in id order, skipping those that another transaction has locked.
-- Concurrency: a ready job whose priority changes becomes the last of its new line, by the ids of the jobs changed together; one that keeps its priority keeps its position.
-- Index: job (id).
-- Cost: about 20 us per job.
-- Outcome: 0 not found, 1 changed, 2 refused, 3 in another queue than required, 5 locked by another transaction.
with {bulk_targets:job.id, job.state, job.paused, job.lease, job.queue_id, job.priority, job.seq}, {precondition}, edited as materialized (
  select fit.id, $5::pg_catalog.int4 as priority, case when fit.seq is not null and fit.priority <> $5::pg_catalog.int4 then {next_position} else fit.seq end as position
  from (
    select * from judged where fits and state = 0 order by id offset 0
  ) fit
), changed as (
  update {schema}.job
  set priority = e.priority, seq = e.position
  from edited e
  where job.id = any(array[e.id])
  returning job.id
)
select item.ordinal,
       {bulk_outcome:changed} as outcome,
       judged.shown as state, judged.queue_id
from item left join judged on judged.ordinal = item.ordinal
