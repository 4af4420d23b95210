//! Rendering of statements: shared parts and the schema's name are substituted, and comments are removed.

use crate::wire::{Column, Columns};
use crate::{LeasedColumns, QueueSettings, SchemaName};

/// What several statements share, by name. `{name}` is replaced by the text, and `{name:argument}` by the text with the
/// argument for each `@`. A text may use other parts.
const PARTS: [(&str, &str); 36] = [
    ("search_path", SEARCH_PATH),
    ("job_columns", include_str!("op/job_columns.sql")),
    ("bulk_targets", include_str!("op/bulk_targets.sql")),
    ("precondition", include_str!("op/precondition.sql")),
    ("new_jobs", include_str!("op/new_jobs.sql")),
    ("items", include_str!("op/items.sql")),
    ("placed", include_str!("op/placed.sql")),
    ("insert_placed", include_str!("op/insert_placed.sql")),
    ("not_added", include_str!("op/not_added.sql")),
    ("lines", include_str!("op/lines.sql")),
    ("lapsed_keys", include_str!("op/lapsed_keys.sql")),
    ("new_frontier", include_str!("op/new_frontier.sql")),
    ("bulk_outcome", include_str!("op/bulk_outcome.sql")),
    // The columns of a leased `job` in the order of the reply.
    (
        "leased_job",
        "job.id, job.queue_id, job.max_retries, job.backoff_ms, job.jitter_percent, job.priority, job.seq, job.attempt, \
         job.retry_count, job.snoozes, coalesce(job.timeout_ms, queue.timeout_ms) as timeout_ms, job.created_at, job.codec, job.description, job.key, job.trace, {payload_of:job} as payload, \
         case when pg_catalog.isfinite(job.unreadable_since) \
         then {ms:pg_catalog.statement_timestamp() - job.unreadable_since} end as unreadable_ms",
    ),
    // The queues of an enqueue's `item`s that may have idle workers.
    (
        "idle_queues",
        "select (select pg_catalog.min(item.ordinal) from item where item.queue = known.name), 3::pg_catalog.int2, \
         known.id from known where known.idle_until > pg_catalog.statement_timestamp()",
    ),
    // The state of a job (@) as it is shown: a pending job is shown as paused if it or its queue is. `queue` is in
    // scope.
    ("shown_state", "case when @.state = 0 and (@.paused or queue.paused) then 4::pg_catalog.int2 else @.state end"),
    // Whether a job (@) waits for its due time. This is the predicate of the index job_wait.
    ("is_waiting", "@.seq is null and @.run_at is not null and not @.paused"),
    // Whether `job` is in progress: those of a line are at or below its `claim_frontier`.
    (
        "is_in_progress",
        "job.queue_id = claim_frontier.queue_id and job.priority = claim_frontier.priority \
         and job.seq >= least(claim_frontier.seq, 0) and job.seq <= claim_frontier.seq and job.state = 1",
    ),
    // Whether `f` is the frontier of a line (@: a queue's id and a priority).
    ("is_frontier_of", "(f.queue_id, f.priority) = (@) and f.retired_at is null"),
    // The next position in a line.
    ("next_position", "pg_catalog.nextval('{schema}.job_seq')"),
    // The highest position known, from some `line`s and all frontiers, each at most 1,000 above what was claimed.
    (
        "last_position",
        "greatest(pg_catalog.max(line.seq), (select pg_catalog.max(f.seq) - 1000 from {schema}.claim_frontier f))",
    ),
    // The payload of a job (@): its own or a shared one.
    ("payload_of", "coalesce(@.payload, (select payload.data from {schema}.payload where payload.id = @.payload_id))"),
    // Adds attempts: their lease, end, verdict, worker and reason, and where they are from (@).
    (
        "add_attempts",
        "insert into {schema}.attempt (job_id, attempt, lease, ended_at, verdict, worker, reason) \
         select id, attempt, @ on conflict do nothing",
    ),
    // Whether a waiting job may start: its time to expire has not come, or it has started before.
    (
        "may_start",
        "(job.expires_at is null or job.expires_at > pg_catalog.statement_timestamp() or job.attempt > 0 or job.snoozes is not null)",
    ),
    // What changes when a waiting job expires, except for its key.
    (
        "expired",
        "expires_at = null, state = 3, verdict = 11, reason = 'expired', paused = false, seq = null, run_at = null, \
         ended_at = pg_catalog.statement_timestamp(), failed_at = pg_catalog.statement_timestamp()",
    ),
    // The trace of a job (@) that is copied or restarted: the next attempt only links to it. No trace begins with
    // one of these letters.
    ("link_only", "'link '::pg_catalog.text || pg_catalog.ltrim(@.trace, 'link ')"),
    // Whether a settlement (`item`) makes a job fail because it is to be cancelled.
    ("fails_cancelled", "(job.cancelled_at is not null and item.state <> 2)"),
    // The key that a job still reserves after it has ended, if it has (@).
    ("key_if_ended", "case when @ and {key_until_has_passed} then null else job.reserved_key end"),
    // Whether a job's reservation of its key has lapsed: the job has ended, or has expired and only a reap is missing.
    ("key_has_lapsed", "((job.state >= 2 or (job.state = 0 and not {may_start})) and {key_until_has_passed})"),
    ("key_until_has_passed", "coalesce(job.key_until <= pg_catalog.statement_timestamp(), true)"),
    // When a lease of `queue` ends that is extended now.
    ("lease_end", "pg_catalog.statement_timestamp() + {setting:queue.lease_ms}"),
    // The same for a lease of `job` that begins now: by its timeout and 30 s at the latest.
    (
        "first_lease_end",
        "pg_catalog.statement_timestamp() + {setting:least(queue.lease_ms, \
         least(coalesce(job.timeout_ms, queue.timeout_ms), 31536000000000) + 30000)}",
    ),
    // A length of time (@) of a queue's settings as an interval, clamped to 0 to 1,000 years.
    ("setting", "{interval:greatest(0::pg_catalog.int8, least(@, 31536000000000))}"),
    // From now until a time (@) in whole milliseconds.
    (
        "ms_until",
        "{ms:greatest(@, '0001-01-01 00:00:00+00'::pg_catalog.timestamptz) - pg_catalog.statement_timestamp()}",
    ),
    // An interval (@) in whole milliseconds.
    ("ms", "(extract(epoch from @) * 1000.0)::pg_catalog.int8"),
    // A number of milliseconds (@) as an interval.
    ("interval", "@::pg_catalog.float8 * interval '1 ms'"),
];

const SEARCH_PATH: &str = include_str!("op/search_path.sql");

/// The setting that [`SEARCH_PATH`] reads and that does not exist, so that the server's error names it.
pub(crate) const SEARCH_PATH_SETTING: &str = "pm.search_path_with_pg_catalog_first";

/// Returns the text of a statement, preceded by the check of the `search_path`. The statement must be a select that
/// does not end in a limit.
pub(crate) fn with_search_path_check(text: &str) -> String {
    let (with, rest) = match text.trim_start() {
        text if text.starts_with("with recursive ") => ("with recursive", text.replacen("with recursive ", ", ", 1)),
        text if text.starts_with("with ") => ("with", text.replacen("with ", ", ", 1)),
        text => ("with", text.to_owned()),
    };
    format!("{with} {}{rest}\nlimit (select most from search_path)", bare(SEARCH_PATH))
}

/// Returns the parts that list the columns of a struct: by name, or as nulls.
fn lists() -> [(&'static str, String); 3] {
    let list =
        |columns: &[Column], shown: fn(&Column) -> String| columns.iter().map(shown).collect::<Vec<_>>().join(", ");
    let name = |column: &Column| column.name.to_owned();
    let null = |column: &Column| format!("null::pg_catalog.{} as {}", column.ty.name(), column.name);
    [
        ("queue_settings", list(QueueSettings::COLUMNS, name)),
        ("leased_columns", list(LeasedColumns::COLUMNS, name)),
        // What the columns of a leased job are in a row about a queue.
        ("no_leased_job", list(LeasedColumns::COLUMNS, null)),
    ]
}

/// Returns all parts without comments: those of this file, and further ones, which they may use.
pub(crate) fn parts(further: impl IntoIterator<Item = (&'static str, String)>) -> Vec<(&'static str, String)> {
    PARTS.iter().map(|(name, part)| (*name, bare(part))).chain(lists()).chain(further).collect()
}

/// Returns `sql` for one schema, without comments.
pub(crate) fn render(sql: &str, schema: &SchemaName) -> String {
    render_with(&parts([]), sql, schema)
}

/// Does the same with these parts, which many statements share.
pub(crate) fn render_with(parts: &[(&'static str, String)], sql: &str, schema: &SchemaName) -> String {
    let mut text = String::with_capacity(2 * sql.len());
    expand(parts, &bare(sql), &mut text);
    text.replace("{schema}", &format!("\"{schema}\""))
}

/// Appends the text with its placeholders replaced by their parts. Braces around anything else stay.
fn expand<'a>(parts: &'a [(&'static str, String)], mut text: &'a str, result: &mut String) {
    while let Some(at) = text.find('{') {
        result.push_str(&text[..at]);
        text = &text[at..];
        if let Some((part, argument, rest)) = placeholder(parts, text) {
            match argument {
                Some(argument) => expand(parts, &part.replace('@', argument), result),
                None => expand(parts, part, result),
            }
            text = rest;
        } else {
            result.push('{');
            text = &text[1..];
        }
    }
    result.push_str(text);
}

/// Splits `{name}` or `{name:argument}` from the front of a text, if a part has the name: returns the part, the
/// argument, which may contain placeholders, and what follows.
fn placeholder<'a>(parts: &'a [(&'static str, String)], text: &'a str) -> Option<(&'a str, Option<&'a str>, &'a str)> {
    let text = text.strip_prefix('{')?;
    let (name, rest) = text.split_at(text.find(|letter: char| !letter.is_ascii_lowercase() && letter != '_')?);
    let (_, part) = parts.iter().find(|(of_part, _)| *of_part == name)?;
    if let Some(rest) = rest.strip_prefix('}') {
        return Some((part, None, rest));
    }
    let argument = rest.strip_prefix(':')?;
    let mut depth = 1;
    let end = argument.find(|letter| {
        depth += i32::from(letter == '{') - i32::from(letter == '}');
        depth == 0
    })?;
    Some((part, Some(&argument[..end]), &argument[end + 1..]))
}

/// Returns `sql` without the lines that are comments.
pub(crate) fn bare(sql: &str) -> String {
    let lines: Vec<_> = sql.lines().filter(|line| !line.trim_start().starts_with("--")).collect();
    lines.join("\n")
}
