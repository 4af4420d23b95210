-- Part of other statements: inserts the placed items, with a position if they are ready.
-- Locks: the new rows.
-- Concurrency: fails if an id exists, unless the statement continues "on conflict do nothing".
-- Index: job (id), job_line or job_wait.
-- Cost: about 5 us per item in batches of 1,000.
insert into {schema}.job (id, queue_id, seq, run_at, paused, created_at, {stored_columns})
  select id, queue_id,
         case when is_paused or due > pg_catalog.statement_timestamp() then null else {next_position} end,
         case when is_paused or due > pg_catalog.statement_timestamp() then due end,
         is_paused, pg_catalog.statement_timestamp(), {stored_values:}
  from placed
