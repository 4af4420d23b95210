-- Follow-up of pause_queue: counts the pending jobs of a queue.
-- Locks: none.
-- Concurrency: reads one snapshot, newer than the write it follows.
-- Index: job_line (queue), job_wait, job_paused.
-- Cost: grows with the jobs counted (about 0.2 us per job in a line, 0.1 us per waiting job of any queue).
select (select pg_catalog.count(*) from {schema}.job where queue_id = $1::pg_catalog.int4 and seq is not null and state = 0)
     + (select pg_catalog.count(*) from {schema}.job where queue_id = $1::pg_catalog.int4 and {is_waiting:job})
     + (select pg_catalog.count(*) from {schema}.job where queue_id = $1::pg_catalog.int4 and paused) as pending
