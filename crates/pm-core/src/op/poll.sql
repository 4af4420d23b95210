-- Returns what there is to do: the queues that a worker follows and their lines, the next due time, the next lease expiry, the next tick of a schedule.
-- Locks: none; for a worker that is about to be idle, the queues' rows for no key update, skipping locked ones.
-- Concurrency: reads one snapshot. An enqueue that does not see the worker's idle_until began before it was set; the worker finds its jobs at a later poll, and doubles the time between polls.
-- Index: queue (name); job_line, one probe per line and the jobs in progress up to each frontier; job_wait; schedule_tick.
-- Cost: independent of the backlog; grows with the number of lines and of jobs in progress (about 0.3 us each).
with recursive followed as materialized (
  select * from {schema}.queue where name = any($1::pg_catalog.text[])
), idle as materialized (
  select id from {schema}.queue where name = any($1::pg_catalog.text[]) and $2::pg_catalog.int8 is not null for no key update skip locked
), set_idle as (
  update {schema}.queue set idle_until = greatest(queue.idle_until, pg_catalog.statement_timestamp() + {interval:$2::pg_catalog.int8})
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
  select pg_catalog.min(in_progress.lease_expires_at) filter (where in_progress.lease_expires_at < 'infinity') as at
  from {schema}.claim_frontier cross join lateral (
    select job.lease_expires_at from {schema}.job
    where {is_in_progress}
    offset 0
  ) in_progress
), overdue as materialized (
  select job.expires_at as at from {schema}.job where job.expires_at is not null and job.expires_at < 'infinity' and job.state <> 1 order by job.expires_at limit 1
), due as materialized (
  select pg_catalog.min(job.run_at) as at from {schema}.job
  where {is_waiting:job} and job.run_at < 'infinity'
)
select followed.id, followed.name, followed.paused, followed.lease_ms, followed.max_retries, followed.backoff_ms, followed.jitter_percent,
       coalesce(lines.priorities, array[]::pg_catalog.int4[]) as priorities,
       (select {ms_until:due.at} from due where due.at is not null) as due_ms,
       (select {ms_until:pg_catalog.min(next.at)} from (select at from expiry union all select at from overdue) next
        having pg_catalog.min(next.at) is not null) as expiry_ms,
       (select {ms_until:pg_catalog.min(schedule.next_tick)} from {schema}.schedule
        where schedule.next_tick is not null and schedule.next_tick < 'infinity'
        having pg_catalog.min(schedule.next_tick) is not null) as tick_ms
from followed left join lines on lines.queue_id = followed.id
