-- Inserts jobs without keys. Returns only the items that were not inserted, and the queues that may have idle workers.
-- Locks: key share on the queues, skipping those that another transaction has locked; then the new rows. No claim or pause waits for these locks.
-- Concurrency: it waits for no lock on a queue. While a queue is being renamed or deleted, the outcome is "locked", and "no such queue" once that has been committed. A resent id inserts nothing, decided by the unique index.
-- Index: queue (name); job (id), job_line or job_wait.
-- Cost: independent of the size of the table; about 7 us per job in batches of 1,000.
-- Outcome: 1 no such queue, 2 the id exists already, 3 this item's queue may have idle workers, 4 the queue's row is locked.
with known as materialized (
  select id, name, idle_until from {schema}.queue where name = any($2::pg_catalog.text[]) for key share skip locked
), item as materialized (
  select *
  from unnest({item_params})
    with ordinality as item({item_columns}, ordinal)
), placed as (
  select item.*, known.id as queue_id, coalesce(item.paused, false) as is_paused,
         coalesce(item.run_at, pg_catalog.statement_timestamp() + {interval:item.delay_ms}) as due
  from item join known on known.name = item.queue
  order by item.ordinal
  offset 0
), added as (
  insert into {schema}.job (id, queue_id, seq, run_at, paused, created_at, {stored_columns})
  select id, queue_id,
         case when is_paused or due > pg_catalog.statement_timestamp() then null else {next_position} end,
         case when is_paused or due > pg_catalog.statement_timestamp() then due end,
         is_paused, pg_catalog.statement_timestamp(), {stored_values:}
  from placed
  on conflict do nothing
  returning id
)
select item.ordinal, {not_added} as outcome, null::pg_catalog.int4 as queue_id
from item
where item.id not in (select id from added)
union all
{idle_queues}
