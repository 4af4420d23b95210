-- Fills the schema public with what another role could put there: operators and functions with names that pm's
-- statements use, for arguments that pg_catalog has no exact match for, and types, tables and sequences with pm's names.
-- Each operator and function records that it was called and raises. $operators and $functions are arrays of names.
create sequence public.sprung;
grant usage on sequence public.sprung to public;

create function public.spring() returns void language plpgsql as $$ begin
  perform pg_catalog.nextval('public.sprung'::pg_catalog.regclass);
  raise exception using errcode = 'HX001', message = 'a trap was sprung';
end $$;

do $do$
declare
  types text[] := array['bool', 'int2', 'int4', 'int8', 'float8', 'numeric', 'text', 'varchar', 'name', '"char"', 'bytea', 'uuid', 'oid',
                        'regclass', 'xid', 'tid', 'timestamptz', 'date', 'interval', 'jsonb', 'text[]', 'int8[]', 'uuid[]',
                        'anyelement', 'anynonarray', 'anyarray'];
  trap text := 'create function public.%I(%s) returns %s language plpgsql as $$ begin perform public.spring(); return null; end $$';
  found record;
begin
  for found in
    select l.name as l, r.name as r, op, result.name as result, 'trap_' || row_number() over () as trap
    from unnest(types) l(name) cross join unnest(types) r(name) cross join unnest($operators) op
    cross join lateral (select case when op ~ '[<>=]' then 'bool' when op in ('*', '/') then 'interval' when op = '||' then 'text'
                                    when l.name like 'any%' then 'int8' else l.name end as name) result
    where not exists (select from pg_operator where oprname = op and oprleft = l.name::regtype and oprright = r.name::regtype)
  loop
    execute format(trap, found.trap, concat(found.l, ', ', found.r), found.result);
    execute format('create operator public.%s (leftarg = %s, rightarg = %s, function = public.%I)',
                   found.op, found.l, found.r, found.trap);
  end loop;
  for found in
    select distinct proc.proname as name, arguments.list, case when proc.prorettype::regtype::text like 'any%' then 'int8' else proc.prorettype::regtype::text end as result
    from pg_proc proc
    cross join lateral unnest(proc.proargtypes::oid[]) with ordinality as changed(was, place)
    cross join unnest(types) nearby(name)
    cross join lateral (
      select string_agg(case when place = changed.place then nearby.name else format_type(was, null) end, ', ' order by place) as list,
             string_agg(case when place = changed.place then nearby.name::regtype::oid else was end::text, ' ' order by place) as oids
      from unnest(proc.proargtypes::oid[]) with ordinality as argument(was, place)
    ) arguments
    where proc.pronamespace = 'pg_catalog'::regnamespace and proc.proname = any($functions) and proc.pronargs < 4
      and proc.prorettype not in (select oid from pg_type where typtype = 'p' and typname not like 'any%')
      and not exists (select from pg_proc where pronamespace = 'pg_catalog'::regnamespace and proname = proc.proname and proargtypes::text = arguments.oids)
  loop
    begin
      execute format(trap, found.name, found.list, found.result);
    exception when duplicate_function or invalid_function_definition then
      null; -- another signature of pg_catalog led here before, or these arguments do not determine the result
    end;
  end loop;
end $do$;

do $do$ declare
  name text;
begin
  foreach name in array array['int2', 'int4', 'int8', 'text', 'bool', 'uuid', 'timestamptz', 'bytea', 'numeric', 'float8', 'regclass', 'oid', 'name'] loop
    execute format('create domain public.%I as pg_catalog.int4 check (value is null)', name);
  end loop;
  foreach name in array array['queue', 'job', 'attempt', 'payload', 'claim_frontier', 'schedule', 'migration', 'pg_class', 'pg_stat_activity'] loop
    execute format('create table public.%I (trap pg_catalog.int4)', name);
  end loop;
  create sequence public.job_seq;
end $do$;
