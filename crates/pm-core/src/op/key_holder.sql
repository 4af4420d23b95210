-- Follow-up of enqueue: the existing job with the id or the key of each item.
-- Locks: none; only jobs whose reservations of their keys have lapsed, if there are any, skipping locked ones.
-- Concurrency: its snapshot is newer than the enqueue's. No row means that the existing job is gone, or its reservation has lapsed: the item may be sent again.
-- Index: job (id), job_key.
-- Cost: two index probes per item.
with item as materialized (
  select * from unnest($1::pg_catalog.uuid[], $2::pg_catalog.text[], $3::pg_catalog.text[]) with ordinality as item(id, queue, key, ordinal)
), wanted_key as materialized (
  select item.id, queue.id as queue_id, item.key from item join {schema}.queue on queue.name = item.queue where item.key is not null
), changed_here as (
  select null::pg_catalog.uuid as id where false
), {lapsed_keys}
select item.ordinal, job.id,
       {shown_state:job} as state
from item
cross join lateral (
  select own.id, own.state, own.paused, own.queue_id, 0 as rank from {schema}.job own where own.id = item.id
  union all
  select job.id, job.state, job.paused, job.queue_id, 1 as rank
  from {schema}.queue named join {schema}.job on job.queue_id = named.id and job.reserved_key = item.key
  where named.name = item.queue and not {key_has_lapsed}
  order by rank
  limit 1
) job
join {schema}.queue on queue.id = job.queue_id
