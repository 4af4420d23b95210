-- Returns the last value of each sequence, and the highest number in use.
-- Locks: none.
-- Concurrency: the rows are of one snapshot, and the sequences are read after it: one that is up to date never seems behind.
-- Index: job_line, one probe per line; the primary keys; all of claim_frontier.
-- Cost: grows with the number of lines, about 5 us each.
with recursive {lines}, used as materialized (
  select 'job_seq' as name, {last_position} as number from line
  union all
  select 'queue_id_seq', (select pg_catalog.max(queue.id) from {schema}.queue)
  union all
  select 'payload_id_seq', (select pg_catalog.max(payload.id) from {schema}.payload)
  union all
  select 'schedule_id_seq', (select pg_catalog.max(schedule.id) from {schema}.schedule)
)
select used.name::pg_catalog.text as name, coalesce(used.number, 0)::pg_catalog.int8 as used, coalesce(pg_catalog.pg_sequence_last_value(pg_class.oid), 0) as drawn
from used join pg_catalog.pg_class
  on pg_class.relnamespace = pg_catalog.to_regnamespace('{schema}')::pg_catalog.oid and pg_class.relname::pg_catalog.text = used.name and pg_class.relkind = 'S'
order by used.name
