-- Part of other statements: the items of an enqueue that have a queue in `known` and are not in `replaced`, with positions drawn in the order in which the items were given.
-- Locks: none.
-- Concurrency: a position that is drawn and not used leaves a gap, which is harmless.
-- Index: none.
-- Cost: about 2 us per job.
{items}, placed as (
  select item.*, known.id as queue_id, coalesce(item.paused, false) as is_paused,
         coalesce(item.run_at, pg_catalog.statement_timestamp() + {interval:item.delay_ms}) as due
  from item join known on known.name = item.queue
  where item.id not in (select id from replaced)
  order by item.ordinal
  offset 0
), new_job as materialized (
  select placed.*,
         case when is_paused or due > pg_catalog.statement_timestamp() then null else {next_position} end as seq,
         case when is_paused or due > pg_catalog.statement_timestamp() then due end as starts_at
  from placed
)
