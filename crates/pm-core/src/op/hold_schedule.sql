-- Pauses a schedule, or plans its next tick; answers no row when there is none of that name, or someone has changed it since.
-- Locks: the schedule's row.
-- Concurrency: a firing that was reckoned before finds another revision and does nothing.
-- Index: schedule (name).
-- Cost: constant.
update {schema}.schedule set paused = $2::pg_catalog.bool, next_tick = $3::pg_catalog.timestamptz, revision = schedule.revision + 1
where name = $1::pg_catalog.text and ($4::pg_catalog.int8 is null or revision = $4::pg_catalog.int8)
returning schedule.id
