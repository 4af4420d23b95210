-- Leases the next jobs of some lines (a line is one priority of one queue), in the order in which the lines are given. The lease of a job with a timeout ends 30 s after it at the latest.
-- Locks: the picked jobs, skipping locked ones; then the frontiers that it raises (about one claim per 1,000 jobs), in key order.
-- Concurrency: two claims never pick the same job; a queue paused before this statement's snapshot yields no jobs; a job that changes between pick and update is left for the next claim.
-- Index: job_line from the cursor of each line, without a sort; then the rows by ctid; job_wait for the next due time.
-- Cost: independent of the backlog; grows with the jobs in progress between the cursor and the first ready job.
-- Bound: it stops at the job whose payload completes 16 MiB; the jobs after it are only locked, until this statement ends.
-- Reply: one row per queue (id null) with its settings and the time of the claim, then one row per job with its own overrides. In the row of a job, lease_ms is for how long its payload has been unreadable.
with line as materialized (
  select line.queue_id, line.priority, line.cursor
  from unnest($1::pg_catalog.int4[], $2::pg_catalog.int4[], $3::pg_catalog.int8[]) with ordinality as line(queue_id, priority, cursor, ordinal)
  join {schema}.queue on queue.id = line.queue_id
  where not queue.paused and queue.name is not null
  order by line.ordinal
), pick as materialized (
  select pick.*, pg_catalog.sum(pick.bytes) over (rows unbounded preceding) as bytes_so_far
  from line cross join lateral (
    select job.ctid as tid, job.queue_id, job.priority, job.seq,
           coalesce(pg_catalog.octet_length(job.payload), (select pg_catalog.octet_length(data) from {schema}.payload where payload.id = job.payload_id), 0) as bytes
    from {schema}.job
    where job.queue_id = line.queue_id and job.priority = line.priority and job.seq > line.cursor and job.state = 0 and {may_start}
    order by job.seq
    limit $4::pg_catalog.int8
    for no key update skip locked
  ) pick
  limit $4::pg_catalog.int8
), raised as (
  insert into {schema}.claim_frontier as frontier (queue_id, priority, seq)
  select head.queue_id, head.priority, least(head.seq, 9223372036854774807) + 1000
  from (select queue_id, priority, pg_catalog.max(seq) as seq from pick group by 1, 2) head
  left join {schema}.claim_frontier f on {is_frontier_of:head.queue_id, head.priority}
  where f.seq is null or head.seq > f.seq
  order by 1, 2
  on conflict (queue_id, priority) do update set seq = greatest(frontier.seq, excluded.seq), retired_at = null
), claimed as (
  update {schema}.job
  set state = 1, attempt = least(job.attempt, 2147483646) + 1, lease = $5::pg_catalog.int8, worker = $6::pg_catalog.text,
      lease_expires_at = {first_lease_end}
  from {schema}.queue
  where queue.id = job.queue_id and job.ctid = any(array(select tid from pick where bytes_so_far - bytes < 16777216))
  returning {leased_job}
)
select null::pg_catalog.uuid as id, queue.id as queue_id, queue.paused, queue.lease_ms, queue.max_retries, queue.backoff_ms, queue.jitter_percent,
       (select {ms_until:pg_catalog.min(job.run_at)} from {schema}.job
        where {is_waiting:job} and job.run_at >= coalesce($7::pg_catalog.timestamptz, '-infinity') and job.run_at < 'infinity'
        having pg_catalog.min(job.run_at) is not null) as due_ms,
       pg_catalog.statement_timestamp() as claimed_at,
       {no_leased_job}
from {schema}.queue
where queue.id = any($1::pg_catalog.int4[]) and queue.name is not null
union all
select id, queue_id, null, unreadable_ms, max_retries, backoff_ms, jitter_percent, null, null, {leased_columns}
from claimed
