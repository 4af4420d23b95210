-- Returns row counts, scans and vacuum settings of pm's tables, and the database's time.
-- Locks: none that wait for more than a change of the tables' definitions.
-- Concurrency: reads the cumulative statistics, which lag a moment behind.
-- Index: of the system catalogs.
-- Cost: constant.
select pg_class.relname::pg_catalog.text as name,
       coalesce(stats.n_live_tup, 0) as live, coalesce(stats.n_dead_tup, 0) as dead,
       coalesce(stats.seq_scan, 0) as scans, coalesce(stats.seq_tup_read, 0) as scanned_rows,
       {ms:pg_catalog.statement_timestamp() - greatest(pg_stat_database.stats_reset, pg_catalog.pg_postmaster_start_time())} as counted_ms,
       coalesce((select option_value::pg_catalog.bool from pg_catalog.pg_options_to_table(pg_class.reloptions) where option_name = 'autovacuum_enabled'), true) as has_autovacuum,
       (pg_catalog.current_setting('autovacuum')::pg_catalog.bool and pg_catalog.current_setting('track_counts')::pg_catalog.bool) as server_has_autovacuum,
       pg_catalog.age(pg_class.relfrozenxid)::pg_catalog.int8 as age,
       least(pg_catalog.current_setting('autovacuum_freeze_max_age')::pg_catalog.int8,
             (select option_value::pg_catalog.int8 from pg_catalog.pg_options_to_table(pg_class.reloptions) where option_name = 'autovacuum_freeze_max_age')) as freeze_age,
       pg_catalog.statement_timestamp() as read_at
from pg_catalog.pg_class
left join pg_catalog.pg_stat_all_tables stats on stats.relid = pg_class.oid
left join pg_catalog.pg_stat_database on pg_stat_database.datname = pg_catalog.current_database()
where pg_class.relkind = 'r' and pg_class.relnamespace = (select relnamespace from pg_catalog.pg_class where oid = '{schema}.job'::pg_catalog.regclass::pg_catalog.oid)
order by pg_class.relname
