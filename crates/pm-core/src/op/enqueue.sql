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
  from unnest($1::pg_catalog.uuid[], $2::pg_catalog.text[], $3::pg_catalog.int4[], $4::pg_catalog.bool[], $5::pg_catalog.timestamptz[], $6::pg_catalog.int8[], $7::pg_catalog.int2[], $8::pg_catalog.bytea[],
              $9::pg_catalog.text[], $10::pg_catalog.int4[], $11::pg_catalog.text[], $12::pg_catalog.int2[])
    with ordinality as item(id, queue, priority, paused, run_at, delay_ms, codec, payload,
                            description, max_retries, backoff_ms, jitter_percent, ordinal)
), placed as (
  select item.*, known.id as queue_id, coalesce(item.paused, false) as is_paused,
         coalesce(item.run_at, pg_catalog.statement_timestamp() + {interval:item.delay_ms}) as due
  from item join known on known.name = item.queue
  order by item.ordinal
  offset 0
), added as (
  insert into {schema}.job (id, queue_id, priority, seq, run_at, paused, codec, payload, created_at, description,
                            max_retries, backoff_ms, jitter_percent)
  select id, queue_id, priority,
         case when is_paused or due > pg_catalog.statement_timestamp() then null else {next_position} end,
         case when is_paused or due > pg_catalog.statement_timestamp() then due end,
         is_paused, codec, payload, pg_catalog.statement_timestamp(), description,
         max_retries, backoff_ms::pg_catalog.int8[], jitter_percent
  from placed
  on conflict do nothing
  returning id
)
select item.ordinal, {not_added} as outcome, null::pg_catalog.int4 as queue_id
from item
where item.id not in (select id from added)
union all
{idle_queues}
