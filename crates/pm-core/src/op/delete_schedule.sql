-- Deletes a schedule; jobs that it has made stay.
-- Locks: the schedule's row.
-- Concurrency: of two at once one deletes; a firing that comes later does nothing.
-- Index: schedule (name).
-- Cost: constant.
delete from {schema}.schedule where name = $1::pg_catalog.text returning id
