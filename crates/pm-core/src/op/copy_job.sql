-- Inserts a job with the payload of another. The payload is stored once and shared from then on.
-- Locks: key share on the target queue; the source job; its payload, if it is shared already; the new row.
-- Concurrency: reservations of the key that have lapsed are released first, the source's own as well. Of two concurrent copies the later finds the payload shared, and increments its count by an insert with a conflict: a plain update would not see a payload newer than its snapshot. A copy that is sent again returns the same outcome.
-- Index: queue (name), job (id), payload (id).
-- Cost: constant; the first copy of a job moves its payload once.
-- Outcome: 0 no such queue, 1 no such job, 2 copied, now or before.
with {items}, target_queue as materialized (
  select id from {schema}.queue where name = any($2::pg_catalog.text[]) for key share
), source as materialized (
  select job.*, job.reserved_key is not null and {key_has_lapsed} as key_has_lapsed
  from target_queue cross join {schema}.job where job.id = {first_after_items}::pg_catalog.uuid for no key update of job
), to_copy as materialized (
  select source.* from source where not exists (select 1 from {schema}.job where job.id = any($1::pg_catalog.uuid[]))
), wanted_key as materialized (
  select item.id, target_queue.id as queue_id, item.key from item cross join target_queue cross join to_copy where item.key is not null
), changed_here as (
  select id from source
), {lapsed_keys}, due as (
  select coalesce(item.paused, false) as is_paused, coalesce(item.run_at, pg_catalog.statement_timestamp() + {interval:item.delay_ms}) as at
  from item
), new_payload as (
  insert into {schema}.payload (refs, data) select 2, payload from to_copy where payload_id is null returning id
), shared_payload as (
  insert into {schema}.payload (id, refs, data) overriding system value
  select payload_id, 1, '' from to_copy where payload_id is not null
  on conflict (id) do update set refs = payload.refs + 1
), updated_source as (
  update {schema}.job
  set payload = null, payload_id = coalesce(to_copy.payload_id, (select id from new_payload)), reserved_key = case when not to_copy.key_has_lapsed then job.reserved_key end
  from to_copy
  where job.id = any(array[to_copy.id]) and (to_copy.payload_id is null or to_copy.key_has_lapsed)
  returning job.id
), added as (
  insert into {schema}.job (id, queue_id, priority, seq, run_at, paused, codec, payload_id, created_at, description,
                            key, reserved_key, max_retries, backoff_ms, jitter_percent, expires_at, timeout_ms, trace)
  select item.id, target_queue.id, case when item.priority = 0 then to_copy.priority else item.priority end,
         case when due.is_paused or due.at > pg_catalog.statement_timestamp() then null else {next_position} end,
         case when due.is_paused or due.at > pg_catalog.statement_timestamp() then due.at end,
         due.is_paused, to_copy.codec, coalesce(to_copy.payload_id, (select id from new_payload)), pg_catalog.statement_timestamp(),
         coalesce(item.description, to_copy.description), item.key, item.key,
         coalesce(item.max_retries, to_copy.max_retries), to_copy.backoff_ms, to_copy.jitter_percent,
         pg_catalog.statement_timestamp() + {interval:item.expires_ms}, coalesce(item.timeout_ms, to_copy.timeout_ms), {link_only:to_copy}
  from item cross join to_copy cross join target_queue cross join due
  where (select pg_catalog.count(*) from lapsed) >= 0 and (select pg_catalog.count(*) from updated_source) >= 0
  returning id
)
select case when not exists (select 1 from target_queue) then 0::pg_catalog.int2
            when exists (select 1 from source) then 2::pg_catalog.int2
            else 1::pg_catalog.int2 end as outcome,
       (select id from target_queue) as queue_id
