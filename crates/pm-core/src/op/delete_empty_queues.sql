-- Deletes the rows of queues that have no name (they are being deleted) and no jobs, all or one, with their frontiers, and with schedules that were set while the deletion began.
-- Locks: the queues' rows, then their schedules.
-- Concurrency: a queue that still has jobs is left for a later run.
-- Index: queue (id), job by a scan that stops at the first job of each queue; all frontiers and schedules are read.
-- Cost: nothing without queues being deleted; otherwise up to one scan of the jobs.
with deleted as (
  delete from {schema}.queue
  where name is null and ($1::pg_catalog.int4 is null or id = $1::pg_catalog.int4) and not exists (select 1 from {schema}.job where job.queue_id = queue.id)
  returning id
), deleted_frontier as (
  delete from {schema}.claim_frontier where queue_id in (select id from deleted)
), deleted_schedule as (
  delete from {schema}.schedule where queue_id in (select id from deleted)
)
select pg_catalog.count(*) as queues, (select pg_catalog.count(*) from {schema}.queue where name is null and ($1::pg_catalog.int4 is null or id = $1::pg_catalog.int4)) - pg_catalog.count(*) as remaining from deleted
