-- Part of other statements: the items of a bulk action, and those of their jobs that could be locked, with the columns `@` of `job`. After `with`.
-- Locks: the jobs in id order, skipping those that another transaction has locked.
-- Concurrency: the columns are those of the locked row.
-- Index: job (id).
-- Cost: about 5 us per job.
item as materialized (
  select * from pg_catalog.unnest($1::pg_catalog.uuid[]) with ordinality as item(id, ordinal)
), target as materialized (
  select item.ordinal, @
  from item join {schema}.job on job.id = any(array[item.id])
  order by item.id
  for no key update of job skip locked
)
