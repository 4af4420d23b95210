-- Lists the attempts of a job that ended otherwise than in success, oldest first.
-- Locks: none.
-- Concurrency: reads one snapshot.
-- Index: attempt (job_id, attempt).
-- Cost: one row an attempt.
select attempt, ended_at, verdict, worker, reason
from {schema}.attempt
where job_id = $1::pg_catalog.uuid
order by attempt
