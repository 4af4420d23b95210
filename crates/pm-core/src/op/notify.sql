-- Wakes the listeners of other processes.
-- Locks: the notification queue's lock, through the commit: so it is sent after the work is durable, never with it.
-- Concurrency: Postgres drops duplicates within one statement; late and doubled notifications do no harm.
-- Index: none.
-- Cost: constant; about 0.1 ms, and 10 us for each listening backend.
select pg_catalog.count(pg_catalog.pg_notify($1::pg_catalog.text, payload)) as sent from pg_catalog.unnest($2::pg_catalog.text[]) as payload
