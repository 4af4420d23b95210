-- Settles leases whose jobs have succeeded without a result: the usual settle, at about five sixths of its cost. Returns the items it settled.
-- Locks: the jobs, in the order given (the core sorts by id).
-- Concurrency: fenced by (id, lease) and state; a late or repeated settlement changes nothing.
-- Index: job (id); the new row version leaves job_line.
-- Cost: independent of the size of the table; about 9 us per job in batches of 500.
update {schema}.job
set state = 2, verdict = 0, lease_expires_at = null, ended_at = pg_catalog.statement_timestamp(), failed_at = null,
    reserved_key = {key_if_ended:true}, seq = null, run_at = null, expires_at = null, unreadable_since = null, reason = null
from unnest($1::pg_catalog.uuid[], $2::pg_catalog.int8[]) with ordinality as item(id, lease, ordinal)
where job.id = any(array[item.id]) and job.lease = item.lease and job.state = 1
returning item.ordinal
