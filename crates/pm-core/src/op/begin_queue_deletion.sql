-- Takes a queue's name away: from then on no statement finds the queue by name, and its jobs are pruned. Deletes its schedules.
-- Locks: the queue's row for update, because its key changes, so it waits for enqueues in progress; then its schedules.
-- Concurrency: the jobs of an enqueue that began earlier are pruned with the others; one that begins later finds no queue. A schedule set concurrently is deleted with the queue's row.
-- Index: queue (name); all schedules are read.
-- Cost: constant, and one scan of the schedules.
with deleted_queue as (
  update {schema}.queue set name = null where name = $1::pg_catalog.text returning id
), deleted_schedule as (
  delete from {schema}.schedule where queue_id in (select id from deleted_queue)
)
select id from deleted_queue
