-- Lists the indexes of pm's tables, and whether they can be used.
-- Locks: none.
-- Concurrency: reads the system catalogs; an index that is being built is not valid yet.
-- Index: of the system catalogs.
-- Cost: constant.
select pg_class.relname::pg_catalog.text as name, (pg_index.indisvalid and pg_index.indisready) as is_valid
from pg_catalog.pg_index join pg_catalog.pg_class on pg_class.oid = pg_index.indexrelid
where pg_class.relnamespace = (select relnamespace from pg_catalog.pg_class where oid = '{schema}.job'::pg_catalog.regclass::pg_catalog.oid)
order by pg_class.relname
