-- Part of other statements: the lines that have jobs, each with its highest position; after `with recursive`.
-- Locks: none.
-- Concurrency: reads one snapshot.
-- Index: job_line, one probe per line.
-- Cost: about 5 us per line.
line as (
  (select job.queue_id, job.priority, job.seq from {schema}.job
   where job.seq is not null
   order by job.queue_id desc, job.priority desc, job.seq desc limit 1)
  union all
  select before.queue_id, before.priority, before.seq
  from line cross join lateral (
    select job.queue_id, job.priority, job.seq from {schema}.job
    where job.seq is not null and (job.queue_id, job.priority) < (line.queue_id, line.priority)
    order by job.queue_id desc, job.priority desc, job.seq desc limit 1
  ) before
)
