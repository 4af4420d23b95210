-- Lists the tables and sequences in pm's schema, what keeps the current role from seeing their rows as they are, and other schemas with tables like pm's.
-- Locks: none.
-- Concurrency: reads the system catalogs.
-- Index: of the system catalogs.
-- Cost: constant; it needs no privileges.
-- Reply: kind as in pg_class.relkind, and `n` for another schema with tables like pm's.
with own as materialized (
  select pg_class.oid, pg_class.relname, pg_class.relkind, pg_class.relpersistence, pg_class.relrowsecurity
  from pg_catalog.pg_class
  where pg_class.relnamespace = pg_catalog.to_regnamespace('{schema}')::pg_catalog.oid and pg_class.relkind in ('r', 'p', 'v', 'm', 'f', 'S')
)
select current_user::pg_catalog.text as role, own.relname::pg_catalog.text as name, own.relkind::pg_catalog.text as kind, own.relpersistence = 'u' as is_unlogged,
       own.relrowsecurity as is_secured,
       case when own.relkind in ('r', 'p') then pg_catalog.row_security_active(own.oid) else false end as is_filtered,
       (select pg_catalog.string_agg(pg_trigger.tgname::pg_catalog.text, ', ' order by pg_trigger.tgname) from pg_catalog.pg_trigger
        where pg_trigger.tgrelid = own.oid and not pg_trigger.tgisinternal and pg_trigger.tgenabled <> 'D' and pg_trigger.tgname <> 'delete_with_job') as triggers,
       (select pg_catalog.string_agg(pg_rewrite.rulename::pg_catalog.text, ', ' order by pg_rewrite.rulename) from pg_catalog.pg_rewrite
        where pg_rewrite.ev_class = own.oid and pg_rewrite.rulename <> '_RETURN' and pg_rewrite.ev_enabled <> 'D') as rules,
       exists (select from pg_catalog.pg_trigger join pg_catalog.pg_proc on pg_proc.oid = pg_trigger.tgfoid
               where pg_trigger.tgrelid = own.oid and pg_proc.proname = 'citus_truncate_trigger') as is_distributed,
       exists (select from pg_catalog.pg_trigger
               where pg_trigger.tgrelid = own.oid and pg_trigger.tgname = 'delete_with_job' and pg_trigger.tgenabled in ('O', 'A')) as clears_up,
       pg_catalog.pg_client_encoding()::pg_catalog.text as client_encoding
from own
union all
select current_user::pg_catalog.text, pg_namespace.nspname::pg_catalog.text, 'n', false, false, false, null, null, false, false, pg_catalog.pg_client_encoding()::pg_catalog.text
from pg_catalog.pg_namespace
where pg_namespace.oid is distinct from pg_catalog.to_regnamespace('{schema}')::pg_catalog.oid
  and exists (select from pg_catalog.pg_class where pg_class.relnamespace = pg_namespace.oid and pg_class.relname = 'claim_frontier')
  and exists (select from pg_catalog.pg_class where pg_class.relnamespace = pg_namespace.oid and pg_class.relname = 'job_line')
order by 2
