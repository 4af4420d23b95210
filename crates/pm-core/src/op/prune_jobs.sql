-- Deletes the jobs of nameless queues, and ended ones past their queue's retention, in one page of ids; or those of one nameless queue.
-- Locks: the jobs in id order, skipping those that someone has locked; then shared payloads in id order.
-- Concurrency: any number at once; what one skips a later pass finds. A job is judged once more as locked: one restarted or moved meanwhile stays. A trigger deletes what belongs to the jobs.
-- Index: job (id) from the position; attempt (job_id, attempt), payload (id).
-- Cost: about 1 us a row looked at, 20 us a row deleted; a page bounds both.
with page as materialized (
  select job.id, job.queue_id, job.ended_at
  from {schema}.job where job.id > coalesce($1::pg_catalog.uuid, '00000000-0000-0000-0000-000000000000') order by job.id limit $2::pg_catalog.int8
), target as materialized (
  select job.id
  from {schema}.job
  where job.id = any(array(
      select page.id from page join {schema}.queue on queue.id = page.queue_id
      where (queue.name is null and ($3::pg_catalog.int4 is null or queue.id = $3::pg_catalog.int4))
         or ($3::pg_catalog.int4 is null and queue.retain_ms is not null and page.ended_at < pg_catalog.statement_timestamp() - greatest(0::pg_catalog.int8, least(queue.retain_ms, 31536000000000))::pg_catalog.float8 * interval '1 ms')))
    and exists (
      select 1 from {schema}.queue
      where queue.id = job.queue_id
        and ((queue.name is null and ($3::pg_catalog.int4 is null or queue.id = $3::pg_catalog.int4))
          or ($3::pg_catalog.int4 is null and queue.retain_ms is not null and job.ended_at < pg_catalog.statement_timestamp() - greatest(0::pg_catalog.int8, least(queue.retain_ms, 31536000000000))::pg_catalog.float8 * interval '1 ms')))
  order by job.id
  for update of job skip locked
), gone as (
  delete from {schema}.job using target where job.id = any(array[target.id]) returning job.id
)
select (select pg_catalog.count(*) from page) as seen,
       (select id from page order by id desc limit 1) as upto,
       (select pg_catalog.count(*) from gone) as deleted
