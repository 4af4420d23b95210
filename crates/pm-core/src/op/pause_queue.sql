-- Sets the flag that claims read. No job is changed.
-- Locks: the queue's row for no key update, so enqueues go on.
-- Concurrency: a claim with a newer snapshot takes nothing; one with an older snapshot ends as usual.
-- Index: queue (name).
-- Cost: constant.
update {schema}.queue set paused = true where name = $1::pg_catalog.text returning id
