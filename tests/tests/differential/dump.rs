//! The tables of each side in the same text form.

use crate::sides::grains;
use pm_driver_memory::Tables;
use pm_queue::Timestamp;
use tokio_postgres::SimpleQueryMessage;

/// Empties the tables and resets the sequences.
///
/// The lock keeps out sessions that are being opened: one that saw the old jobs and the new sequence would advance it.
pub(crate) const EMPTY: &str = "
    lock table pm.job in access exclusive mode;
    delete from pm.job; delete from pm.queue; delete from pm.attempt; delete from pm.payload; delete from pm.replacement;
    delete from pm.claim_frontier; delete from pm.schedule;
    select setval('pm.job_seq', 1, false), setval(pg_get_serial_sequence('pm.queue', 'id'), 1, false),
      setval(pg_get_serial_sequence('pm.schedule', 'id'), 1, false)";

/// The same, but returns the disk space of deleted rows; slower.
pub(crate) const EMPTY_AND_SHRINK: &str = "
    truncate pm.job, pm.queue, pm.attempt, pm.payload, pm.replacement, pm.claim_frontier, pm.schedule restart identity;
    alter sequence pm.job_seq restart";

/// Moves all times back.
pub(crate) const SHIFT: &str = "
    update pm.job set run_at = run_at - interval '{seconds} s', lease_expires_at = lease_expires_at - interval '{seconds} s',
      created_at = created_at - interval '{seconds} s', ended_at = ended_at - interval '{seconds} s',
      failed_at = failed_at - interval '{seconds} s', key_until = key_until - interval '{seconds} s',
      unreadable_since = unreadable_since - interval '{seconds} s', cancelled_at = cancelled_at - interval '{seconds} s',
      expires_at = expires_at - interval '{seconds} s';
    update pm.attempt set ended_at = ended_at - interval '{seconds} s';
    update pm.claim_frontier set retired_at = retired_at - interval '{seconds} s';
    update pm.replacement set replaced_at = replaced_at - interval '{seconds} s';
    update pm.queue set idle_until = idle_until - interval '{seconds} s';
    update pm.schedule set next_tick = next_tick - interval '{seconds} s', last_tick = last_tick - interval '{seconds} s'";

/// Sets the due times of jobs that are due within the same half minute to its middle, one microsecond apart, in the
/// order of their ids.
pub(crate) const SEPARATE_EQUAL_TIMES: &str = "
    update pm.job set run_at = statement_timestamp() + ranked.grain * interval '30 s' + (ranked.rank - 1) * interval '1 us'
    from (select id, grain, row_number() over (partition by grain order by id) as rank
          from (select id, floor((extract(epoch from run_at - statement_timestamp()) + 15) / 30) as grain
                from pm.job where seq is null and run_at is not null) waiting) ranked
    where job.id = ranked.id";

const JOBS: &str = "
    select id, seq, {run_at}, {lease_expires_at}, {created_at}, {ended_at}, {failed_at}, {unreadable_since}, {cancelled_at}, {expires_at}, timeout_ms, lease, queue_id, priority,
      attempt, retry_count, snoozes, max_retries, state, verdict, codec, paused, array_to_string(backoff_ms, ','), jitter_percent, worker, key,
      reserved_key, description, reason, cancel_reason, trace, progress, result, payload_id is not null,
      convert_from(coalesce(job.payload, (select data from pm.payload where payload.id = payload_id)), 'UTF8'),
      (select refs from pm.payload where payload.id = payload_id)
    from pm.job order by id";

const QUEUES: &str = "
    select id, name, paused, lease_ms, max_retries, array_to_string(backoff_ms, ','), jitter_percent, retain_ms, timeout_ms, {idle_until}
    from pm.queue order by id";

const ATTEMPTS: &str = "
    select job_id, attempt, lease, {ended_at}, verdict, worker, reason from pm.attempt order by job_id, attempt";

const SCHEDULES: &str = "
    select id, name, {next_tick}, {last_tick}, last_job, revision, queue_id, priority, max_retries, codec, jitter_percent,
      missed, missed_limit, overlap, paused, cron, zone, array_to_string(backoff_ms, ','), description,
      convert_from(payload, 'UTF8')
    from pm.schedule order by id";

const REPLACEMENTS: &str = "select id, job_id, {replaced_at} from pm.replacement order by id";

/// Rows that belong to no job, and shared payloads with a wrong reference count.
pub(crate) const ORPHANS: &str = "
    select 'attempt of ' || job_id from pm.attempt where job_id not in (select id from pm.job)
    union all
    select 'replacement of ' || job_id from pm.replacement where job_id not in (select id from pm.job)
    union all
    select 'payload ' || payload.id || ' of ' || refs || ' jobs' from pm.payload
    where refs <> (select count(*) from pm.job where job.payload_id = payload.id)";

const FRONTIERS: &str =
    "select queue_id, priority, seq, {retired_at} from pm.claim_frontier order by queue_id, priority";

/// Returns the rows of Postgres.
pub(crate) async fn of_postgres(client: &tokio_postgres::Client) -> Vec<String> {
    let mut rows = Vec::new();
    let sql = in_grains(&[QUEUES, JOBS, ATTEMPTS, REPLACEMENTS, SCHEDULES, FRONTIERS].join(";"));
    for message in client.simple_query(&sql).await.expect("the tables can be read") {
        if let SimpleQueryMessage::Row(row) = message {
            let cells = (0..row.len()).map(|column| row.get(column).unwrap_or("-").to_owned());
            rows.push(cells.collect::<Vec<_>>().join(" | "));
        }
    }
    rows
}

/// Replaces `{column}` by that time in half minutes from now.
fn in_grains(sql: &str) -> String {
    let mut text = sql.to_owned();
    let columns = [
        "run_at",
        "lease_expires_at",
        "created_at",
        "ended_at",
        "failed_at",
        "unreadable_since",
        "cancelled_at",
        "expires_at",
        "idle_until",
        "next_tick",
        "last_tick",
        "replaced_at",
        "retired_at",
    ];
    for column in columns {
        let grains = format!("floor((extract(epoch from {column} - statement_timestamp()) + 15) / 30)::int8");
        text = text.replace(&format!("{{{column}}}"), &grains);
    }
    text
}

/// Returns the rows of the model.
pub(crate) fn of_model(tables: &Tables, now: Timestamp) -> Vec<String> {
    let at = |at: Option<Timestamp>| shown(at.map(|at| grains(at.unix_us() - now.unix_us())));
    let flag = |flag: bool| if flag { "t" } else { "f" }.to_owned();
    let numbers = |numbers: &[i64]| numbers.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let mut rows = Vec::new();
    for queue in tables.queue.values() {
        let backoff = &queue.settings.backoff;
        let delays_ms: Vec<_> = backoff.table().iter().map(|delay| delay.as_millis() as i64).collect();
        rows.push(
            [
                queue.id.to_string(),
                shown(queue.name.as_ref()),
                flag(queue.paused),
                queue.settings.lease.as_millis().to_string(),
                backoff.max_retries().to_string(),
                numbers(&delays_ms),
                backoff.jitter_percent().to_string(),
                shown(queue.settings.retain.map(|retain| retain.as_millis())),
                shown(queue.settings.timeout.map(|timeout| timeout.as_millis())),
                at(queue.idle_until),
            ]
            .join(" | "),
        );
    }
    for job in tables.job.values() {
        let payload = job.payload_id.and_then(|id| tables.payload.get(&id));
        let bytes = job.payload.as_ref().or(payload.map(|(_, data)| data));
        rows.push(
            [
                job.id.to_string(),
                shown(job.seq),
                at(job.run_at),
                at(job.lease_expires_at),
                at(Some(job.created_at)),
                at(job.ended_at),
                at(job.failed_at),
                at(job.unreadable_since),
                at(job.cancelled_at),
                at(job.expires_at),
                shown(job.timeout_ms),
                shown(job.lease),
                job.queue_id.to_string(),
                job.priority.to_string(),
                job.attempt.to_string(),
                job.retry_count.to_string(),
                shown(job.snoozes),
                shown(job.max_retries),
                job.state.to_string(),
                shown(job.verdict),
                job.codec.to_string(),
                flag(job.paused),
                shown(job.backoff_ms.as_deref().map(numbers)),
                shown(job.jitter_percent),
                shown(job.worker.as_ref()),
                shown(job.key.as_ref()),
                shown(job.reserved_key.as_ref()),
                shown(job.description.as_ref()),
                shown(job.reason.as_ref()),
                shown(job.cancel_reason.as_ref()),
                shown(job.trace.as_ref()),
                shown(job.progress.as_ref()),
                shown(job.result.as_ref()),
                flag(job.payload_id.is_some()),
                shown(bytes.map(|bytes| String::from_utf8_lossy(bytes))),
                shown(payload.map(|(refs, _)| *refs)),
            ]
            .join(" | "),
        );
    }
    for ((job, attempt), row) in &tables.attempt {
        let cells = [
            job.to_string(),
            attempt.to_string(),
            shown(row.lease),
            at(Some(row.ended_at)),
            row.verdict.to_string(),
            shown(row.worker.as_ref()),
            shown(row.reason.as_ref()),
        ];
        rows.push(cells.join(" | "));
    }
    for (id, (job, replaced_at)) in &tables.replacement {
        rows.push(format!("{id} | {job} | {}", at(Some(*replaced_at))));
    }
    for schedule in tables.schedule.values() {
        rows.push(
            [
                schedule.id.to_string(),
                schedule.name.clone(),
                at(schedule.next_tick),
                at(schedule.last_tick),
                shown(schedule.last_job),
                schedule.revision.to_string(),
                schedule.queue_id.to_string(),
                schedule.priority.to_string(),
                shown(schedule.max_retries),
                schedule.codec.to_string(),
                shown(schedule.jitter_percent),
                schedule.missed.to_string(),
                shown(schedule.missed_limit),
                schedule.overlap.to_string(),
                flag(schedule.paused),
                schedule.cron.clone(),
                schedule.zone.clone(),
                shown(schedule.backoff_ms.as_deref().map(numbers)),
                shown(schedule.description.as_ref()),
                String::from_utf8_lossy(&schedule.payload).into_owned(),
            ]
            .join(" | "),
        );
    }
    for ((queue_id, priority), frontier) in &tables.claim_frontier {
        rows.push(format!("{queue_id} | {priority} | {} | {}", frontier.seq, at(frontier.retired_at)));
    }
    rows
}

fn shown(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}
