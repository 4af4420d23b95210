-- Part of other statements: the items of an enqueue with keys, in the order of their parameters.
-- Locks: none.
-- Concurrency: reads only its parameters.
-- Index: none.
-- Cost: about 1 us per item.
item as materialized (
  select *
  from unnest({item_params}, {key_params})
    with ordinality as item({item_columns}, key, key_until, ordinal)
)
