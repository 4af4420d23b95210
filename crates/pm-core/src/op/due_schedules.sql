-- Tells the schedules whose tick has come, earliest first and without the first few, and when the next one comes; that and the time stand in a first row.
-- Locks: none.
-- Concurrency: reads one snapshot; firing looks again.
-- Index: schedule_tick.
-- Cost: one row a due schedule, those left out included; flat in the others.
-- Schedules of a queue that is being deleted are left out.
select null::int4 as id, null::int8 as revision, null::text as name, null::text as cron, null::text as zone, null::int2 as missed,
       null::int2 as missed_limit, null::int2 as overlap, statement_timestamp() as tick,
       (select (extract(epoch from min(schedule.next_tick) - statement_timestamp()) * 1000)::int8 from {schema}.schedule
        where schedule.next_tick > statement_timestamp() and schedule.next_tick < 'infinity') as next_ms
union all
select due.id, due.revision, due.name, due.cron, due.zone, due.missed, due.missed_limit, due.overlap, due.next_tick, null
from (
  select schedule.* from {schema}.schedule
  where schedule.next_tick <= statement_timestamp()
    and exists (select from {schema}.queue where queue.id = schedule.queue_id and queue.name is not null)
  order by schedule.next_tick, schedule.id
  limit $1::int8 offset $2::int8
) due
