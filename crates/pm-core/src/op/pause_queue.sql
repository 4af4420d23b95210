-- Sets the flag that claims read; no job is touched.
-- Locks: the queue's row, without its key, so that enqueues go on.
-- Concurrency: a claim whose snapshot is younger takes nothing; one that is older ends as usual.
-- Index: queue (name).
-- Cost: constant.
update {schema}.queue set paused = true where name = $1::pg_catalog.text returning id
