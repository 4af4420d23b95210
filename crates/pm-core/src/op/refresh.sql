-- Extends leases to a full length from now, never shortening one; answers what remains of each that still holds.
-- Locks: the jobs, in the order given (the core sorts by id).
-- Concurrency: fenced by (id, lease); a lease that was reaped, settled or broken is not in the answer.
-- Index: job (id). A HOT update.
-- Cost: flat as the table grows; about 6 us a lease in batches of 500.
update {schema}.job
set lease_expires_at = greatest(job.lease_expires_at, statement_timestamp() + queue.lease_ms * interval '1 ms')
from unnest($1::uuid[], $2::int8[]) with ordinality as item(id, lease, ordinal), {schema}.queue
where job.id = item.id and job.lease = item.lease and job.state = 1 and queue.id = job.queue_id
returning item.ordinal, (extract(epoch from job.lease_expires_at - statement_timestamp()) * 1000)::int8 as remaining_ms
