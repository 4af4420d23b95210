-- Reads how far the schema has been migrated.
-- Locks: none.
-- Concurrency: reads one snapshot.
-- Index: migration (version).
-- Cost: constant.
select coalesce(max(version), 0)::int4 as version from {schema}.migration
