-- Counts the rows whose job no longer exists, among the newest 10,000 attempts and the newest 10,000 replacements.
-- Locks: none.
-- Concurrency: reads one snapshot. What belongs to a job is deleted with it, so a deletion in progress is not counted.
-- Index: attempt (job_id, attempt), replacement (job_id, replaced_at), job (id).
-- Cost: at most 20,000 index probes, about 20 ms.
select 'attempt' as name, pg_catalog.count(*) as orphans
from (select job_id from {schema}.attempt order by job_id desc limit 10000) newest
where not exists (select from {schema}.job where job.id = newest.job_id)
union all
select 'replacement', pg_catalog.count(*)
from (select job_id from {schema}.replacement order by job_id desc limit 10000) newest
where not exists (select from {schema}.job where job.id = newest.job_id)
