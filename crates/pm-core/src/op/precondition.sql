-- Part of other statements: which of the locked jobs (`target`) still are what they are to be: $2 the state as shown, $3 the name of the queue, $4 the lease; null where anything will do.
-- Locks: none.
-- Concurrency: the job is judged as locked, so nobody can change it in between; the name and the pause of its queue as they were when the statement began.
-- Index: queue (id).
-- Cost: about 1 us a job.
still as materialized (
  select judged.*, is_here and ($2::pg_catalog.int2 is null or shown = $2::pg_catalog.int2) and ($4::pg_catalog.int8 is null or (state = 1 and lease is not distinct from $4::pg_catalog.int8)) as fits
  from (
    select target.*,
           case when target.state = 0 and (target.paused or queue.paused) then 4::pg_catalog.int2 else target.state end as shown,
           $3::pg_catalog.text is null or queue.name is not distinct from $3::pg_catalog.text as is_here
    from target left join {schema}.queue on queue.id = target.queue_id
  ) judged
)
