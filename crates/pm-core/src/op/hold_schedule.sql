-- Pauses a schedule, or sets its next tick. Returns no row if there is none of that name, or its revision has changed.
-- Locks: the schedule's row.
-- Concurrency: a firing that was prepared before finds another revision and does nothing.
-- Index: schedule (name).
-- Cost: constant.
update {schema}.schedule set paused = $2::pg_catalog.bool, next_tick = $3::pg_catalog.timestamptz, revision = schedule.revision + 1
where name = $1::pg_catalog.text and ($4::pg_catalog.int8 is null or revision = $4::pg_catalog.int8)
returning schedule.id
