//! Replays the committed corpora of the fuzzer, so that fixed bugs stay fixed and no target becomes useless.

use pm_core::{Rows, StatementId};
use std::fs;
use std::path::{Path, PathBuf};

/// Runs a target on every file of its corpus.
fn replay(name: &str, target: fn(&[u8])) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(name);
    let entries = fs::read_dir(&dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("it is readable").path()).collect();
    files.sort();
    assert!(!files.is_empty(), "{} is empty", dir.display());
    for file in files {
        println!("{}", file.display());
        target(&fs::read(&file).expect("it is readable"));
    }
}

#[test]
fn wire() {
    replay("wire", pm_proof::wire);
}

#[test]
fn reply() {
    replay("reply", pm_proof::reply);
}

#[test]
fn worker() {
    replay("worker", pm_proof::worker);
}

#[test]
fn names() {
    replay("names", pm_proof::names);
}

#[test]
fn config() {
    replay("config", pm_proof::config);
}

#[test]
fn connecting() {
    replay("connecting", pm_proof::connecting);
}

#[test]
fn cron() {
    replay("cron", pm_proof::cron);
}

#[test]
fn the_reply_to_every_statement_is_interpreted() {
    for statement in StatementId::ALL {
        let rows = Rows::builder(1).finish();
        assert!(pm_proof::reply_to(statement, &rows), "add {statement:?} to proof/src/reply.rs");
    }
}
