-- Part of other statements: what became of a job (`item.id`) that could not be locked: it is not there, or another transaction has it locked.
-- Locks: none.
-- Concurrency: a job that was deleted while this ran may count as locked; a later look does not find it.
-- Index: job (id).
-- Cost: about 2 us a job.
-- Outcome: 0 not found, 5 locked by another transaction.
case when exists (select from {schema}.job where job.id = any(array[item.id])) then 5::pg_catalog.int2 else 0::pg_catalog.int2 end
