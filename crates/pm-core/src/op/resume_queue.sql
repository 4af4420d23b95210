-- Clears the queue's flag and sets free the jobs that were enqueued as paused.
-- Locks: the queue's row, without its key; then the held jobs.
-- Concurrency: two at once free each job once.
-- Index: queue (name), job_held.
-- Cost: grows with the jobs held one by one, not with the backlog.
with named as materialized (
  select id, paused from {schema}.queue where name = $1::text for no key update
), cleared as (
  update {schema}.queue set paused = false from named where queue.id = named.id and queue.paused
), freed as (
  update {schema}.job
  set held = false,
      seq = case when job.run_at > statement_timestamp() then null else nextval('{schema}.job_seq') end,
      run_at = case when job.run_at > statement_timestamp() then job.run_at end
  from named where job.queue_id = named.id and job.held
  returning job.id
)
select named.id, named.paused as was_paused, (select count(*) from freed) as freed from named
