-- Part of other statements: lets go of shared payloads as often as `share` (payload_id, jobs) says, and deletes those that nobody shares any longer.
-- Locks: the payloads in id order.
-- Concurrency: of two that let go last the later deletes the payload.
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
)
