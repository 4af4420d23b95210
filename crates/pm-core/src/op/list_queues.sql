-- Lists queues with their settings and the number of their jobs by state.
-- Locks: none.
-- Concurrency: reads one snapshot.
-- Index: job_line, job_paused, job_failed, each up to 10,001 entries per queue; job_wait once for all queues, up to 1,000,000 entries; a sample of at most 8,000 pages of the table.
-- Cost: bounded. Counts are exact up to 10,000 per state, and estimated from the sample beyond; those of pending jobs are also estimated if over 1,000,000 jobs of all queues wait (about 0.2 us each); those of finished jobs are exact while the sample is the whole table.
with size as materialized (
  select least(100.0, 800000.0 / greatest(1::pg_catalog.int8, pg_catalog.pg_relation_size('{schema}.job') / pg_catalog.current_setting('block_size')::pg_catalog.int8)::pg_catalog.numeric) as percent
), sample as materialized (
  select queue_id,
         ((pg_catalog.count(*) filter (where state = 0) * 100)::pg_catalog.numeric / (select percent from size))::pg_catalog.int8 as pending,
         ((pg_catalog.count(*) filter (where state = 2) * 100)::pg_catalog.numeric / (select percent from size))::pg_catalog.int8 as finished,
         ((pg_catalog.count(*) filter (where state = 3) * 100)::pg_catalog.numeric / (select percent from size))::pg_catalog.int8 as failed
  from {schema}.job tablesample pg_catalog.system ((select percent from size))
  group by queue_id
), in_progress as materialized (
  select claim_frontier.queue_id, pg_catalog.count(*) as jobs
  from {schema}.claim_frontier cross join lateral (
    select 1 from {schema}.job
    where {is_in_progress}
    offset 0
  ) in_progress
  group by 1
), waiting as materialized (
  select queue_id, pg_catalog.count(*) as jobs
  from (select queue_id from {schema}.job where {is_waiting:job} limit 1000000) entry
  group by queue_id
), waiting_limit as materialized (
  select coalesce(pg_catalog.sum(jobs), 0) >= 1000000.0 as is_reached from waiting
), tally as materialized (
  select queue.*,
         (select pg_catalog.count(*) from (select from {schema}.job where job.queue_id = queue.id and job.seq is not null limit 10001) j) as line,
         coalesce(waiting.jobs, 0) as waiting,
         (select pg_catalog.count(*) from (select from {schema}.job where job.queue_id = queue.id and job.paused limit 10001) j) as paused_jobs,
         (select pg_catalog.count(*) from (select from {schema}.job where job.queue_id = queue.id and job.failed_at is not null limit 10001) j) as failed,
         coalesce(in_progress.jobs, 0) as in_progress,
         coalesce(sample.pending, 0) as sampled_pending,
         coalesce(sample.finished, 0) as finished,
         coalesce(sample.failed, 0) as sampled_failed,
         (select waiting_limit.is_reached from waiting_limit) as limit_is_reached
  from {schema}.queue
  left join in_progress on in_progress.queue_id = queue.id
  left join sample on sample.queue_id = queue.id
  left join waiting on waiting.queue_id = queue.id
  where queue.name is not null and ($1::pg_catalog.text is null or queue.name = $1::pg_catalog.text)
)
select name, paused, {queue_settings},
       case when line > 10000 or waiting > 10000 or limit_is_reached then greatest(sampled_pending - least(paused_jobs, 10000), line + waiting - in_progress)
            else greatest(line - in_progress, 0) + waiting end as pending,
       paused_jobs, in_progress, finished,
       case when failed > 10000 then greatest(sampled_failed, failed) else failed end as failed,
       (line > 10000 or waiting > 10000 or limit_is_reached) as pending_is_estimate,
       ((select percent from size) < 100.0) as finished_is_estimate,
       (failed > 10000 and (select percent from size) < 100.0) as failed_is_estimate
from tally
order by name
