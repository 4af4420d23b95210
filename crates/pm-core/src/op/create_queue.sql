-- Makes a queue unless one of that name exists.
-- Locks: the new row.
-- Concurrency: of two at once one creates, decided by the unique index; the other answers no row.
-- Index: queue (name).
-- Cost: constant.
insert into {schema}.queue (name, paused) values ($1::pg_catalog.text, $2::pg_catalog.bool) on conflict (name) do nothing returning id
