-- Inserts a queue, unless one of this name exists.
-- Locks: the new row.
-- Concurrency: of two at once one inserts, decided by the unique index; the other returns no row.
-- Index: queue (name).
-- Cost: constant.
insert into {schema}.queue (name, paused) values ($1::pg_catalog.text, $2::pg_catalog.bool) on conflict (name) do nothing returning id
