-- Notifies idle workers of other processes, whichever queues they follow.
-- Locks: that of the server's notification queue, until the commit is complete, if any worker is idle.
-- Concurrency: Postgres drops duplicates within one statement; late and repeated notifications are harmless.
-- Index: none; it reads all queues.
-- Cost: one row per queue; nothing more while no worker is idle.
select pg_catalog.count(pg_catalog.pg_notify($1::pg_catalog.text, queue.id::pg_catalog.text || ':')) as notified
from {schema}.queue
where queue.idle_until > pg_catalog.statement_timestamp() and queue.name is not null
