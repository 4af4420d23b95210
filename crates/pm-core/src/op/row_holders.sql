-- Lists what keeps vacuum from removing old row versions in this database: sessions, standbys, prepared transactions, replication slots.
-- Locks: none.
-- Concurrency: reads the present state of all sessions. Without the role pg_read_all_stats, that of other roles' sessions is hidden.
-- Index: none.
-- Cost: grows with the number of sessions.
select 'session' as kind, pid::pg_catalog.text as holder, usename::pg_catalog.text as role, application_name as application, state,
       {ms:pg_catalog.statement_timestamp() - xact_start} as age_ms,
       greatest(pg_catalog.age(backend_xmin), pg_catalog.age(backend_xid))::pg_catalog.int8 as transactions
from pg_catalog.pg_stat_activity
where datname = pg_catalog.current_database() and pid <> pg_catalog.pg_backend_pid() and backend_type = 'client backend'
  and (backend_xmin is not null or backend_xid is not null)
union all
select 'standby', pid::pg_catalog.text, usename::pg_catalog.text, application_name, state, null, pg_catalog.age(backend_xmin)::pg_catalog.int8
from pg_catalog.pg_stat_activity
where backend_type = 'walsender' and backend_xmin is not null
union all
select 'prepared', gid, owner::pg_catalog.text, null, null, {ms:pg_catalog.statement_timestamp() - prepared}, pg_catalog.age(transaction)::pg_catalog.int8
from pg_catalog.pg_prepared_xacts
where database = pg_catalog.current_database()
union all
select 'slot', slot_name::pg_catalog.text, null, null, case when active then 'active' else 'inactive' end, null, pg_catalog.age(xmin)::pg_catalog.int8
from pg_catalog.pg_replication_slots
where xmin is not null
order by 6 desc nulls last, 7 desc, 2
