-- Tells how pm's tables are looked after: dead rows, sequential scans, vacuum, the age of row versions; and the database's time.
-- Locks: none that waits for more than a change of the tables' definition.
-- Concurrency: reads the collected statistics, which lag a moment behind.
-- Index: of the catalogue.
-- Cost: constant.
select pg_class.relname::text as name,
       coalesce(counted.n_live_tup, 0) as live, coalesce(counted.n_dead_tup, 0) as dead,
       coalesce(counted.seq_scan, 0) as scans, coalesce(counted.seq_tup_read, 0) as scanned_rows,
       (extract(epoch from statement_timestamp() - greatest(pg_stat_database.stats_reset, pg_postmaster_start_time())) * 1000)::int8 as counted_ms,
       coalesce((select option_value::bool from pg_options_to_table(pg_class.reloptions) where option_name = 'autovacuum_enabled'), true) as has_autovacuum,
       (current_setting('autovacuum')::bool and current_setting('track_counts')::bool) as server_has_autovacuum,
       age(pg_class.relfrozenxid)::int8 as age,
       least(current_setting('autovacuum_freeze_max_age')::int8,
             (select option_value::int8 from pg_options_to_table(pg_class.reloptions) where option_name = 'autovacuum_freeze_max_age')) as freeze_age,
       statement_timestamp() as read_at
from pg_class
left join pg_stat_all_tables counted on counted.relid = pg_class.oid
left join pg_stat_database on pg_stat_database.datname = current_database()
where pg_class.relkind = 'r' and pg_class.relnamespace = (select relnamespace from pg_class where oid = '{schema}.job'::regclass)
order by pg_class.relname
