-- Inserts a schedule, or replaces the one of that name. Returns no row if there is no such queue.
-- Locks: key share on the queue, then the schedule's row.
-- Concurrency: of two at once the later one wins. A firing that was prepared before finds another revision and does nothing.
-- Index: queue (name); schedule (name).
-- Cost: constant.
-- While the expression and the zone stay the same, so does the next tick: setting a schedule at every start of a program loses no tick that is due. A pause stays too.
with target_queue as materialized (
  select id from {schema}.queue where name = $2::pg_catalog.text for key share
)
insert into {schema}.schedule as existing (name, queue_id, cron, zone, missed, missed_limit, overlap, next_tick, priority, description,
                                       max_retries, backoff_ms, jitter_percent, codec, payload)
select $1::pg_catalog.text, target_queue.id, $3::pg_catalog.text, $4::pg_catalog.text, $5::pg_catalog.int2, $6::pg_catalog.int2, $7::pg_catalog.int2, $8::pg_catalog.timestamptz, $9::pg_catalog.int4, $10::pg_catalog.text,
       $11::pg_catalog.int4, $12::pg_catalog.int8[], $13::pg_catalog.int2, $14::pg_catalog.int2, $15::pg_catalog.bytea
from target_queue
on conflict (name) do update set
  queue_id = excluded.queue_id, cron = excluded.cron, zone = excluded.zone, missed = excluded.missed, missed_limit = excluded.missed_limit,
  overlap = excluded.overlap, priority = excluded.priority, description = excluded.description, max_retries = excluded.max_retries,
  backoff_ms = excluded.backoff_ms, jitter_percent = excluded.jitter_percent, codec = excluded.codec, payload = excluded.payload,
  revision = existing.revision + 1,
  next_tick = case when existing.paused then null
                   when existing.cron = excluded.cron and existing.zone = excluded.zone then coalesce(existing.next_tick, excluded.next_tick)
                   else excluded.next_tick end
returning existing.revision = 1 as created
