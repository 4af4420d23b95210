-- Reads which encoding the database stores texts in.
-- Locks: none.
-- Concurrency: it never changes.
-- Index: none.
-- Cost: constant.
select pg_catalog.getdatabaseencoding()::pg_catalog.text as encoding
