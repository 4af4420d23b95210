-- Lists the jobs whose id ends in the given hex digits, at most 11 (10 to show, and one to indicate that there are more).
-- Locks: none.
-- Concurrency: reads one snapshot.
-- Index: job (id), backwards.
-- Cost: the rows read: the newest $2, or all if null (about 0.5 us each).
select {job_columns}
from (select * from {schema}.job order by job.id desc limit $2::pg_catalog.int8) job
join {schema}.queue on queue.id = job.queue_id
where queue.name is not null and pg_catalog.right(pg_catalog.replace(job.id::pg_catalog.text, '-', ''), pg_catalog.length($1::pg_catalog.text)) = $1::pg_catalog.text
order by job.id desc
limit 11
