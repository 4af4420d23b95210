-- Part of other statements: why an item was not inserted; see the outcomes of enqueue.
-- Locks: none.
-- Concurrency: a queue that was deleted or renamed since the snapshot counts as locked, and the item is sent again.
-- Index: queue (name).
-- Cost: one probe per item whose queue is not in `known`.
case when item.queue in (select name from known) then 2::pg_catalog.int2
     when exists (select from {schema}.queue where queue.name = item.queue) then 4::pg_catalog.int2
     else 1::pg_catalog.int2 end
