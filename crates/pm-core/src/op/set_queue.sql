-- Changes settings of a queue. Those that are null stay as they are.
-- Locks: the queue's row for no key update, so enqueues go on.
-- Concurrency: the last writer of a setting wins; claims read settings in their own snapshot.
-- Index: queue (name).
-- Cost: constant.
update {schema}.queue
set lease_ms = coalesce($2::pg_catalog.int8, lease_ms),
    max_retries = coalesce($3::pg_catalog.int4, max_retries),
    backoff_ms = coalesce($4::pg_catalog.int8[], backoff_ms),
    jitter_percent = coalesce($5::pg_catalog.int2, jitter_percent),
    retain_ms = case when $6::pg_catalog.int8 < 0 then null else coalesce($6::pg_catalog.int8, retain_ms) end,
    timeout_ms = case when $7::pg_catalog.int8 < 0 then null else coalesce($7::pg_catalog.int8, timeout_ms) end
where name = $1::pg_catalog.text
returning {queue_settings}
