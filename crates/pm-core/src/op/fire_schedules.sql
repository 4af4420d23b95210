-- Inserts the jobs of due ticks, and advances each schedule to its next tick: only from the tick and the revision with which it was read, so that each tick is fired once.
-- Locks: key share on the queues in id order, then the schedules in id order, both skipping locked ones; then the new rows.
-- Concurrency: of two statements that fire the same tick at once one finds it; the other skips the row or finds it advanced. Sent again after a lost reply, it finds nothing. If the next tick of a schedule was set from a time before a tick that has been fired since, that tick is not fired again. A queue being deleted fires nothing, and a locked queue delays only its own schedules.
-- Index: schedule (id), queue (id); job (id) for a job that may still be active; job_line, job_key.
-- Cost: about 30 us per schedule and 10 us per job.
with item as materialized (
  select item.* from unnest($1::pg_catalog.int4[], $2::pg_catalog.int8[], $3::pg_catalog.timestamptz[], $4::pg_catalog.timestamptz[]) as item(id, revision, tick, next_tick)
), unlocked_queue as materialized (
  select queue.id from {schema}.queue
  where queue.id = any(array(select schedule.queue_id from {schema}.schedule join item on item.id = schedule.id)) and queue.name is not null
  order by queue.id
  for key share skip locked
), due as materialized (
  select schedule.id, schedule.queue_id, schedule.priority, schedule.codec, schedule.payload, schedule.description, schedule.max_retries,
         schedule.backoff_ms, schedule.jitter_percent, schedule.overlap, schedule.last_tick, schedule.last_job, item.next_tick
  from {schema}.schedule join item on item.id = schedule.id
  where schedule.revision = item.revision and schedule.next_tick = item.tick and schedule.queue_id in (select id from unlocked_queue)
  order by schedule.id
  for no key update of schedule skip locked
), firing as materialized (
  select firing.*, due.queue_id, due.priority, due.codec, due.payload, due.description, due.max_retries, due.backoff_ms, due.jitter_percent
  from unnest($5::pg_catalog.int4[], $6::pg_catalog.uuid[], $7::pg_catalog.timestamptz[], $8::pg_catalog.text[]) as firing(schedule_id, job_id, tick, key)
  join due on due.id = firing.schedule_id
  where firing.tick > coalesce(due.last_tick, '-infinity')
    and (due.overlap = 0 or not exists (select from {schema}.job where job.id = due.last_job and job.state < 2))
  order by firing.tick, firing.schedule_id
  offset 0
), added as (
  insert into {schema}.job (id, queue_id, priority, seq, codec, payload, created_at, description, key, reserved_key, max_retries, backoff_ms, jitter_percent)
  select job_id, queue_id, priority, {next_position}, codec, payload, pg_catalog.statement_timestamp(), description, key, key,
         max_retries, backoff_ms, jitter_percent
  from firing
  on conflict do nothing
  returning id
), latest as materialized (
  select distinct on (firing.schedule_id) firing.schedule_id, firing.tick, firing.job_id
  from firing join added on added.id = firing.job_id
  order by firing.schedule_id, firing.tick desc
), advanced as (
  update {schema}.schedule
  set next_tick = due.next_tick, last_tick = coalesce(latest.tick, schedule.last_tick), last_job = coalesce(latest.job_id, schedule.last_job)
  from due left join latest on latest.schedule_id = due.id
  where schedule.id = due.id
  returning schedule.id
)
select (select pg_catalog.count(*) from advanced) as fired, (select pg_catalog.count(*) from added) as jobs
