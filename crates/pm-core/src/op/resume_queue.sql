-- Resumes a queue and the jobs that were enqueued as paused. Returns how many jobs that made available.
-- Locks: the queue's row for no key update; then the paused jobs in id order.
-- Concurrency: of two at once each job is resumed by one. The count is of this snapshot: a later one would miss the jobs that workers have claimed since.
-- Index: queue (name), job_paused; for the count job_line and job_wait too.
-- Cost: grows with the jobs paused one by one, and with those counted (about 0.2 us per job).
with named as materialized (
  select id, paused from {schema}.queue where name = $1::pg_catalog.text for no key update
), resumed as (
  update {schema}.queue set paused = false from named where queue.id = named.id and queue.paused
), paused_job as materialized (
  select locked.id, locked.is_due, case when locked.is_due then {next_position} end as seq
  from (
    select job.id, coalesce(job.run_at <= pg_catalog.statement_timestamp(), true) as is_due
    from named join {schema}.job on job.queue_id = named.id
    where job.paused
    order by job.id
    for no key update of job
  ) locked
), unpaused as (
  update {schema}.job
  set paused = false, seq = paused_job.seq, run_at = case when paused_job.is_due then null else job.run_at end
  from paused_job where job.id = any(array[paused_job.id]) and job.paused
  returning job.id
)
select named.id,
       case when named.paused
         then (select pg_catalog.count(*) from {schema}.job where job.queue_id = named.id and job.seq is not null and job.state = 0)
            + (select pg_catalog.count(*) from {schema}.job where job.queue_id = named.id and {is_waiting:job})
         else 0 end
       + (select pg_catalog.count(*) from unpaused) as unpaused
from named
