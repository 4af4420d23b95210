-- Returns the encoding in which the database stores texts.
-- Locks: none.
-- Concurrency: the encoding never changes.
-- Index: none.
-- Cost: constant.
select pg_catalog.getdatabaseencoding()::pg_catalog.text as encoding
