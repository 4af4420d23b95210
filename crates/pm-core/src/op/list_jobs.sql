-- Lists jobs, newest first, without their payloads.
-- Locks: none.
-- Concurrency: reads one snapshot.
-- Index: failed jobs by job_failed, one probe per queue; those in progress by job_line up to the claim frontier of each line; others by job (id), backwards from the given id, filtered by queue and state.
-- Cost: for failed jobs the limit, once per queue; for those in progress their number (about 0.3 us each); otherwise the rows read until the limit is met: up to the whole table if few jobs match.
with page as materialized (
  select failed.id
  from {schema}.queue cross join lateral (
    select job.id from {schema}.job
    where job.queue_id = queue.id and job.failed_at is not null and job.id < coalesce($3::pg_catalog.uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
    order by job.id desc
    limit $4::pg_catalog.int8
  ) failed
  where $2::pg_catalog.int2 = 3 and queue.name is not null and ($1::pg_catalog.text is null or queue.name = $1::pg_catalog.text)
  union all
  select found.id from (
    select in_progress.id
    from {schema}.queue
    join {schema}.claim_frontier on claim_frontier.queue_id = queue.id
    cross join lateral (
      select job.id from {schema}.job
      where {is_in_progress}
      offset 0
    ) in_progress
    where $2::pg_catalog.int2 = 1 and queue.name is not null and ($1::pg_catalog.text is null or queue.name = $1::pg_catalog.text)
      and in_progress.id < coalesce($3::pg_catalog.uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
    order by in_progress.id desc
    limit $4::pg_catalog.int8
  ) found
  union all
  select other.id from (
    select job.id
    from {schema}.job join {schema}.queue on queue.id = job.queue_id
    where ($2::pg_catalog.int2 is null or $2::pg_catalog.int2 not in (1, 3)) and queue.name is not null
      and ($1::pg_catalog.text is null or queue.name = $1::pg_catalog.text)
      and ($2::pg_catalog.int2 is null or {shown_state:job} = $2::pg_catalog.int2)
      and job.id < coalesce($3::pg_catalog.uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
    order by job.id desc
    limit $4::pg_catalog.int8
  ) other
)
select {job_columns}
from {schema}.job join {schema}.queue on queue.id = job.queue_id
where job.id = any(array(select id from page))
order by job.id desc
limit $4::pg_catalog.int8
