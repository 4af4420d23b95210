-- Part of other statements: whether a job's reservation of its key has lapsed.
-- Locks: none.
-- Concurrency: judges the row it is given.
-- Index: none.
-- Cost: none.
(job.state >= 2 and coalesce(job.key_until <= pg_catalog.statement_timestamp(), true))
