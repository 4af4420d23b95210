-- Takes a queue's name away: from then on nothing finds it, and its jobs are pruned. Its schedules go at once.
-- Locks: the queue's row with its key, so it waits for enqueues that are under way; then its schedules.
-- Concurrency: an enqueue that began before is pruned with the rest; one that begins later finds no queue. A schedule set beside it goes with the queue's row.
-- Index: queue (name); schedules are read through.
-- Cost: constant, and one pass over the schedules.
with gone as (
  update {schema}.queue set name = null where name = $1::pg_catalog.text returning id
), rest as (
  delete from {schema}.schedule where queue_id in (select id from gone)
)
select id from gone
