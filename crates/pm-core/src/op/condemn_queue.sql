-- Takes a queue's name away: from then on nothing finds it, and its jobs are swept.
-- Locks: the queue's row with its key, so it waits for enqueues that are under way.
-- Concurrency: an enqueue that began before is swept with the rest; one that begins later finds no queue.
-- Index: queue (name).
-- Cost: constant.
update {schema}.queue set name = null where name = $1::text returning id
