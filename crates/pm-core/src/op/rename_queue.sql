-- Gives a queue another name; its jobs know it by number.
-- Locks: the queue's row with its key, so it waits for enqueues that are under way, up to the lock timeout.
-- Concurrency: a name that is taken is refused by the unique index.
-- Index: queue (name).
-- Cost: constant.
update {schema}.queue set name = $2::pg_catalog.text where name = $1::pg_catalog.text returning id
