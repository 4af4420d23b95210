-- Returns which of some privileges in pm's schema a role has: $2 tables, sequences and functions (null for the schema), $3 privileges, $4 columns.
-- Locks: none.
-- Concurrency: reads the system catalogs.
-- Index: of the system catalogs.
-- Cost: constant; it needs no privileges.
with role as materialized (
  select coalesce($1::pg_catalog.text, current_user::pg_catalog.text)::pg_catalog.name as name
), wanted as materialized (
  select * from unnest($2::pg_catalog.text[], $3::pg_catalog.text[], $4::pg_catalog.text[]) with ordinality as wanted(object, privilege, only_column, ordinal)
)
select wanted.ordinal, role.name::pg_catalog.text as role,
       coalesce(case when wanted.object is null then pg_catalog.has_schema_privilege(role.name, pg_catalog.to_regnamespace('{schema}')::pg_catalog.oid, wanted.privilege)
                     when wanted.privilege = 'execute' then (
                       select pg_catalog.bool_and(pg_catalog.has_function_privilege(role.name, pg_proc.oid, 'execute')) from pg_catalog.pg_proc
                       where pg_proc.pronamespace = pg_catalog.to_regnamespace('{schema}')::pg_catalog.oid and pg_proc.proname::pg_catalog.text = wanted.object)
                     when pg_class.relkind = 'S' then pg_catalog.has_sequence_privilege(role.name, pg_class.oid, wanted.privilege)
                     when wanted.only_column is null then pg_catalog.has_table_privilege(role.name, pg_class.oid, wanted.privilege)
                     else pg_catalog.has_column_privilege(role.name, pg_class.oid, wanted.only_column, wanted.privilege) end, false) as has_privilege
from wanted cross join role
left join pg_catalog.pg_class on pg_class.relnamespace = pg_catalog.to_regnamespace('{schema}')::pg_catalog.oid and pg_class.relname::pg_catalog.text = wanted.object
order by wanted.ordinal
