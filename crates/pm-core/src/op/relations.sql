-- Tells what stands in pm's schema, what keeps the current role from seeing it as it is, and which other schemas look like pm's.
-- Locks: none.
-- Concurrency: reads the catalogue.
-- Index: of the catalogue.
-- Cost: constant; it needs no privileges.
-- Reply: kind as in pg_class.relkind, and `n` for another schema that looks like pm's.
with mine as materialized (
  select pg_class.oid, pg_class.relname, pg_class.relkind, pg_class.relpersistence, pg_class.relrowsecurity
  from pg_catalog.pg_class
  where pg_class.relnamespace = pg_catalog.to_regnamespace('{schema}')::pg_catalog.oid and pg_class.relkind in ('r', 'p', 'v', 'm', 'f', 'S')
)
select current_user::pg_catalog.text as role, mine.relname::pg_catalog.text as name, mine.relkind::pg_catalog.text as kind, mine.relpersistence = 'u' as is_unlogged,
       mine.relrowsecurity as is_secured,
       case when mine.relkind in ('r', 'p') then pg_catalog.row_security_active(mine.oid) else false end as is_filtered,
       (select pg_catalog.string_agg(pg_trigger.tgname::pg_catalog.text, ', ' order by pg_trigger.tgname) from pg_catalog.pg_trigger
        where pg_trigger.tgrelid = mine.oid and not pg_trigger.tgisinternal and pg_trigger.tgenabled <> 'D' and pg_trigger.tgname <> 'delete_with_job') as triggers,
       (select pg_catalog.string_agg(pg_rewrite.rulename::pg_catalog.text, ', ' order by pg_rewrite.rulename) from pg_catalog.pg_rewrite
        where pg_rewrite.ev_class = mine.oid and pg_rewrite.rulename <> '_RETURN' and pg_rewrite.ev_enabled <> 'D') as rules,
       exists (select from pg_catalog.pg_trigger join pg_catalog.pg_proc on pg_proc.oid = pg_trigger.tgfoid
               where pg_trigger.tgrelid = mine.oid and pg_proc.proname = 'citus_truncate_trigger') as is_distributed,
       exists (select from pg_catalog.pg_trigger
               where pg_trigger.tgrelid = mine.oid and pg_trigger.tgname = 'delete_with_job' and pg_trigger.tgenabled in ('O', 'A')) as clears_up,
       pg_catalog.pg_client_encoding()::pg_catalog.text as client_encoding
from mine
union all
select current_user::pg_catalog.text, pg_namespace.nspname::pg_catalog.text, 'n', false, false, false, null, null, false, false, pg_catalog.pg_client_encoding()::pg_catalog.text
from pg_catalog.pg_namespace
where pg_namespace.oid is distinct from pg_catalog.to_regnamespace('{schema}')::pg_catalog.oid
  and exists (select from pg_catalog.pg_class where pg_class.relnamespace = pg_namespace.oid and pg_class.relname = 'claim_frontier')
  and exists (select from pg_catalog.pg_class where pg_class.relnamespace = pg_namespace.oid and pg_class.relname = 'job_line')
order by 2
