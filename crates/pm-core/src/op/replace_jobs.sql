-- Follow-up of enqueue: replaces the jobs that have reserved the keys of items, if they have not started.
-- Started means that a worker claimed the job and did not release it: every other end of a claim leaves an attempt, or snoozes that are not null.
-- Locks: the existing jobs in id order, skipping those that another transaction has locked; then the new replacements and the shared payloads, in id order.
-- Concurrency: an existing job that another statement changed since the snapshot gets no row, nor does one that is gone or locked: the item may be sent again after a while. When an item is sent again, its row in replacement decides the outcome, whatever happened to the job since; of two at once the unique id of that row lets one through.
-- Index: job (id), job_key, attempt (job_id, attempt), replacement (id), replacement_job for those older than a day.
-- Cost: about 35 us per item.
with {items}, own as materialized (
  select item.ordinal, job.id, job.state, job.paused, job.queue_id, false as replaced
  from item join {schema}.job on job.id = any(array[item.id])
  union all
  select item.ordinal, job.id, job.state, job.paused, job.queue_id, true
  from item join {schema}.replacement on replacement.id = any(array[item.id]) join {schema}.job on job.id = any(array[replacement.job_id])
  where not exists (select from {schema}.job inserted where inserted.id = any(array[item.id]))
), wanted_key as materialized (
  select item.id, item.ordinal, queue.id as queue_id, item.key
  from item join {schema}.queue on queue.name = item.queue
  where item.key is not null and item.ordinal not in (select ordinal from own)
), changed_here as (
  select null::pg_catalog.uuid as id where false
), {lapsed_keys}, holder as materialized (
  select item.ordinal, item.id as item_id, job.id, job.state, job.paused, job.queue_id, job.payload_id,
         row(job.state, job.attempt, job.payload_id) is not distinct from row(seen.state, seen.attempt, seen.payload_id) as is_unchanged,
         job.state = 0 and job.snoozes is null and (job.attempt = 0 or not exists (select from {schema}.attempt where attempt.job_id = job.id)) as is_unstarted,
         coalesce(item.run_at, pg_catalog.statement_timestamp() + {interval:item.delay_ms}) as due
  from item
  join wanted_key on wanted_key.ordinal = item.ordinal
  join {schema}.job on job.queue_id = wanted_key.queue_id and job.reserved_key = wanted_key.key
  join {schema}.job seen on seen.id = any(array[job.id])
  where job.id not in (select id from lapsed)
  order by job.id
  for no key update of job skip locked
), new_replacement as (
  insert into {schema}.replacement (id, job_id, replaced_at)
  select item_id, id, pg_catalog.statement_timestamp() from holder where is_unchanged and is_unstarted
  on conflict do nothing
  returning id
), last as materialized (
  select distinct on (id) * from holder where item_id in (select id from new_replacement) order by id, ordinal desc
), old_replacement as (
  delete from {schema}.replacement
  where job_id = any(array(select id from last)) and replaced_at < pg_catalog.statement_timestamp() - interval '1 day'
), replaced as (
  update {schema}.job
  set ({stored_columns}) = row({stored_values:item.}),
      paused = coalesce(item.paused, false), payload_id = null, key_until = item.key_until, unreadable_since = null, progress = null,
      seq = case when coalesce(item.paused, false) or last.due > pg_catalog.statement_timestamp() then null else coalesce(job.seq, {next_position}) end,
      run_at = case when coalesce(item.paused, false) or last.due > pg_catalog.statement_timestamp() then last.due end
  from last join item on item.ordinal = last.ordinal
  where job.id = any(array[last.id])
  returning job.id
), share as (
  select payload_id, pg_catalog.count(*) as jobs from last where payload_id is not null group by payload_id
), locked as materialized (
  select payload.id, payload.refs, share.jobs
  from share join {schema}.payload on payload.id = share.payload_id
  order by payload.id
  for update of payload
), updated_payload as (
  update {schema}.payload set refs = locked.refs - locked.jobs from locked where payload.id = locked.id and locked.refs > locked.jobs
), deleted_payload as (
  delete from {schema}.payload using locked where payload.id = locked.id and locked.refs <= locked.jobs
)
select found.ordinal, found.id,
       {shown_state:found} as state,
       found.replaced
from (
  select ordinal, id, state, paused, queue_id, replaced from own
  union all
  select ordinal, id, state, paused, queue_id, is_unstarted
  from holder
  where is_unchanged and (not is_unstarted or item_id in (select id from new_replacement))
) found
join {schema}.queue on queue.id = found.queue_id
