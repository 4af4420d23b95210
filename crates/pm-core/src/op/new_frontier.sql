-- Part of other statements: gives the lines of `@` (queue_id, priority) a frontier below all ready jobs if they have none.
-- Locks: a frontier, if it has to insert one.
-- Concurrency: a frontier that another transaction inserts at the same time is used as it is.
-- Index: claim_frontier.
-- Cost: one probe per line.
new_frontier as (
  insert into {schema}.claim_frontier (queue_id, priority, seq)
  select queue_id, priority, 1 from @
  where not exists (
    select from {schema}.claim_frontier f where {is_frontier_of:@.queue_id, @.priority}
  )
  order by 1, 2
  on conflict (queue_id, priority) do update set retired_at = null
)
