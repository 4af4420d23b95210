-- Schedules, which enqueue jobs by cron.
-- Locks: only the table that it creates.
-- Concurrency: runs once, under the migration's advisory lock.
-- Index: creates them.
-- Cost: constant.

-- missed, the policy for ticks that were not fired in time: 0 skip, 1 once, 2 all (the latest missed_limit of them).
-- overlap: 0 allow, 1 skip a tick if the job of the previous one has not ended.
-- next_tick is null while the schedule is paused, and when no tick is left.
-- revision counts the changes by operators, so that ticks computed before a change are not fired after it.
create table {schema}.schedule (
  id pg_catalog.int4 generated always as identity primary key,
  name pg_catalog.text not null unique,
  next_tick pg_catalog.timestamptz,
  last_tick pg_catalog.timestamptz,
  last_job pg_catalog.uuid,
  revision pg_catalog.int8 not null default 1,
  queue_id pg_catalog.int4 not null,
  priority pg_catalog.int4 not null,
  max_retries pg_catalog.int4,
  codec pg_catalog.int2 not null,
  jitter_percent pg_catalog.int2,
  missed pg_catalog.int2 not null,
  missed_limit pg_catalog.int2,
  overlap pg_catalog.int2 not null,
  paused pg_catalog.bool not null default false,
  cron pg_catalog.text not null,
  zone pg_catalog.text not null,
  backoff_ms pg_catalog.int8[],
  description pg_catalog.text,
  payload pg_catalog.bytea not null,
  constraint schedule_backoff check (backoff_ms is null or (
    pg_catalog.array_ndims(backoff_ms) is not distinct from 1 and pg_catalog.array_lower(backoff_ms, 1) = 1
    and pg_catalog.cardinality(backoff_ms) <= 64 and pg_catalog.array_position(backoff_ms, null::pg_catalog.int8) is null))
) with (fillfactor = 50);
create index schedule_tick on {schema}.schedule (next_tick) where next_tick is not null;
