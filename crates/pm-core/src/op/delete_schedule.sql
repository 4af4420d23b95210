-- Deletes a schedule. The jobs that it has made stay.
-- Locks: the schedule's row.
-- Concurrency: of two at once one deletes; a later firing does nothing.
-- Index: schedule (name).
-- Cost: constant.
delete from {schema}.schedule where name = $1::pg_catalog.text returning id
