-- Part of other statements: lets go of shared payloads as often as `share` (payload_id, jobs) says, and deletes those that nobody shares any longer.
-- Locks: the payloads in id order; those younger than the snapshot last.
-- Concurrency: of two that let go last the later deletes the payload. One that a copy made while this waited for its job is younger than the snapshot, and counted down by a conflict, which cannot delete: should the copy be gone as well, an empty row stays.
-- Index: payload (id).
-- Cost: about 10 us a payload, and the pages of large ones.
locked as materialized (
  select payload.id, payload.refs, share.jobs
  from share join {schema}.payload on payload.id = share.payload_id
  order by payload.id
  for update of payload
), kept as (
  update {schema}.payload set refs = locked.refs - locked.jobs from locked where payload.id = locked.id and locked.refs > locked.jobs
), freed as (
  delete from {schema}.payload using locked where payload.id = locked.id and locked.refs <= locked.jobs
), young as (
  insert into {schema}.payload (id, refs, data) overriding system value
  select payload_id, jobs, '' from share where payload_id not in (select id from locked) order by payload_id
  on conflict (id) do update set refs = payload.refs - excluded.refs, data = case when payload.refs > excluded.refs then payload.data else '' end
)
