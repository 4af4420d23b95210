-- Makes a new job with the payload of another, stored once and shared from now on.
-- Locks: key share on the target queue; the source job; its payload when it is shared already; the new row.
-- Concurrency: a key whose hold has lapsed is let go first, the source's own as well. Of two copies at once the later finds the payload shared, and counts itself by a conflict: a plain update would not see a payload younger than its snapshot. A copy sent again answers as the first time.
-- Index: queue (name), job (id), payload (id).
-- Cost: constant; the first copy of a job moves its payload once.
-- Outcome: 0 no such queue, 1 no such job, 2 copied, or copied before.
with goal as materialized (
  select id from {schema}.queue where name = $3::pg_catalog.text for key share
), source as materialized (
  select job.*, job.reserved_key is not null and {key_has_lapsed} as lets_go
  from goal cross join {schema}.job where job.id = $1::pg_catalog.uuid for no key update of job
), fresh as materialized (
  select source.* from source where not exists (select 1 from {schema}.job where job.id = $2::pg_catalog.uuid)
), wanted_key as materialized (
  select $2::pg_catalog.uuid as id, goal.id as queue_id, $6::pg_catalog.text as key from goal cross join fresh where $6::pg_catalog.text is not null
), changed_here as (
  select id from source
), {lapsed_keys}, due as (
  select coalesce($8::pg_catalog.bool, false) as is_paused, coalesce($9::pg_catalog.timestamptz, pg_catalog.statement_timestamp() + $10::pg_catalog.int8::pg_catalog.float8 * interval '1 ms') as at
), shared as (
  insert into {schema}.payload (refs, data) select 2, payload from fresh where payload_id is null returning id
), counted as (
  insert into {schema}.payload (id, refs, data) overriding system value
  select payload_id, 1, '' from fresh where payload_id is not null
  on conflict (id) do update set refs = payload.refs + 1
), parted as (
  update {schema}.job
  set payload = null, payload_id = coalesce(fresh.payload_id, (select id from shared)), reserved_key = case when not fresh.lets_go then job.reserved_key end
  from fresh
  where job.id = any(array[fresh.id]) and (fresh.payload_id is null or fresh.lets_go)
  returning job.id
), added as (
  insert into {schema}.job (id, queue_id, priority, seq, run_at, paused, codec, payload_id, created_at, description,
                            key, reserved_key, max_retries, backoff_ms, jitter_percent)
  select $2::pg_catalog.uuid, goal.id, coalesce($4::pg_catalog.int4, fresh.priority),
         case when due.is_paused or due.at > pg_catalog.statement_timestamp() then null else pg_catalog.nextval('{schema}.job_seq') end,
         case when due.is_paused or due.at > pg_catalog.statement_timestamp() then due.at end,
         due.is_paused, fresh.codec, coalesce(fresh.payload_id, (select id from shared)), pg_catalog.statement_timestamp(),
         coalesce($5::pg_catalog.text, fresh.description), $6::pg_catalog.text, $6::pg_catalog.text,
         coalesce($7::pg_catalog.int4, fresh.max_retries), fresh.backoff_ms, fresh.jitter_percent
  from fresh cross join goal cross join due
  where (select pg_catalog.count(*) from lapsed) >= 0 and (select pg_catalog.count(*) from parted) >= 0
  returning id
)
select case when not exists (select 1 from goal) then 0::pg_catalog.int2
            when exists (select 1 from source) then 2::pg_catalog.int2
            else 1::pg_catalog.int2 end as outcome,
       (select id from goal) as queue_id
