-- Returns how long the oldest ready job of each queue has waited, and how many jobs were enqueued and ended in the last $1 ms; cancelled jobs are not counted as failed.
-- Locks: none.
-- Concurrency: reads one snapshot. Jobs deleted since then are not counted.
-- Index: job (id) backwards for the newest 20,000 jobs; a sample of at most 2,000 pages for the older ones; job_line, one probe per line and then past the jobs in progress; job_wait up to now, at most 10,000 entries.
-- Cost: bounded, about 60 ms at 1 M jobs. The counts are exact among the newest 20,000 jobs, and among the older ones while the table has at most 2,000 pages (16 MB); otherwise they are estimated from the sample.
with recursive size as materialized (
  select least(100.0, 200000.0 / greatest(1::pg_catalog.int8, pg_catalog.pg_relation_size('{schema}.job') / pg_catalog.current_setting('block_size')::pg_catalog.int8)::pg_catalog.numeric) as percent
), since as materialized (
  select pg_catalog.statement_timestamp() - {interval:$1::pg_catalog.int8} as at
), newest as materialized (
  select id, queue_id, state, created_at, ended_at, cancelled_at from {schema}.job order by id desc limit 20000
), oldest_of_newest as materialized (
  select id, created_at from newest order by id limit 1
), newest_counts as materialized (
  select newest.queue_id,
         pg_catalog.count(*) filter (where newest.created_at > since.at) as enqueued,
         pg_catalog.count(*) filter (where newest.state = 2 and newest.ended_at > since.at) as finished,
         pg_catalog.count(*) filter (where newest.state = 3 and newest.cancelled_at is null and newest.ended_at > since.at) as failed
  from newest cross join since
  group by newest.queue_id
), older_counts as materialized (
  select job.queue_id,
         ((pg_catalog.count(*) filter (where job.created_at > since.at) * 100)::pg_catalog.numeric / (select percent from size))::pg_catalog.int8 as enqueued,
         ((pg_catalog.count(*) filter (where job.state = 2 and job.ended_at > since.at) * 100)::pg_catalog.numeric / (select percent from size))::pg_catalog.int8 as finished,
         ((pg_catalog.count(*) filter (where job.state = 3 and job.cancelled_at is null and job.ended_at > since.at) * 100)::pg_catalog.numeric / (select percent from size))::pg_catalog.int8 as failed
  from {schema}.job tablesample pg_catalog.system ((select percent from size)) cross join since
  where (job.created_at > since.at or job.ended_at > since.at) and job.id < (select id from oldest_of_newest)
  group by job.queue_id
), line as (
  select queue.id as queue_id,
         (select job.priority from {schema}.job where job.queue_id = queue.id and job.seq is not null
          order by job.priority desc limit 1) as priority
  from {schema}.queue where queue.name is not null
  union all
  select line.queue_id,
         (select job.priority from {schema}.job where job.queue_id = line.queue_id and job.seq is not null and job.priority < line.priority
          order by job.priority desc limit 1)
  from line where line.priority is not null
), head as materialized (
  select line.queue_id, first.created_at as waits_since
  from line cross join lateral (
    select job.created_at from {schema}.job
    where job.queue_id = line.queue_id and job.priority = line.priority and job.seq is not null and job.state = 0 and {may_start}
    order by job.seq
    limit 1
  ) first
  union all
  select due.queue_id, due.run_at
  from (
    select job.queue_id, job.run_at from {schema}.job
    where {is_waiting:job} and job.run_at <= pg_catalog.statement_timestamp() and {may_start}
    order by job.run_at
    limit 10000
  ) due
), waits as (
  select head.queue_id, pg_catalog.min(head.waits_since) as since from head group by head.queue_id
)
select queue.name,
       {ms:pg_catalog.statement_timestamp() - case when waits.since is not null then greatest(least(waits.since, pg_catalog.statement_timestamp()), '0001-01-01 00:00:00+00'::pg_catalog.timestamptz) end} as waits_ms,
       (coalesce(newest_counts.enqueued, 0) + coalesce(older_counts.enqueued, 0))::pg_catalog.int8 as enqueued,
       (coalesce(newest_counts.finished, 0) + coalesce(older_counts.finished, 0))::pg_catalog.int8 as finished,
       (coalesce(newest_counts.failed, 0) + coalesce(older_counts.failed, 0))::pg_catalog.int8 as failed,
       ((select percent from size) < 100.0 and coalesce((select oldest_of_newest.created_at > since.at from oldest_of_newest cross join since), false)) as enqueued_is_estimate,
       ((select percent from size) < 100.0) as ended_is_estimate
from {schema}.queue
left join newest_counts on newest_counts.queue_id = queue.id
left join older_counts on older_counts.queue_id = queue.id
left join waits on waits.queue_id = queue.id
where queue.name is not null
order by queue.name
