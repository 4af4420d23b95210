-- Deletes, in one page of ids, the jobs of queues without a name (they are being deleted) and ended jobs past their queue's retention; or only those of one queue without a name.
-- Locks: the jobs in id order, skipping those that another transaction has locked; then shared payloads in id order.
-- Concurrency: any number at once; jobs that one skips are found by a later run. A job is checked again on its locked row: one that was restarted or moved in the meantime stays. A trigger deletes what belongs to the jobs.
-- Index: job (id) from the given id; attempt (job_id, attempt), payload (id).
-- Cost: about 1 us per row read, 20 us per row deleted; the size of the page bounds both.
with page as materialized (
  select job.id, job.queue_id, job.ended_at
  from {schema}.job where job.id > coalesce($1::pg_catalog.uuid, '00000000-0000-0000-0000-000000000000') order by job.id limit $2::pg_catalog.int8
), target as materialized (
  select job.id
  from {schema}.job
  where job.id = any(array(
      select page.id from page join {schema}.queue on queue.id = page.queue_id
      where (queue.name is null and ($3::pg_catalog.int4 is null or queue.id = $3::pg_catalog.int4))
         or ($3::pg_catalog.int4 is null and queue.retain_ms is not null and page.ended_at < pg_catalog.statement_timestamp() - {setting:queue.retain_ms})))
    and exists (
      select 1 from {schema}.queue
      where queue.id = job.queue_id
        and ((queue.name is null and ($3::pg_catalog.int4 is null or queue.id = $3::pg_catalog.int4))
          or ($3::pg_catalog.int4 is null and queue.retain_ms is not null and job.ended_at < pg_catalog.statement_timestamp() - {setting:queue.retain_ms})))
  order by job.id
  for update of job skip locked
), deleted as (
  delete from {schema}.job using target where job.id = any(array[target.id]) returning job.id
)
select (select pg_catalog.count(*) from page) as seen,
       (select id from page order by id desc limit 1) as upto,
       (select pg_catalog.count(*) from deleted) as deleted
