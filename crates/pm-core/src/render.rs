//! Rendering of statements: shared parts and the schema's name are substituted, and comments are removed.

use crate::SchemaName;

/// Parts that several statements share, by their placeholders.
const PARTS: [(&str, &str); 8] = [
    ("{job_columns}", include_str!("op/job_columns.sql")),
    ("{search_path}", SEARCH_PATH),
    ("{precondition}", include_str!("op/precondition.sql")),
    ("{new_jobs}", include_str!("op/new_jobs.sql")),
    ("{not_added}", include_str!("op/not_added.sql")),
    ("{lines}", include_str!("op/lines.sql")),
    ("{lapsed_keys}", include_str!("op/lapsed_keys.sql")),
    ("{key_has_lapsed}", include_str!("op/key_has_lapsed.sql")),
];

/// Expressions that several statements share. `{name:argument}` is replaced by one, with the argument for its `@`.
const EXPRESSIONS: [(&str, &str); 5] = [
    // The state of a job (@) as it is shown: a pending job is shown as paused if it or its queue is. `queue` is in
    // scope.
    ("shown_state", "case when @.state = 0 and (@.paused or queue.paused) then 4::pg_catalog.int2 else @.state end"),
    // Whether a job (@) waits for its due time. This is the predicate of the index job_wait.
    ("is_waiting", "@.seq is null and @.run_at is not null and not @.paused"),
    // The payload of a job (@): its own or a shared one.
    ("payload_of", "coalesce(@.payload, (select payload.data from {schema}.payload where payload.id = @.payload_id))"),
    // An interval (@) in whole milliseconds.
    ("ms", "(extract(epoch from @) * 1000.0)::pg_catalog.int8"),
    // The outcome of one item of a bulk action: 0 not found, 1 changed (in @), 2 refused, 3 in another queue, 5 locked
    // by another transaction. `item` has the id; `judged` has the job if it could be locked. A job that is deleted at
    // the same time may count as locked; a later try does not find it.
    (
        "outcome",
        "case when judged.id is null and exists (select from {schema}.job where job.id = any(array[item.id])) then 5::pg_catalog.int2 \
              when judged.id is null then 0::pg_catalog.int2 \
              when judged.id in (select id from @) then 1::pg_catalog.int2 \
              when judged.is_in_queue then 2::pg_catalog.int2 \
              else 3::pg_catalog.int2 end",
    ),
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

/// Returns `sql` for one schema, without comments.
pub(crate) fn render(sql: &str, schema: &SchemaName) -> String {
    let text = PARTS.iter().fold(bare(sql), |text, (name, part)| text.replace(name, &bare(part)));
    let text = EXPRESSIONS.iter().fold(text, |text, (name, expression)| substitute(&text, name, expression));
    text.replace("{schema}", &format!("\"{schema}\""))
}

/// Replaces each `{name:argument}` by the expression with its argument.
fn substitute(text: &str, name: &str, expression: &str) -> String {
    let placeholder = format!("{{{name}:");
    let mut pieces = text.split(&placeholder);
    let mut result = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let (argument, rest) = piece.split_once('}').unwrap_or((piece, ""));
        result.push_str(&expression.replace('@', argument));
        result.push_str(rest);
    }
    result
}

/// Returns `sql` without the lines that are comments.
pub(crate) fn bare(sql: &str) -> String {
    let lines: Vec<_> = sql.lines().filter(|line| !line.trim_start().starts_with("--")).collect();
    lines.join("\n")
}
