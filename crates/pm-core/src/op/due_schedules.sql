-- Lists the schedules whose tick has come, earliest first, without the first $2. A first row has the time, and the time until the next tick.
-- Locks: none.
-- Concurrency: reads one snapshot; firing checks again.
-- Index: schedule_tick.
-- Cost: one row per due schedule, including those left out; independent of the other schedules.
-- Schedules of a queue that is being deleted are left out.
select null::pg_catalog.int4 as id, null::pg_catalog.int8 as revision, null::pg_catalog.text as name, null::pg_catalog.text as cron, null::pg_catalog.text as zone, null::pg_catalog.int2 as missed,
       null::pg_catalog.int2 as missed_limit, null::pg_catalog.int2 as overlap, pg_catalog.statement_timestamp() as tick,
       (select {ms:pg_catalog.min(schedule.next_tick) - pg_catalog.statement_timestamp()} from {schema}.schedule
        where schedule.next_tick > pg_catalog.statement_timestamp() and schedule.next_tick < 'infinity') as next_ms
union all
select due.id, due.revision, due.name, due.cron, due.zone, due.missed, due.missed_limit, due.overlap, due.next_tick, null
from (
  select schedule.* from {schema}.schedule
  where schedule.next_tick <= pg_catalog.statement_timestamp()
    and exists (select from {schema}.queue where queue.id = schedule.queue_id and queue.name is not null)
  order by schedule.next_tick, schedule.id
  limit $1::pg_catalog.int8 offset $2::pg_catalog.int8
) due
