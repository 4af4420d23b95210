-- Returns the settings of a queue.
-- Locks: none.
-- Concurrency: reads one snapshot.
-- Index: queue (name).
-- Cost: constant.
select lease_ms, max_retries, backoff_ms, jitter_percent, retain_ms from {schema}.queue where name = $1::pg_catalog.text
