-- Moves jobs to another queue, in the order of their ids, with id, payload, priority and description; a lease stays valid.
-- Locks: key share on the target queue; the jobs in id order, passing by those that another transaction has locked; a frontier row it may have to make.
-- Concurrency: a racing delete_queue waits or is seen as "no such queue". A job in progress is put no later in its new line than the frontier there, so that the reaper finds it.
-- Index: queue (name), job (id), job_key for jobs with a key, claim_frontier.
-- Cost: about 20 us a job.
-- Outcome: 0 not found, 1 changed, 2 refused: it is not what it was to be, 3 in another queue than it was to be in, 4 refused: another job holds its key in the target queue, 5 locked by another transaction. No row: no such queue.
with goal as materialized (
  select id from {schema}.queue where name = $5::pg_catalog.text for key share
), item as materialized (
  select item.id, item.ordinal, goal.id as goal_id from goal cross join pg_catalog.unnest($1::pg_catalog.uuid[]) with ordinality as item(id, ordinal)
), target as materialized (
  select item.ordinal, item.goal_id, job.id, job.state, job.paused, job.lease, job.queue_id, job.priority, job.seq,
         case when not {key_has_lapsed} then job.reserved_key end as reserved_key
  from item join {schema}.job on job.id = any(array[item.id])
  order by item.id
  for no key update of job skip locked
), {precondition}, wanted_key as materialized (
  select id, goal_id as queue_id, reserved_key as key from still where fits and queue_id <> goal_id and reserved_key is not null
), changed_here as (
  select id from still where fits
), {lapsed_keys}, second as materialized (
  select id from (
    select id, pg_catalog.first_value(id) over (partition by key order by id) as first from wanted_key
  ) ranked
  where first <> id
), key_taken as materialized (
  select id from taken union all select id from second
), allowed as materialized (
  select fit.*, case when fit.queue_id <> fit.goal_id and fit.seq is not null and fit.state <> 1 then pg_catalog.nextval('{schema}.job_seq') else fit.seq end as position
  from (
    select still.* from still where fits and id not in (select id from key_taken) order by id offset 0
  ) fit
), line as (
  select distinct goal_id, priority from allowed where state = 1
), made as (
  insert into {schema}.claim_frontier (queue_id, priority, seq)
  select goal_id, priority, 1 from line
  where not exists (
    select from {schema}.claim_frontier f where f.queue_id = line.goal_id and f.priority = line.priority and f.retired_at is null
  )
  order by 1, 2
  on conflict (queue_id, priority) do update set retired_at = null
), changed as (
  update {schema}.job
  set queue_id = a.goal_id, reserved_key = a.reserved_key,
      seq = case
        when a.queue_id <> a.goal_id and a.state = 1
        then least(a.seq, coalesce((select f.seq from {schema}.claim_frontier f where f.queue_id = a.goal_id and f.priority = a.priority and f.retired_at is null), 1))
        else a.position
      end
  from allowed a
  where job.id = any(array[a.id])
  returning job.id
)
select item.ordinal,
       case when still.id is null then {not_locked} when still.id in (select id from changed) then 1::pg_catalog.int2 when still.id in (select id from key_taken) then 4::pg_catalog.int2 when still.is_here then 2::pg_catalog.int2 else 3::pg_catalog.int2 end as outcome,
       still.shown as state, item.goal_id as queue_id
from item left join still on still.ordinal = item.ordinal
