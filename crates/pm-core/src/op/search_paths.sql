-- Lists the search_path settings of roles in this database, of the database, and of roles in all databases.
-- Locks: none.
-- Concurrency: reads the system catalogs.
-- Index: none; the table of settings is small.
-- Cost: constant; it needs no privileges.
-- Reply: the role, null for all; the database, null for all; the setting.
select pg_roles.rolname::pg_catalog.text as role, pg_database.datname::pg_catalog.text as database,
       pg_catalog.substr(item.setting, 13) as search_path
from pg_catalog.pg_db_role_setting
cross join lateral pg_catalog.unnest(pg_db_role_setting.setconfig) as item(setting)
left join pg_catalog.pg_roles on pg_roles.oid = pg_db_role_setting.setrole
left join pg_catalog.pg_database on pg_database.oid = pg_db_role_setting.setdatabase
where pg_catalog.starts_with(item.setting, 'search_path=')
  and (pg_db_role_setting.setdatabase = 0::pg_catalog.oid or pg_database.datname = pg_catalog.current_database())
order by 1, 2
