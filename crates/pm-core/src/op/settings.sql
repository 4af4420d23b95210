-- Returns the settings of a queue.
-- Locks: none.
-- Concurrency: reads one snapshot.
-- Index: queue (name).
-- Cost: constant.
select {queue_settings} from {schema}.queue where name = $1::pg_catalog.text
