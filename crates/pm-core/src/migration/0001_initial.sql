-- The first schema: queues, jobs, attempts, shared payloads, replacements, and claim frontiers.
-- Locks: only tables that it creates.
-- Concurrency: runs once, under the migration's advisory lock.
-- Index: creates them all; none contains state, lease, attempt or worker, so that a claim is a HOT update.
-- Cost: constant.

-- A queue whose name is null is being deleted: no look-up by name finds it.
-- Until idle_until a worker with a listener may be idle: enqueues send notifications.
create table {schema}.queue (
  id pg_catalog.int4 generated always as identity primary key,
  name pg_catalog.text unique,
  paused pg_catalog.bool not null default false,
  lease_ms pg_catalog.int8 not null default 1200000,
  max_retries pg_catalog.int4 not null default 8,
  backoff_ms pg_catalog.int8[] not null default '{0,1500000,3000000,6000000,12000000,24000000,48000000,96000000}',
  jitter_percent pg_catalog.int2 not null default 10,
  retain_ms pg_catalog.int8,
  timeout_ms pg_catalog.int8,
  idle_until pg_catalog.timestamptz,
  constraint queue_backoff check (
    pg_catalog.array_ndims(backoff_ms) is not distinct from 1 and pg_catalog.array_lower(backoff_ms, 1) = 1
    and pg_catalog.cardinality(backoff_ms) <= 64 and pg_catalog.array_position(backoff_ms, null::pg_catalog.int8) is null)
) with (fillfactor = 50);

create sequence {schema}.job_seq;

-- state: 0 pending, 1 in progress, 2 finished, 3 failed.
-- verdict, how the last lease ended: 0 commit, 1 soft fail, 2 hard fail, 3 release, 4 reap, 8 unreadable; by an
-- operator: 5 done, 6 fail, 7 restart, 10 cancel. 9 snooze, 11 expire.
-- seq is the position in the line of queue and priority; not null means ready or in progress.
-- lease is the fencing token; an operator's action that breaks a lease sets it to null.
-- cancelled_at is when an operator asked to cancel the job. While it is not null, the job does not become pending.
-- expires_at is when the job fails if it has not started by then. It becomes null when the job ends, and when its first
-- lease ends in another way than by a release.
-- timeout_ms is how long an attempt may take, instead of the queue's time.
-- snoozes is how often workers have put the job off since its last restart; not null if one ever has, as that counts as
-- a start.
-- reserved_key is the key while the job reserves it.
-- No column has a check constraint, which every writing statement would compile anew. So readers accept whatever other
-- programs have written.
-- unreadable_since is when a worker first could not decode the payload; null once a lease has ended in another way than
-- by this or by a release.
-- progress is JSON in ASCII, reported by a handler; it is kept when the job ends, and cleared by a restart.
-- result is JSON in ASCII, of a commit; null for all other jobs.
-- trace is the span in which the job was enqueued: a traceparent and a tracestate of W3C, at most 600 bytes, after "link "
-- for a copy and a restarted job.
create table {schema}.job (
  id pg_catalog.uuid primary key,
  seq pg_catalog.int8,
  run_at pg_catalog.timestamptz,
  lease_expires_at pg_catalog.timestamptz,
  created_at pg_catalog.timestamptz not null default pg_catalog.now(),
  ended_at pg_catalog.timestamptz,
  failed_at pg_catalog.timestamptz,
  key_until pg_catalog.timestamptz,
  unreadable_since pg_catalog.timestamptz,
  cancelled_at pg_catalog.timestamptz,
  expires_at pg_catalog.timestamptz,
  payload_id pg_catalog.int8,
  timeout_ms pg_catalog.int8,
  lease pg_catalog.int8,
  queue_id pg_catalog.int4 not null,
  priority pg_catalog.int4 not null,
  attempt pg_catalog.int4 not null default 0,
  retry_count pg_catalog.int4 not null default 0,
  max_retries pg_catalog.int4,
  snoozes pg_catalog.int4,
  state pg_catalog.int2 not null default 0,
  verdict pg_catalog.int2,
  codec pg_catalog.int2 not null,
  jitter_percent pg_catalog.int2,
  paused pg_catalog.bool not null default false,
  backoff_ms pg_catalog.int8[],
  worker pg_catalog.text,
  key pg_catalog.text,
  reserved_key pg_catalog.text,
  description pg_catalog.text,
  reason pg_catalog.text,
  cancel_reason pg_catalog.text,
  trace pg_catalog.text,
  progress pg_catalog.text,
  result pg_catalog.text,
  payload pg_catalog.bytea
) with (
  fillfactor = 50,
  autovacuum_vacuum_scale_factor = 0.02,
  autovacuum_vacuum_insert_scale_factor = 0.02,
  autovacuum_analyze_scale_factor = 0.02
);
create index job_line on {schema}.job (queue_id, priority, seq) where seq is not null;
create index job_wait on {schema}.job (run_at) where seq is null and run_at is not null and not paused;
create index job_paused on {schema}.job (queue_id) where paused;
create unique index job_key on {schema}.job (queue_id, reserved_key) where reserved_key is not null;
create index job_expiry on {schema}.job (expires_at) where expires_at is not null;
create index job_failed on {schema}.job (queue_id, id) where failed_at is not null;

-- The claim frontier of each line: an upper bound of every seq ever claimed in it, so that the reaper knows how far to
-- look. An unused frontier is first retired, so that claims treat it as missing, and deleted an hour later, when every
-- claim that saw it in use has ended.
create table {schema}.claim_frontier (
  queue_id pg_catalog.int4,
  priority pg_catalog.int4,
  seq pg_catalog.int8 not null,
  retired_at pg_catalog.timestamptz,
  primary key (queue_id, priority)
) with (fillfactor = 50);

-- Attempts that did not succeed; the row of the job itself records the successful one.
create table {schema}.attempt (
  job_id pg_catalog.uuid not null,
  attempt pg_catalog.int4 not null,
  lease pg_catalog.int8,
  ended_at pg_catalog.timestamptz not null,
  verdict pg_catalog.int2 not null,
  worker pg_catalog.text,
  reason pg_catalog.text,
  primary key (job_id, attempt)
);

-- Payloads that a job shares with its copies; other jobs have theirs in their own row.
create table {schema}.payload (
  id pg_catalog.int8 generated always as identity primary key,
  refs pg_catalog.int4 not null,
  data pg_catalog.bytea not null
);

-- Inserts one job of an enqueue, unless its key is locked. Returns 0 if it was inserted, 2 if the id or the key exists
-- already, 5 if the key is locked. It is a function because only a function can continue after a lock timeout. It names
-- no schema, so that the schema can be renamed.
create function {schema}.insert_job(
  job regclass, id uuid, queue_id int4, priority int4, seq int8, run_at timestamptz, paused bool, codec int2, payload bytea,
  description text, key text, key_until timestamptz, max_retries int4, backoff_ms int8[], jitter_percent int2,
  expires_at timestamptz, timeout_ms int8, trace text
) returns int2 language plpgsql set search_path = pg_catalog set lock_timeout = '2ms' as $body$
declare
  added int8;
begin
  execute
    'insert into ' || job::pg_catalog.text || ' (id, queue_id, priority, seq, run_at, paused, codec, payload, created_at, description,
                     key, reserved_key, key_until, max_retries, backoff_ms, jitter_percent, expires_at, timeout_ms, trace)
     values ($1, $2, $3, $4, $5, $6, $7, $8, statement_timestamp(), $9, $10, $10, $11, $12, $13, $14, $15, $16, $17)
     on conflict do nothing'
    using id, queue_id, priority, seq, run_at, paused, codec, payload,
          description, key, key_until, max_retries, backoff_ms, jitter_percent, expires_at, timeout_ms, trace;
  get diagnostics added = row_count;
  return case when added = 1 then 0 else 2 end;
exception when lock_not_available then
  return 5;
end $body$;

-- Enqueues that replaced a waiting job: the id with which each was sent, and the job that it replaced, so that the same
-- enqueue has the same outcome when it is sent again.
create table {schema}.replacement (
  id pg_catalog.uuid primary key,
  job_id pg_catalog.uuid not null,
  replaced_at pg_catalog.timestamptz not null
);
create index replacement_job on {schema}.replacement (job_id, replaced_at);

-- Deletes the dependent rows of jobs that any statement deletes. It is a trigger because its statements see rows that
-- were committed while the deletion waited for the job's lock; a subquery of the deletion would not. It takes the
-- schema's name from the table, so that the schema can be renamed.
create function {schema}.delete_with_job() returns pg_catalog.trigger language plpgsql set search_path = pg_catalog, pg_temp as $function$
declare
  home pg_catalog.text := pg_catalog.quote_ident(tg_table_schema::pg_catalog.text);
begin
  execute 'delete from ' || home || '.attempt where job_id in (select id from gone)';
  execute 'delete from ' || home || '.replacement where job_id in (select id from gone)';
  if exists (select from gone where payload_id is not null) then
    execute '
      with share as (
        select payload_id, pg_catalog.count(*) as jobs from gone where payload_id is not null group by payload_id
      ), locked as materialized (
        select payload.id, payload.refs, share.jobs
        from share join ' || home || '.payload on payload.id = share.payload_id
        order by payload.id
        for update of payload
      ), kept as (
        update ' || home || '.payload set refs = locked.refs - locked.jobs from locked where payload.id = locked.id and locked.refs > locked.jobs
      )
      delete from ' || home || '.payload using locked where payload.id = locked.id and locked.refs <= locked.jobs';
  end if;
  return null;
end $function$;
create trigger delete_with_job after delete on {schema}.job
  referencing old table as gone for each statement execute function {schema}.delete_with_job();
