-- Part of other statements: the items of an enqueue without keys in their order, each with its queue and its due time.
-- Locks: key share on the queues, skipping those that another transaction has locked.
-- Concurrency: an item of a locked or missing queue is not placed.
-- Index: queue (name).
-- Cost: about 1 us per item.
known as materialized (
  select id, name, idle_until from {schema}.queue where name = any($2::pg_catalog.text[]) for key share skip locked
), item as (
  select *
  from unnest({item_params})
    with ordinality as item({item_columns}, ordinal)
), placed as (
  select item.*, known.id as queue_id, coalesce(item.paused, false) as is_paused,
         coalesce(item.run_at, pg_catalog.statement_timestamp() + {interval:item.delay_ms}) as due
  from item join known on known.name = item.queue
  order by item.ordinal
  offset 0
)
