-- Lists the migrations of the schema, with the fingerprints of their texts.
-- Locks: none.
-- Concurrency: reads one snapshot.
-- Index: none; it reads the whole table.
-- Cost: one row per migration.
-- By way of JSON, so that it can also read a table that was created before there were fingerprints and lacks the column.
with {search_path}
select version, pg_catalog.jsonb_extract_path_text(pg_catalog.to_jsonb(migration), 'fingerprint') as fingerprint
from {schema}.migration
order by version
limit (select most from search_path)
