-- Inserts jobs, some of which have keys. Returns what enqueue returns.
-- Locks: key share on the queues, then the new rows in the order of queue and key, so that two batches do not deadlock. No claim or pause waits for these locks.
-- Concurrency: it skips locked queues and waits at most 50 ms for a key that an open transaction inserts, ends or deletes; then it fails with 55P03, and enqueue_each takes over. In the caller's transaction (the last parameter is false) it waits for both, for as long as the settings of the session allow. A resent id or a reserved key inserts nothing, decided by unique indexes; nor does an item that replaced a job when it was sent before (the parameter before it lists those that may have done so).
-- Index: queue (name); job (id), job_line or job_wait, job_key; replacement (id).
-- Cost: independent of the size of the table; about 8 us per job in batches of 1,000.
-- Outcome: 1 no such queue, 2 the id exists or the key is reserved, or the item has replaced a job, 3 this item's queue may have idle workers, 4 the queue's row is locked.
with free as materialized (
  select id, name, idle_until from {schema}.queue
  where name = any($2::pg_catalog.text[])
    and case when {second_after_items}::pg_catalog.bool then (select pg_catalog.set_config('lock_timeout', '50ms', true)) is not null else false end
  for key share skip locked
), awaited as materialized (
  select id, name, idle_until from {schema}.queue where name = any($2::pg_catalog.text[]) and not {second_after_items}::pg_catalog.bool for key share
), known as (
  select * from free union all select * from awaited
), replaced as materialized (
  select id from {schema}.replacement where id = any({first_after_items}::pg_catalog.uuid[])
), {new_jobs}, added as (
  insert into {schema}.job (id, queue_id, seq, run_at, paused, created_at, key, reserved_key, key_until, {stored_columns})
  select id, queue_id, seq, starts_at, is_paused, pg_catalog.statement_timestamp(), key, key, key_until, {stored_values:}
  from new_job
  order by queue_id, key collate "C", ordinal
  on conflict do nothing
  returning id
)
select item.ordinal, {not_added} as outcome, null::pg_catalog.int4 as queue_id
from item
where item.id not in (select id from added)
union all
{idle_queues}
