-- Part of other statements: fails, before anything else is planned, if a schema precedes pg_catalog in the search_path.
-- Locks: none.
-- Concurrency: reads the setting of this session.
-- Index: none.
-- Cost: about 2 us.
-- The server plans this part first, and evaluates a limit while planning, so it calls no function of a schema before pg_catalog, not even while planning. The setting that is read does not exist; its name is the message of the error.
search_path as materialized (
  select null::pg_catalog.int8 as most
  limit case
    when (pg_catalog.current_schemas(true))[1] operator(pg_catalog.=) 'pg_catalog' then 1::pg_catalog.int8
    when pg_catalog.starts_with((pg_catalog.current_schemas(true))[1]::pg_catalog.text, 'pg_temp_')
     and (pg_catalog.current_schemas(true))[2] operator(pg_catalog.=) 'pg_catalog' then 1::pg_catalog.int8
    else pg_catalog.current_setting('pm.search_path_with_pg_catalog_first')::pg_catalog.int8
  end
)
