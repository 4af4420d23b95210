-- Notifies workers of other processes.
-- Locks: that of the server's notification queue, until the commit is complete. On its own connections, pm therefore sends this after the jobs have been committed, not with them.
-- Concurrency: Postgres drops duplicates within one statement; late and repeated notifications are harmless.
-- Index: none.
-- Cost: constant; about 0.1 ms, and 10 us per listening backend.
select pg_catalog.count(pg_catalog.pg_notify($1::pg_catalog.text, payload)) as sent from pg_catalog.unnest($2::pg_catalog.text[]) as payload
