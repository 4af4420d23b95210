-- Looks what there is to do: the queues a worker follows, their lines, the next due time, the next lease expiry, the next tick of a schedule.
-- Locks: none; for a worker that is about to sleep, the queues' rows, without their keys, skipping locked ones.
-- Concurrency: reads one snapshot. An enqueue that does not see the worker's idle_until began before it; the worker looks again after twice the time.
-- Index: queue (name); job_line, one probe a line and the stretch in progress up to each frontier; job_wait; schedule_tick.
-- Cost: flat in the backlog; grows with the number of lines and of jobs in progress (about 0.3 us each).
with recursive followed as materialized (
  select * from {schema}.queue where name = any($1::pg_catalog.text[])
), idle as materialized (
  select id from {schema}.queue where name = any($1::pg_catalog.text[]) and $3::pg_catalog.int8 is not null for no key update skip locked
), marked as (
  update {schema}.queue set idle_until = greatest(queue.idle_until, pg_catalog.statement_timestamp() + $3::pg_catalog.int8::pg_catalog.float8 * interval '1 ms')
  from idle where queue.id = idle.id
), line as (
  select followed.id as queue_id,
         (select job.priority from {schema}.job where job.queue_id = followed.id and job.seq is not null
          order by job.priority desc limit 1) as priority
  from followed
  union all
  select line.queue_id,
         (select job.priority from {schema}.job where job.queue_id = line.queue_id and job.seq is not null and job.priority < line.priority
          order by job.priority desc limit 1)
  from line where line.priority is not null
), lines as (
  select line.queue_id, pg_catalog.array_agg(line.priority order by line.priority desc) as priorities
  from line where line.priority is not null
  group by line.queue_id
), expiry as materialized (
  select pg_catalog.min(flight.lease_expires_at) filter (where flight.lease_expires_at < 'infinity') as at
  from {schema}.claim_frontier cross join lateral (
    select job.lease_expires_at from {schema}.job
    where job.queue_id = claim_frontier.queue_id and job.priority = claim_frontier.priority and job.seq >= least(claim_frontier.seq, 0) and job.seq <= claim_frontier.seq and job.state = 1
    offset 0
  ) flight
), due as materialized (
  select pg_catalog.min(job.run_at) as at from {schema}.job
  where job.seq is null and job.run_at is not null and not job.paused and job.run_at >= coalesce($2::pg_catalog.timestamptz, '-infinity') and job.run_at < 'infinity'
)
select followed.id, followed.name, followed.paused, followed.lease_ms, followed.max_retries, followed.backoff_ms, followed.jitter_percent,
       coalesce(lines.priorities, array[]::pg_catalog.int4[]) as priorities,
       (select (extract(epoch from greatest(due.at, '0001-01-01 00:00:00+00'::pg_catalog.timestamptz) - pg_catalog.statement_timestamp()) * 1000.0)::pg_catalog.int8 from due where due.at is not null) as due_ms,
       (select (extract(epoch from greatest(expiry.at, '0001-01-01 00:00:00+00'::pg_catalog.timestamptz) - pg_catalog.statement_timestamp()) * 1000.0)::pg_catalog.int8 from expiry where expiry.at is not null) as expiry_ms,
       (select (extract(epoch from greatest(pg_catalog.min(schedule.next_tick), '0001-01-01 00:00:00+00'::pg_catalog.timestamptz) - pg_catalog.statement_timestamp()) * 1000.0)::pg_catalog.int8 from {schema}.schedule
        where schedule.next_tick is not null and schedule.next_tick < 'infinity'
        having pg_catalog.min(schedule.next_tick) is not null) as tick_ms
from followed left join lines on lines.queue_id = followed.id
