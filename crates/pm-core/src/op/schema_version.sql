-- Reads how far the schema has been migrated, and by which texts.
-- Locks: none.
-- Concurrency: reads one snapshot.
-- Index: none; it reads the whole table.
-- Cost: one row a migration.
-- Through JSON, so that a table without the column is read too: it was made before there were fingerprints.
with {search_path}
select version, pg_catalog.jsonb_extract_path_text(pg_catalog.to_jsonb(migration), 'fingerprint') as fingerprint
from {schema}.migration
order by version
limit (select most from search_path)
