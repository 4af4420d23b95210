-- Tells of each sequence how far it has drawn, and how far what it numbers has come.
-- Locks: none.
-- Concurrency: the rows are of one snapshot, and the sequences are read after it: one that works never seems behind.
-- Index: job_line, one probe a line; the primary keys; claim_frontier from end to end.
-- Cost: grows with the number of lines, about 5 us each.
with recursive {lines}, used as materialized (
  -- A frontier stands at most 1,000 above what was claimed.
  select 'job_seq' as name, greatest((select pg_catalog.max(line.seq) from line), (select pg_catalog.max(claim_frontier.seq) - 1000 from {schema}.claim_frontier)) as number
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
