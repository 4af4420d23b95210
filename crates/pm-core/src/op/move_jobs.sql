-- Moves jobs to another queue, in the order of their ids, with id, payload, priority and description; a lease stays valid.
-- Locks: key share on the target queue; the jobs in id order; a frontier row it may have to make.
-- Concurrency: a racing delete_queue waits or is seen as "no such queue". A job in progress is put no later in its new line than the frontier there, so that the reaper finds it.
-- Index: queue (name), job (id), job_key for jobs with a key, claim_frontier.
-- Cost: about 20 us a job.
-- Outcome: 0 not found, 1 changed, 2 refused: its key is held in the target queue, or it is not what it was to be, 3 in another queue than it was to be in. No row: no such queue.
with goal as materialized (
  select id from {schema}.queue where name = $5::pg_catalog.text for key share
), item as materialized (
  select item.id, item.ordinal, goal.id as goal_id from goal cross join pg_catalog.unnest($1::pg_catalog.uuid[]) with ordinality as item(id, ordinal)
), target as materialized (
  select item.ordinal, item.goal_id, job.id, job.state, job.held, job.lease, job.queue_id, job.priority, job.seq, job.key_held
  from item join {schema}.job on job.id = any(array[item.id])
  order by item.id
  for no key update of job
), {still_is}, allowed as materialized (
  select t.*, case when t.queue_id <> t.goal_id and t.seq is not null and t.state <> 1 then pg_catalog.nextval('{schema}.job_seq') else t.seq end as ticket
  from (
    select ranked.* from (
      select still.*, pg_catalog.row_number() over (partition by key_held order by id) as turn from still where fits
    ) ranked
    where queue_id = goal_id or key_held is null
       or (turn = 1 and not exists (select 1 from {schema}.job o where o.queue_id = ranked.goal_id and o.key_held = ranked.key_held))
    order by id
    offset 0
  ) t
), line as (
  select distinct goal_id, priority from allowed where state = 1
), made as (
  insert into {schema}.claim_frontier (queue_id, priority, seq) select goal_id, priority, 1 from line order by 1, 2
  on conflict do nothing
), changed as (
  update {schema}.job
  set queue_id = a.goal_id,
      seq = case
        when a.queue_id <> a.goal_id and a.state = 1
        then least(a.seq, coalesce((select f.seq from {schema}.claim_frontier f where f.queue_id = a.goal_id and f.priority = a.priority), 1))
        else a.ticket
      end
  from allowed a
  where job.id = any(array[a.id])
  returning job.id
)
select item.ordinal,
       case when still.id is null then 0::pg_catalog.int2 when still.id in (select id from changed) then 1::pg_catalog.int2 when still.is_here then 2::pg_catalog.int2 else 3::pg_catalog.int2 end as outcome,
       still.shown as state, item.goal_id as queue_id
from item left join still on still.ordinal = item.ordinal
