-- Lists the next jobs of a queue in the order in which they would be claimed. A job that is due and has no position yet comes after the others of its priority.
-- Locks: none.
-- Concurrency: reads one snapshot; a moment later other workers may have claimed the jobs.
-- Index: queue (name); job_line, one probe per line and then past the jobs in progress; job_wait up to now; job (id).
-- Cost: independent of the backlog; grows with the jobs in progress or expired before the ready ones of each line, and with the jobs of all queues that are due and not promoted (about 1 us each).
-- Reply: one row per job; one without a job if none is ready. No row: no such queue.
with recursive named as materialized (
  select id, paused from {schema}.queue where name = $1::pg_catalog.text
), line as (
  select named.id as queue_id,
         (select job.priority from {schema}.job where job.queue_id = named.id and job.seq is not null
          order by job.priority desc limit 1) as priority
  from named
  union all
  select line.queue_id,
         (select job.priority from {schema}.job where job.queue_id = line.queue_id and job.seq is not null and job.priority < line.priority
          order by job.priority desc limit 1)
  from line where line.priority is not null
), ready as (
  select first.id, first.priority, first.seq, null::pg_catalog.timestamptz as run_at
  from line cross join lateral (
    select job.id, job.priority, job.seq from {schema}.job
    where job.queue_id = line.queue_id and job.priority = line.priority and job.seq is not null and job.state = 0 and {may_start}
    order by job.seq
    limit $2::pg_catalog.int8
  ) first
), due as (
  select job.id, job.priority, null::pg_catalog.int8 as seq, job.run_at
  from {schema}.job join named on named.id = job.queue_id
  where {is_waiting:job} and job.run_at <= pg_catalog.statement_timestamp() and {may_start}
), next as materialized (
  select * from ready union all select * from due
  order by priority desc, seq, run_at
  limit $2::pg_catalog.int8
)
select named.paused as is_paused, shown.*
from named
left join next on true
left join lateral (
  select {job_columns}
  from {schema}.job join {schema}.queue on queue.id = job.queue_id
  where job.id = any(array[next.id])
) shown on true
order by next.priority desc, next.seq, next.run_at
