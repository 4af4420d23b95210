-- Lists the recorded attempts of a job, oldest first. A release is not recorded, and a commit only if the job was restarted later.
-- Locks: none.
-- Concurrency: reads one snapshot.
-- Index: attempt (job_id, attempt).
-- Cost: one row per attempt.
select attempt, ended_at, verdict, worker, reason
from {schema}.attempt
where job_id = $1::pg_catalog.uuid
order by attempt
