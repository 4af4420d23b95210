-- Follow-up of settle: for settlements that changed nothing, whether they had been applied before.
-- Locks: none.
-- Concurrency: its snapshot is newer than the settle's, so it sees the change that made the settle miss.
-- Index: job (id), attempt (job_id, attempt).
-- Cost: two index probes per item.
select item.ordinal,
       exists (select 1 from {schema}.job where job.id = any(array[item.id]) and job.lease = item.lease and job.state <> 1 and (job.verdict = item.verdict or (job.verdict = 10 and item.verdict <> 0)) offset 0)
       or exists (select 1 from {schema}.attempt where attempt.job_id = item.id and attempt.lease = item.lease and (attempt.verdict = item.verdict or (attempt.verdict = 10 and item.verdict <> 0)) offset 0) as was_applied
from unnest($1::pg_catalog.uuid[], $2::pg_catalog.int8[], $3::pg_catalog.int2[]) with ordinality as item(id, lease, verdict, ordinal)
