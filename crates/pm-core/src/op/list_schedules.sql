-- Lists schedules by name, all or one, and the time; if there are none, a single row has only the time. The payload is returned only of a schedule asked for by name.
-- Locks: none.
-- Concurrency: reads one snapshot.
-- Index: schedule (name) for one; otherwise all are read.
-- Cost: one row per schedule.
select pg_catalog.statement_timestamp() as read_at, found.*
from (select 1) one left join (
  select schedule.name, queue.name as queue, schedule.cron, schedule.zone, schedule.missed, schedule.missed_limit, schedule.overlap,
         schedule.paused, schedule.next_tick, schedule.last_tick, schedule.last_job, schedule.priority, schedule.description,
         schedule.max_retries, schedule.backoff_ms, schedule.jitter_percent, schedule.codec, pg_catalog.octet_length(schedule.payload)::pg_catalog.int8 as payload_bytes,
         case when $1::pg_catalog.text is not null then schedule.payload end as payload, schedule.revision, pg_catalog.statement_timestamp() as read_at
  from {schema}.schedule join {schema}.queue on queue.id = schedule.queue_id
  where queue.name is not null and ($1::pg_catalog.text is null or schedule.name = $1::pg_catalog.text)
) found on true
order by found.name
