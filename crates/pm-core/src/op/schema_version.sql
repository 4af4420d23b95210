-- Reads how far the schema has been migrated.
-- Locks: none.
-- Concurrency: reads one snapshot.
-- Index: migration (version).
-- Cost: constant.
select coalesce(pg_catalog.max(version), 0)::pg_catalog.int4 as version from {schema}.migration
