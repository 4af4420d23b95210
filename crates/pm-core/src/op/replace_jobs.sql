-- Follow-up of enqueue: jobs that hold the keys of items and have not started become what the items say.
-- Locks: the holders, in id order, passing by those that another transaction has locked; then shared payloads in id order.
-- Concurrency: a holder claimed meanwhile is left as it is and answered as it is; no row means that the holder has gone or is locked, and the item may be sent again after a while.
-- Index: job (id), job_key.
-- Cost: about 25 us an item.
with item as materialized (
  select *
  from unnest($1::pg_catalog.uuid[], $2::pg_catalog.text[], $3::pg_catalog.int4[], $4::pg_catalog.bool[], $5::pg_catalog.timestamptz[], $6::pg_catalog.int8[], $7::pg_catalog.int2[], $8::pg_catalog.bytea[],
              $9::pg_catalog.text[], $10::pg_catalog.text[], $11::pg_catalog.timestamptz[], $12::pg_catalog.int4[], $13::pg_catalog.text[], $14::pg_catalog.int2[])
    with ordinality as item(id, queue, priority, held, run_at, delay_ms, codec, payload,
                            description, key, key_until, max_retries, backoff_ms, jitter_percent, ordinal)
), own as materialized (
  select item.ordinal, job.id, job.state, job.held, job.queue_id from item join {schema}.job on job.id = any(array[item.id])
), holder as materialized (
  select item.ordinal, job.id, job.state, job.held, job.queue_id, job.attempt, job.payload_id, job.key_until,
         coalesce(item.run_at, pg_catalog.statement_timestamp() + item.delay_ms::pg_catalog.float8 * interval '1 ms') as due
  from item
  join {schema}.queue on queue.name = item.queue
  join {schema}.job on job.queue_id = queue.id and job.key_held = item.key
  where item.ordinal not in (select ordinal from own)
  order by job.id
  for no key update of job skip locked
), lapsed as (
  update {schema}.job set key_held = null from holder
  where job.id = any(array[holder.id]) and holder.state >= 2 and holder.key_until <= pg_catalog.statement_timestamp()
  returning job.id
), last as materialized (
  select distinct on (id) * from holder where state = 0 and attempt = 0 order by id, ordinal desc
), replaced as (
  update {schema}.job
  set priority = item.priority, held = coalesce(item.held, false), codec = item.codec, payload = item.payload, payload_id = null,
      seq = case when coalesce(item.held, false) or last.due > pg_catalog.statement_timestamp() then null else coalesce(job.seq, pg_catalog.nextval('{schema}.job_seq')) end,
      run_at = case when coalesce(item.held, false) or last.due > pg_catalog.statement_timestamp() then last.due end,
      description = item.description, key_until = item.key_until, unreadable_since = null,
      max_retries = item.max_retries, backoff_ms = item.backoff_ms::pg_catalog.int8[], jitter_percent = item.jitter_percent
  from last join item on item.ordinal = last.ordinal
  where job.id = any(array[last.id])
  returning job.id
), share as (
  select payload_id, pg_catalog.count(*) as jobs from last where payload_id is not null group by payload_id
), {unshare_payloads}
select found.ordinal, found.id,
       case when found.state = 0 and (found.held or queue.paused) then 4::pg_catalog.int2 else found.state end as state,
       found.id in (select id from replaced) as replaced
from (
  select ordinal, id, state, held, queue_id from own
  union all
  select ordinal, id, state, held, queue_id from holder where id not in (select id from lapsed)
) found
join {schema}.queue on queue.id = found.queue_id
