-- Follow-up of pause: how many jobs of a queue wait to be worked on.
-- Locks: none.
-- Concurrency: reads one snapshot, younger than the write it follows.
-- Index: job_line (queue), job_wait, job_paused.
-- Cost: grows with the jobs counted (about 0.2 us each in the line, 0.1 us a waiting job of any queue).
select (select pg_catalog.count(*) from {schema}.job where queue_id = $1::pg_catalog.int4 and seq is not null and state = 0)
     + (select pg_catalog.count(*) from {schema}.job where queue_id = $1::pg_catalog.int4 and seq is null and run_at is not null and not paused)
     + (select pg_catalog.count(*) from {schema}.job where queue_id = $1::pg_catalog.int4 and paused) as pending
