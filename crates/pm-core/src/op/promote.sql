-- Gives waiting jobs that are due a position in their line. Returns when the next one is due.
-- Locks: the due jobs, skipping locked ones.
-- Concurrency: two promotions share the work. A job that is skipped because it is locked is found when the bound is reset.
-- Index: job_wait from the bound; then job (id).
-- Cost: about 9 us per job; independent of the number of waiting jobs. The bound skips the dead index entries of jobs promoted before.
with due as materialized (
  select job.id, job.run_at from {schema}.job
  where {is_waiting:job}
    and job.run_at >= coalesce($2::pg_catalog.timestamptz, '-infinity') and job.run_at <= pg_catalog.statement_timestamp()
  order by job.run_at
  limit $1::pg_catalog.int8
  for no key update skip locked
), position as materialized (
  select id, {next_position} as seq from due
), promoted as (
  update {schema}.job set seq = position.seq, run_at = null from position where job.id = any(array[position.id]) returning job.id
)
select (select pg_catalog.count(*) from promoted) as promoted,
       (select pg_catalog.max(run_at) from due) as upto,
       (select {ms:pg_catalog.min(job.run_at) - pg_catalog.statement_timestamp()} from {schema}.job
        where {is_waiting:job} and job.run_at > pg_catalog.statement_timestamp() and job.run_at < 'infinity') as next_ms
