-- Inserts jobs without keys. Returns only the items that were not inserted, and the queues that may have idle workers.
-- Locks: key share on the queues, skipping those that another transaction has locked; then the new rows. No claim or pause waits for these locks.
-- Concurrency: it waits for no lock on a queue. While a queue is being renamed or deleted, the outcome is "locked", and "no such queue" once that has been committed. A resent id inserts nothing, decided by the unique index.
-- Index: queue (name); job (id), job_line or job_wait.
-- Cost: independent of the size of the table; about 7 us per job in batches of 1,000.
-- Outcome: 1 no such queue, 2 the id exists already, 3 this item's queue may have idle workers, 4 the queue's row is locked.
with {placed}, added as (
  {insert_placed}
  on conflict do nothing
  returning id
)
select item.ordinal, {not_added} as outcome, null::pg_catalog.int4 as queue_id
from item
where item.id not in (select id from added)
union all
{idle_queues}
