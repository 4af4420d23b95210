-- Returns the sizes of pm's tables and indexes, including large payloads and the space of deleted rows.
-- Locks: none that wait for more than a change of the tables' definitions.
-- Concurrency: reads the system catalogs and the sizes of files.
-- Index: of the system catalogs.
-- Cost: constant; a look-up per file.
select pg_class.relname::pg_catalog.text as name, owner.relname::pg_catalog.text as of_table,
       case when pg_class.relkind = 'r' and pg_class.reltuples >= 0::pg_catalog.float4 then pg_class.reltuples::pg_catalog.int8 end as rows,
       case when pg_class.relkind = 'r' then pg_catalog.pg_table_size(pg_class.oid) else pg_catalog.pg_relation_size(pg_class.oid) end as bytes
from pg_catalog.pg_class
left join pg_catalog.pg_index on pg_index.indexrelid = pg_class.oid
left join pg_catalog.pg_class owner on owner.oid = pg_index.indrelid
where pg_class.relkind in ('r', 'i')
  and pg_class.relnamespace = (select relnamespace from pg_catalog.pg_class where oid = '{schema}.job'::pg_catalog.regclass::pg_catalog.oid)
order by coalesce(owner.relname, pg_class.relname), owner.relname is not null, pg_class.relname
