//! House rules that can be checked by a program. Each is run on the tree, and on a bad sample to show that it can fail.

mod circles;
mod rules;

use rules::*;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Returns all text files of the repository except build products.
fn tree() -> Vec<File> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package is in the repository");
    let mut files = Vec::new();
    let mut dirs = vec![root.to_path_buf()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).expect("a directory of the tree is readable") {
            let path = entry.expect("a directory of the tree is readable").path();
            let name = path.file_name().unwrap_or_default();
            // A directory, or in a linked work tree a file.
            if name == ".git" {
                continue;
            }
            if path.is_dir() {
                if name != "target" {
                    dirs.push(path);
                }
            } else if let Ok(text) = fs::read_to_string(&path) {
                let mode = path.metadata().expect("a file of the tree has metadata").permissions().mode();
                let path = path.strip_prefix(root).expect("the walk starts at the root");
                files.push(File { path: path.display().to_string(), text, executable: mode & 0o111 == 0o111 });
            }
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    files
}

type Rule = fn(&[File]) -> Vec<String>;

#[track_caller]
fn assert_kept(rule: Rule) {
    let files = tree();
    assert!(files.iter().any(|file| file.path == "tests/tests/tidy/main.rs"), "the walk misses this very file");
    let found = rule(&files);
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

/// Asserts that the rule finds something in a tree with only this file, and nothing with `good` in its place.
#[track_caller]
fn assert_bites(rule: Rule, path: &str, bad: &str, good: &str) {
    assert!(!rule(&[file(path, bad)]).is_empty(), "nothing found in the bad {path}");
    assert_eq!(rule(&[file(path, good)]), Vec::<String>::new());
}

fn file(path: &str, text: &str) -> File {
    File { path: path.into(), text: text.into(), executable: true }
}

#[test]
fn files_are_short() {
    assert_kept(too_long);
}

#[test]
fn a_long_file_is_found() {
    assert_bites(too_long, "a/b.rs", &"\n".repeat(SOURCE_LINES + 1), &"\n".repeat(SOURCE_LINES));
    assert_bites(too_long, "a/b.sql", &"\n".repeat(SOURCE_LINES + 1), &"\n".repeat(SOURCE_LINES));
    assert_bites(too_long, "ARCHITECTURE.md", &"\n".repeat(MAP_LINES + 1), &"\n".repeat(MAP_LINES));
    assert_bites(too_long, "docs/adr/0001-a.md", &"\n".repeat(RECORD_LINES + 1), &"\n".repeat(RECORD_LINES));
}

#[test]
fn every_file_of_tests_is_compiled() {
    assert_kept(unused_tests);
}

#[test]
fn a_file_of_tests_that_is_not_compiled_is_found() {
    let [a, library] = ["tests/tests/a.rs", "tests/tests/library.rs"].map(|path| file(path, "mod b;\n"));
    assert_eq!(
        unused_tests(&[a, library]),
        ["tests/tests/a.rs is in no program", "tests/tests/library.rs is in no program"]
    );
    let [a, library] = ["tests/tests/a.rs", "tests/tests/library.rs"].map(|path| file(path, "mod a;\n"));
    let manifest = file("tests/Cargo.toml", "path = \"tests/library.rs\"\n");
    assert_eq!(unused_tests(&[a, library, manifest]), Vec::<String>::new());
}

#[test]
fn comments_are_no_wider_than_code() {
    assert_kept(wide_comments);
}

#[test]
fn a_wide_comment_is_found() {
    let comment = |width: usize| format!("    /// {}\n    /// | {} |\n", "é".repeat(width - 8), "a".repeat(width));
    assert_bites(wide_comments, "a.rs", &comment(LINE_WIDTH + 1), &comment(LINE_WIDTH));
}

#[test]
fn nothing_is_left_behind() {
    assert_kept(left_behind);
}

#[test]
fn a_thing_left_behind_is_found() {
    for needle in LEFT_BEHIND {
        assert_bites(left_behind, "a.rs", &format!("fn f() {{}}\n  {needle}(1)\n"), "fn f() {}\n");
    }
    assert_eq!(left_behind(&[file("scripts/a", &format!("\n# {}", LEFT_BEHIND[3]))]).len(), 1);
}

#[test]
fn no_retired_word_is_used() {
    assert_kept(retired_words);
}

#[test]
fn a_retired_word_is_found() {
    for word in RETIRED {
        let capital = format!("{}{}", word[..1].to_uppercase(), &word[1..]);
        for line in [format!("a {word}."), format!("fn last_{word}_of()"), format!("struct My{capital}Here;")] {
            assert_bites(retired_words, "a/b.rs", &line, "a name");
        }
        assert_eq!(retired_words(&[file(&format!("docs/only-{word}.md"), "")]).len(), 1);
    }
}

#[test]
fn nothing_is_tied_to_a_machine() {
    assert_kept(tied_to_a_machine);
}

#[test]
fn a_tie_to_a_machine_is_found() {
    for home in HOMES {
        assert_bites(tied_to_a_machine, "a.md", &format!("cd {home}/me"), "cd ../me");
        assert_bites(tied_to_a_machine, "a.md", &format!("cd {home}"), &format!("target{home}/me {home}s"));
    }
    for host in HOSTS {
        assert_bites(
            tied_to_a_machine,
            "a.toml",
            &format!("url = \"https://x.{host}org\""),
            "url = \"https://docs.rs\"",
        );
    }
    assert!(!names_home(&format!("{}/linuxbrew/.linuxbrew/bin", HOMES[2]), HOMES[2]));
}

#[test]
fn every_sql_file_is_used() {
    assert_kept(unused_sql);
}

#[test]
fn an_unused_sql_file_is_found() {
    let sql = || file("crates/pm-core/src/op/claim.sql", "");
    let user = |name: &str| file("crates/pm-core/src/op/claim.rs", &format!("include_str!(\n \"{name}\",\n)"));
    assert_eq!(unused_sql(&[sql()]).len(), 1);
    assert_eq!(unused_sql(&[sql(), user("settle.sql")]).len(), 1);
    assert!(unused_sql(&[sql(), user("claim.sql")]).is_empty());
    assert!(unused_sql(&[sql(), user("../op/./claim.sql")]).is_empty());
}

#[test]
fn every_sql_file_states_what_it_locks_and_costs() {
    assert_kept(sql_without_header);
}

#[test]
fn sql_without_a_header_is_found() {
    let header = "-- Reads.\n-- Locks: none.\n-- Concurrency: safe.\n-- Index: job_id.\n-- Cost: constant.\nselect 1\n";
    let path = "crates/pm-core/src/op/a.sql";
    for heading in SQL_HEADINGS {
        assert_bites(sql_without_header, path, &header.replace(heading, "-- Else:"), header);
    }
    assert_bites(sql_without_header, path, &header.replace(" job_id.", ""), header);
    assert_bites(sql_without_header, path, &format!("select 0;\n{header}"), header);
}

#[test]
fn the_changelog_keeps_its_form() {
    assert_kept(changelog_form);
}

#[test]
fn a_malformed_changelog_is_found() {
    let good = "# Changelog\n\n## [Unreleased]\n\n### Added\n\n* x\n\n## [0.1.0] - 2026-01-31\n";
    let bite = |from: &str, to: &str| assert_bites(changelog_form, "CHANGELOG.md", &good.replace(from, to), good);
    bite("# Changelog", "# Changes");
    bite("## [Unreleased]", "## [0.2.0] - 2026-02-01");
    bite("### Added", "### New");
    bite("[0.1.0] - 2026-01-31", "0.1.0");
    bite("2026-01-31", "26-1-31");
    bite("[0.1.0]", "[0.1]");
    assert_eq!(changelog_form(&[]).len(), 1);
}

#[test]
fn decision_records_keep_their_form() {
    assert_kept(record_form);
}

#[test]
fn a_malformed_decision_record_is_found() {
    let good = "# 0001: Title\n\n## Context\n\n## Decision\n\n## What we lose\n";
    let bite = |from: &str, to: &str| assert_bites(record_form, "docs/adr/0001-a.md", &good.replace(from, to), good);
    bite("# 0001: Title", "# Title");
    bite("## Context\n", "");
    bite("## What we lose", "## Consequences");
    assert_eq!(record_form(&[file("docs/adr/0002-a.md", good)]).len(), 1, "its name does not match its title");
    let twice = [file("docs/adr/0001-a.md", good), file("docs/adr/0001-b.md", good)];
    assert!(!record_form(&twice).is_empty(), "a number is used twice");
}

#[test]
fn scripts_keep_their_form() {
    assert_kept(script_form);
}

#[test]
fn a_malformed_script_is_found() {
    let good = "#!/usr/bin/env bash\n# Says hello.\nset -euo pipefail\necho hello\n";
    let bite = |from: &str, to: &str| assert_bites(script_form, "scripts/a", &good.replace(from, to), good);
    bite("set -euo pipefail", "set -e");
    bite("#!/usr/bin/env bash\n", "");
    assert_eq!(script_form(&[File { executable: false, ..file(".ci/run", good) }]).len(), 1);
}

#[test]
fn everything_is_licensed() {
    assert_kept(unlicensed);
}

#[test]
fn a_missing_licence_is_found() {
    let licences = || LICENCES.map(|name| file(name, "text"));
    assert!(unlicensed(&licences()).is_empty());
    assert_eq!(unlicensed(&licences()[1..]).len(), 1);
    let with = |manifest: &str| {
        let [mit, apache] = licences();
        unlicensed(&[mit, apache, file("crates/a/Cargo.toml", manifest)]).len()
    };
    assert_eq!(with("[package]\nname = \"a\"\n"), 1);
    assert_eq!(with("[package]\nlicense.workspace = true\n"), 0);
}

#[test]
fn pages_name_only_paths_that_exist() {
    assert_kept(dead_paths);
}

#[test]
fn a_dead_path_is_found() {
    let with = |text: &str| dead_paths(&[file("A.md", text), file("docs/adr/0001-a.md", "")]).len();
    assert_eq!(with("see `docs/adr/0002-b.md`"), 1);
    assert_eq!(with("see [b](docs/adr/0002-b.md)"), 1);
    assert_eq!(with("see `docs/adr/` and [a](docs/adr/0001-a.md) and `docs/adr/NNNN-title.md`"), 0);
}
