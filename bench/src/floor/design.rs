//! Two hand-written table designs.

/// Tables and statements. A claim takes the last position, a limit and a lease number, and returns positions and
/// payloads. An ack takes positions and their lease number.
pub(crate) trait Design: Clone + Send + Sync + 'static {
    const NAME: &'static str;
    const SCHEMA: &'static str;
    const CLAIM: &'static str;
    const ACK: &'static str;
    const COUNT_ENDED: &'static str;
}

/// All jobs in one table, where they can be found by id for ever; the line is a partial index. The performance targets
/// are relative to this design.
#[derive(Clone)]
pub(crate) struct OneTable;

impl Design for OneTable {
    const NAME: &'static str = "floor";
    const SCHEMA: &'static str = "
        create sequence job_seq;
        create table job (
          id uuid primary key, seq int8 default nextval('job_seq'), created_at timestamptz not null default now(),
          lease int8, lease_expires_at timestamptz, attempt int4 not null default 0, ended_at timestamptz,
          payload bytea not null
        ) with (fillfactor = 50);
        create index job_line on job (seq) where seq is not null";
    const CLAIM: &'static str = "
        with pick as materialized (
          select ctid as tid from job where seq > $1 and lease is null order by seq limit $2
          for no key update skip locked
        )
        update job set lease = $3, lease_expires_at = now() + interval '20 minutes', attempt = attempt + 1
        where ctid = any(array(select tid from pick)) returning seq, payload";
    const ACK: &'static str = "
        update job set seq = null, lease_expires_at = null, ended_at = now()
        from unnest($1::int8[]) as done(seq) where job.seq = done.seq and job.lease = $2";
    const COUNT_ENDED: &'static str = "select count(*) from job where ended_at is not null";
}

/// The cheapest design that keeps a history: ended jobs move to a table without an index. For orientation only.
#[derive(Clone)]
pub(crate) struct Lean;

impl Design for Lean {
    const NAME: &'static str = "lean";
    const SCHEMA: &'static str = "
        create table job (
          seq int8 generated always as identity primary key, id uuid not null,
          created_at timestamptz not null default now(), lease int8, lease_expires_at timestamptz,
          attempt int4 not null default 0, payload bytea not null
        ) with (fillfactor = 50);
        create table archive (
          seq int8, id uuid, created_at timestamptz, attempt int4, ended_at timestamptz, payload bytea
        )";
    const CLAIM: &'static str = OneTable::CLAIM;
    const ACK: &'static str = "
        with gone as (
          delete from job using unnest($1::int8[]) as done(seq) where job.seq = done.seq and job.lease = $2
          returning job.*
        )
        insert into archive select seq, id, created_at, attempt, now(), payload from gone";
    const COUNT_ENDED: &'static str = "select count(*) from archive";
}
