-- Drops nameless queues that have no job left, all or one, with their frontiers and schedules set in the last moment.
-- Locks: the queues' rows, then their schedules.
-- Concurrency: a queue that is still being pruned is left for the next time.
-- Index: queue (id), job by a scan that stops at the first job of each; frontiers and schedules are read through.
-- Cost: nothing without nameless queues; otherwise up to one pass over the jobs.
with gone as (
  delete from {schema}.queue
  where name is null and ($1::pg_catalog.int4 is null or id = $1::pg_catalog.int4) and not exists (select 1 from {schema}.job where job.queue_id = queue.id)
  returning id
), frontier as (
  delete from {schema}.claim_frontier where queue_id in (select id from gone)
), schedules as (
  delete from {schema}.schedule where queue_id in (select id from gone)
)
select pg_catalog.count(*) as dropped, (select pg_catalog.count(*) from {schema}.queue where name is null and ($1::pg_catalog.int4 is null or id = $1::pg_catalog.int4)) - pg_catalog.count(*) as remaining from gone
