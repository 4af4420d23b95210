-- Schedules: jobs to be made again and again, by cron.
-- Locks: only the table it creates itself.
-- Concurrency: runs inside the migration's advisory lock, once.
-- Index: creates them.
-- Cost: constant.

-- missed, what becomes of ticks that nobody fired in time: 0 skip, 1 once, 2 all, the latest missed_limit of them.
-- overlap: 0 allow, 1 skip a tick while the job of the last one has not ended.
-- next_tick is null while the schedule is paused, and when there is none any more.
-- revision counts the changes by people, so that what was reckoned before one is not done after it.
create table {schema}.schedule (
  id int4 generated always as identity primary key,
  name text not null unique,
  next_tick timestamptz,
  last_tick timestamptz,
  last_job uuid,
  revision int8 not null default 1,
  queue_id int4 not null,
  priority int4 not null,
  max_retries int4,
  codec int2 not null,
  jitter_percent int2,
  missed int2 not null,
  missed_limit int2,
  overlap int2 not null,
  paused bool not null default false,
  cron text not null,
  zone text not null,
  backoff_ms int8[],
  description text,
  payload bytea not null
) with (fillfactor = 50);
create index schedule_tick on {schema}.schedule (next_tick) where next_tick is not null;
