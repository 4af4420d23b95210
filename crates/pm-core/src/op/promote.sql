-- Gives waiting jobs whose time has come a place in their line; tells when the next is due.
-- Locks: the due jobs, skipping locked ones.
-- Concurrency: two promoters share the work. A job skipped because it was locked is met again when the bound is reset.
-- Index: job_wait from the bound; then job (id).
-- Cost: about 9 us a job; flat in the number waiting. The bound steps over dead entries of jobs promoted before.
with due as materialized (
  select job.id, job.run_at from {schema}.job
  where job.seq is null and job.run_at is not null and not job.paused
    and job.run_at >= coalesce($2::pg_catalog.timestamptz, '-infinity') and job.run_at <= pg_catalog.statement_timestamp()
  order by job.run_at
  limit $1::pg_catalog.int8
  for no key update skip locked
), position as materialized (
  select id, pg_catalog.nextval('{schema}.job_seq') as seq from due
), moved as (
  update {schema}.job set seq = position.seq, run_at = null from position where job.id = any(array[position.id]) returning job.id
)
select (select pg_catalog.count(*) from moved) as promoted,
       (select pg_catalog.max(run_at) from due) as upto,
       (select (extract(epoch from pg_catalog.min(job.run_at) - pg_catalog.statement_timestamp()) * 1000.0)::pg_catalog.int8 from {schema}.job
        where job.seq is null and job.run_at is not null and not job.paused and job.run_at > pg_catalog.statement_timestamp() and job.run_at < 'infinity') as next_ms
