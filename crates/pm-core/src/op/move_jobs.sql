-- Moves jobs to another queue, in the order of their ids, with id, payload, priority and description. A lease stays valid.
-- Locks: key share on the target queue; the jobs in id order, skipping those that another transaction has locked; a frontier, if it has to insert one.
-- Concurrency: a concurrent deletion of the target queue either waits for this statement, or leads to "no such queue". Of two jobs with the same key the first by id is moved, of those that are not locked. A job in progress gets a position no higher than the frontier of its new line, so that the reaper finds it.
-- Index: queue (name), job (id), job_key for jobs with a key, claim_frontier.
-- Cost: about 20 us per job.
-- Outcome: 0 not found, 1 changed, 2 refused: the precondition is not met, 3 in another queue than required, 4 refused: another job has reserved its key in the target queue, 5 locked by another transaction. No row: no such queue.
with target_queue as materialized (
  select id from {schema}.queue where name = $5::pg_catalog.text for key share
), item as materialized (
  select item.id, item.ordinal, target_queue.id as target_queue_id from target_queue cross join pg_catalog.unnest($1::pg_catalog.uuid[]) with ordinality as item(id, ordinal)
), target as materialized (
  select item.ordinal, item.target_queue_id, job.id, job.state, job.paused, job.lease, job.queue_id, job.priority, job.seq,
         case when not {key_has_lapsed} then job.reserved_key end as reserved_key
  from item join {schema}.job on job.id = any(array[item.id])
  order by item.id
  for no key update of job skip locked
), {precondition}, wanted_key as materialized (
  select id, target_queue_id as queue_id, reserved_key as key from judged where fits and queue_id <> target_queue_id and reserved_key is not null
), changed_here as (
  select id from judged where fits
), {lapsed_keys}, same_key as materialized (
  select id from (
    select id, pg_catalog.first_value(id) over (partition by key order by id) as first from wanted_key
  ) ranked
  where first <> id
), key_taken as materialized (
  select id from taken union all select id from same_key
), allowed as materialized (
  select fit.*, case when fit.queue_id <> fit.target_queue_id and fit.seq is not null and fit.state <> 1 then {next_position} else fit.seq end as position
  from (
    select judged.* from judged where fits and id not in (select id from key_taken) order by id offset 0
  ) fit
), line as (
  select distinct target_queue_id as queue_id, priority from allowed where state = 1
), {new_frontier:line}, changed as (
  update {schema}.job
  set queue_id = a.target_queue_id, reserved_key = a.reserved_key,
      seq = case
        when a.queue_id <> a.target_queue_id and a.state = 1
        then least(a.seq, coalesce((select f.seq from {schema}.claim_frontier f where {is_frontier_of:a.target_queue_id, a.priority}), 1))
        else a.position
      end
  from allowed a
  where job.id = any(array[a.id])
  returning job.id
)
select item.ordinal,
       case when judged.id in (select id from key_taken) then 4::pg_catalog.int2 else {bulk_outcome:changed} end as outcome,
       judged.shown as state, item.target_queue_id as queue_id
from item left join judged on judged.ordinal = item.ordinal
