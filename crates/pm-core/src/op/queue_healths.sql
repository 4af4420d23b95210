-- Returns for each queue how many jobs are in progress, and how many leases expired more than $1 ms ago and were not reaped.
-- Locks: none.
-- Concurrency: reads one snapshot.
-- Index: job_line up to the claim frontier of each line.
-- Cost: grows with the jobs in progress (about 0.3 us each), not with the backlog.
-- Reply: one row per queue; the name is null if the queue is being deleted.
select queue.name, queue.paused, pg_catalog.count(in_progress.lease_expires_at) as in_progress,
       pg_catalog.count(*) filter (where in_progress.lease_expires_at < pg_catalog.statement_timestamp() - {interval:$1::pg_catalog.int8}) as stale,
       {ms:pg_catalog.statement_timestamp() - pg_catalog.min(greatest(in_progress.lease_expires_at, '0001-01-01 00:00:00+00'::pg_catalog.timestamptz)) filter (where in_progress.lease_expires_at < 'infinity')} as overdue_ms
from {schema}.queue
left join {schema}.claim_frontier on claim_frontier.queue_id = queue.id
left join lateral (
  select job.lease_expires_at from {schema}.job
  where {is_in_progress}
  offset 0
) in_progress on true
group by queue.id, queue.name, queue.paused
order by queue.name, queue.id
