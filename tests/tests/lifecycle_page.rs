//! The table on the lifecycle page matches the code, and the tests that the page names exist.

use pm_core::{Event, State};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

const EVENTS: [(Event, &str); 22] = [
    (Event::Claim, "claim, fetch"),
    (Event::Commit, "commit"),
    (Event::SoftFail, "soft fail, drop; retries left"),
    (Event::LastSoftFail, "soft fail, drop; no retries left"),
    (Event::HardFail, "hard fail"),
    (Event::Release, "release"),
    (Event::Snooze, "snooze"),
    (Event::Unreadable, "payload unreadable, for less than a day"),
    (Event::LastUnreadable, "payload unreadable for a day"),
    (Event::Extend, "extend"),
    (Event::Reap, "reap; retries left"),
    (Event::LastReap, "reap; no retries left"),
    (Event::Pause, "pause"),
    (Event::Resume, "resume"),
    (Event::Restart, "restart"),
    (Event::ForceRestart, "restart, forced"),
    (Event::Done, "done, by an operator"),
    (Event::Expire, "not started by its time to expire"),
    (Event::Fail, "fail, by an operator"),
    (Event::Cancel, "cancel, by an operator"),
    (Event::ForceCancel, "cancel, forced"),
    (Event::EndCancelled, "another end of a lease than a commit, after a cancel"),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package lies in the workspace").to_owned()
}

fn page() -> String {
    std::fs::read_to_string(root().join("docs/lifecycle.md")).expect("the page exists")
}

#[test]
fn the_table_of_transitions_is_the_code() {
    let mut table = String::from("| event |");
    State::ALL.iter().for_each(|state| table.push_str(&format!(" {state} |")));
    table.push_str("\n|---|---|---|---|---|---|\n");
    for (event, name) in EVENTS {
        let after = State::ALL.map(|state| state.after(event).map_or("–", State::name)).join(" | ");
        table.push_str(&format!("| {name} | {after} |\n"));
    }
    assert!(page().contains(&table), "docs/lifecycle.md should contain this table:\n{table}");
}

#[test]
fn every_test_the_page_names_exists() {
    let page = page();
    let named: BTreeSet<_> = page.split('`').skip(1).step_by(2).filter(|name| name.contains("::")).collect();
    assert!(named.len() >= 10, "each promise names its test: {named:?}");
    for name in named {
        let (file, test) = name.split_once("::").expect("names without `::` were filtered out");
        let text = std::fs::read_to_string(root().join(format!("tests/tests/{file}.rs")));
        let text = text.unwrap_or_else(|_| panic!("{name}: tests/tests/{file}.rs does not exist"));
        assert!(text.contains(&format!("fn {test}(")), "{name}: the test does not exist");
    }
}
