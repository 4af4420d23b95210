-- Part of other statements: which of the locked jobs (`target`) meet the precondition: $2 the state as shown, $3 the name of the queue, $4 the lease; null accepts anything.
-- Locks: none.
-- Concurrency: the job is judged on its locked row, so no other transaction can change it in between; its queue's name and pause are those of when the statement began.
-- Index: queue (id).
-- Cost: about 1 us per job.
judged as materialized (
  select locked.*, is_in_queue and ($2::pg_catalog.int2 is null or shown = $2::pg_catalog.int2) and ($4::pg_catalog.int8 is null or (state = 1 and lease is not distinct from $4::pg_catalog.int8)) as fits
  from (
    select target.*,
           {shown_state:target} as shown,
           $3::pg_catalog.text is null or queue.name is not distinct from $3::pg_catalog.text as is_in_queue
    from target left join {schema}.queue on queue.id = target.queue_id
  ) locked
)
