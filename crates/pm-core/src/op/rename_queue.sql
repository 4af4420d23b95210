-- Renames a queue. Its jobs refer to it by number.
-- Locks: the queue's row for update, because its key changes, so it waits for enqueues in progress, up to the lock timeout.
-- Concurrency: a name that is taken is refused by the unique index.
-- Index: queue (name).
-- Cost: constant.
update {schema}.queue set name = $2::pg_catalog.text where name = $1::pg_catalog.text returning id
