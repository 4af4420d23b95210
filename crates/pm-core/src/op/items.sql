-- Part of other statements: the items of an enqueue with keys, in the order of their parameters.
-- Locks: none.
-- Concurrency: reads only its parameters.
-- Index: none.
-- Cost: about 1 us per item.
item as materialized (
  select *
  from unnest($1::pg_catalog.uuid[], $2::pg_catalog.text[], $3::pg_catalog.int4[], $4::pg_catalog.bool[], $5::pg_catalog.timestamptz[], $6::pg_catalog.int8[], $7::pg_catalog.int2[], $8::pg_catalog.bytea[],
              $9::pg_catalog.text[], $10::pg_catalog.text[], $11::pg_catalog.timestamptz[], $12::pg_catalog.int4[], $13::pg_catalog.text[], $14::pg_catalog.int2[])
    with ordinality as item(id, queue, priority, paused, run_at, delay_ms, codec, payload,
                            description, key, key_until, max_retries, backoff_ms, jitter_percent, ordinal)
)
