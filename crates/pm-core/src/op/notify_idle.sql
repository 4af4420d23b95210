-- Wakes workers of other processes that sleep, whichever queue they follow.
-- Locks: the notification queue's lock, through the commit, when somebody sleeps.
-- Concurrency: Postgres drops duplicates within one statement; late and doubled notifications do no harm.
-- Index: none; it reads all queues.
-- Cost: one row a queue; nothing more while nobody sleeps.
select pg_catalog.count(pg_catalog.pg_notify($1::pg_catalog.text, queue.id::pg_catalog.text || ':')) as woken
from {schema}.queue
where queue.idle_until > pg_catalog.statement_timestamp() and queue.name is not null
