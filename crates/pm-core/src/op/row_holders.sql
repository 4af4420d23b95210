-- Tells who keeps old row versions alive in this database: sessions, standbys, prepared transactions, replication slots.
-- Locks: none.
-- Concurrency: reads what sessions say of themselves at this moment. Without the role pg_read_all_stats other roles' sessions say nothing.
-- Index: none.
-- Cost: grows with the number of sessions.
select 'session' as kind, pid::text as holder, usename::text as role, application_name as application, state,
       (extract(epoch from statement_timestamp() - xact_start) * 1000)::int8 as age_ms,
       greatest(age(backend_xmin), age(backend_xid))::int8 as transactions
from pg_stat_activity
where datname = current_database() and pid <> pg_backend_pid() and backend_type = 'client backend'
  and (backend_xmin is not null or backend_xid is not null)
union all
select 'standby', pid::text, usename::text, application_name, state, null, age(backend_xmin)::int8
from pg_stat_activity
where backend_type = 'walsender' and backend_xmin is not null
union all
select 'prepared', gid, owner::text, null, null, (extract(epoch from statement_timestamp() - prepared) * 1000)::int8, age(transaction)::int8
from pg_prepared_xacts
where database = current_database()
union all
select 'slot', slot_name::text, null, null, case when active then 'active' else 'inactive' end, null, age(xmin)::int8
from pg_replication_slots
where xmin is not null
order by 6 desc nulls last, 7 desc, 2
