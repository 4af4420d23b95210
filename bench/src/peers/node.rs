//! The peers in Node.js: programs that take the same part as a side in Rust.

use crate::Result;
use crate::contender::Choice;
use crate::side::{Program, Side};
use std::path::Path;

/// Returns the peers whose programs and packages are in this directory.
pub(super) fn sides(directory: &Path) -> Result<[Side; 2]> {
    let graphile_worker = Side {
        name: "graphile-worker (node)",
        version: installed_version(directory, "graphile-worker")?,
        commits: Choice::Detached,
        has_bulk: true,
        waits_for_jobs: true,
        enqueues_at_most: 5_000,
        drains_at_most: usize::MAX,
        count_all: "select count(*) from graphile_worker._private_jobs",
        count_ended: None,
        program: Program::script("node", directory.join("graphile-worker.mjs")),
    };
    let pg_boss = Side {
        name: "pg-boss (node)",
        version: installed_version(directory, "pg-boss")?,
        commits: Choice::Awaited,
        count_all: "select count(*) from pgboss.job where name = 'bench'",
        count_ended: Some("select count(*) from pgboss.job where name = 'bench' and state = 'completed'"),
        program: Program::script("node", directory.join("pg-boss.mjs")),
        ..graphile_worker.clone()
    };
    Ok([graphile_worker, pg_boss])
}

fn installed_version(directory: &Path, package: &str) -> Result<String> {
    let manifest = directory.join("node_modules").join(package).join("package.json");
    let manifest: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(manifest)?)?;
    Ok(manifest["version"].as_str().unwrap_or("unknown").to_owned())
}
