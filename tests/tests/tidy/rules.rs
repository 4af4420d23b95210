//! The rules: functions that take the files of the tree and return what is wrong.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

/// Longest source file, in lines.
pub(crate) const SOURCE_LINES: usize = 600;
/// Widest comment, in characters, as `rustfmt.toml` has it for code.
pub(crate) const LINE_WIDTH: usize = 120;
/// Longest ARCHITECTURE.md, in lines.
pub(crate) const MAP_LINES: usize = 150;
/// Longest decision record, in lines: one page.
pub(crate) const RECORD_LINES: usize = 70;

pub(crate) const SQL_HEADINGS: [&str; 4] = ["-- Locks:", "-- Concurrency:", "-- Index:", "-- Cost:"];
const RECORD_HEADINGS: [&str; 3] = ["## Context", "## Decision", "## What we lose"];
const CHANGE_HEADINGS: [&str; 6] = ["Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"];
pub(crate) const LICENCES: [&str; 2] = ["LICENSE-MIT", "LICENSE-APACHE"];

// Needles are written in two pieces, so that this file does not find itself.
pub(crate) const LEFT_BEHIND: [&str; 4] =
    [concat!("to", "do!"), concat!("db", "g!"), concat!("unimple", "mented!"), concat!("FIX", "ME")];
pub(crate) const HOMES: [&str; 4] =
    [concat!("/ro", "ot"), concat!("/wo", "rk"), concat!("/ho", "me"), concat!("/Us", "ers")];
pub(crate) const HOSTS: [&str; 5] = [
    concat!("crates", ".io"),
    concat!("py", "pi."),
    concat!("python", "hosted."),
    concat!("npm", "js."),
    concat!("debian", ".org"),
];

/// Words of pm's earlier dialect, in pieces; `docs/glossary.md` has what is used instead.
pub(crate) const RETIRED: [&str; 24] = [
    concat!("tick", "et"),
    concat!("tick", "ets"),
    concat!("sleep", "er"),
    concat!("sleep", "ers"),
    concat!("un", "heard"),
    concat!("de", "af"),
    concat!("de", "ed"),
    concat!("de", "eds"),
    concat!("do", "ings"),
    concat!("wi", "sh"),
    concat!("wi", "shes"),
    concat!("con", "demn"),
    concat!("sw", "eep"),
    concat!("sw", "ept"),
    concat!("pro", "long"),
    concat!("pro", "longs"),
    concat!("un", "tried"),
    concat!("be", "fall"),
    concat!("home", "less"),
    concat!("doo", "med"),
    concat!("la", "ne"),
    concat!("la", "nes"),
    concat!("pat", "ience"),
    concat!("ent", "rant"),
];

/// A text file of the tree.
pub(crate) struct File {
    /// From the root of the repository, with `/`.
    pub(crate) path: String,
    pub(crate) text: String,
    pub(crate) executable: bool,
}

impl File {
    fn has_extension(&self, extension: &str) -> bool {
        Path::new(&self.path).extension().is_some_and(|it| it == extension)
    }

    fn is_script(&self) -> bool {
        self.path.starts_with("scripts/") || self.path.starts_with(".ci/")
    }
}

pub(crate) fn too_long(files: &[File]) -> Vec<String> {
    let bound = |file: &File| match file.path.as_str() {
        "ARCHITECTURE.md" => Some(MAP_LINES),
        path if path.starts_with("docs/adr/") => Some(RECORD_LINES),
        _ if file.has_extension("rs") || file.has_extension("sql") => Some(SOURCE_LINES),
        _ => None,
    };
    let mut found = Vec::new();
    for file in files {
        let lines = file.text.lines().count();
        if let Some(bound) = bound(file).filter(|bound| lines > *bound) {
            found.push(format!("{}: {lines} lines, at most {bound}", file.path));
        }
    }
    found
}

/// Finds files of tests that no program contains: neither a module of `library` nor a program of their own.
pub(crate) fn unused_tests(files: &[File]) -> Vec<String> {
    let text = |path: &str| files.iter().find(|file| file.path == path).map_or("", |file| &file.text);
    let (library, manifest) = (text("tests/tests/library.rs"), text("tests/Cargo.toml"));
    let names = files.iter().filter_map(|file| file.path.strip_prefix("tests/tests/")?.strip_suffix(".rs"));
    let is_unused = |name: &&str| {
        !name.contains('/')
            && !library.contains(&format!("mod {name};\n"))
            && !manifest.contains(&format!("\"tests/{name}.rs\""))
    };
    names.filter(is_unused).map(|name| format!("tests/tests/{name}.rs is in no program")).collect()
}

/// Finds comments of Rust that are wider than code may be: rustfmt does not break them. Rows of tables cannot be
/// broken.
pub(crate) fn wide_comments(files: &[File]) -> Vec<String> {
    let is_wide = |line: &str| {
        let comment = line.trim_start().strip_prefix("//")?.trim_start_matches(['/', '!', ' ']);
        let width = line.chars().count();
        (width > LINE_WIDTH && !comment.starts_with('|')).then(|| format!("{width} characters"))
    };
    files.iter().filter(|file| file.has_extension("rs")).flat_map(|file| lines_with(file, is_wide)).collect()
}

pub(crate) fn left_behind(files: &[File]) -> Vec<String> {
    let is_code = |file: &&File| file.has_extension("rs") || file.has_extension("sql") || file.is_script();
    let find = |line: &str| LEFT_BEHIND.iter().find(|needle| line.contains(**needle)).map(ToString::to_string);
    files.iter().filter(is_code).flat_map(|file| lines_with(file, find)).collect()
}

/// Finds retired words, also as a part of a name or of a path. The changelog quotes the past.
pub(crate) fn retired_words(files: &[File]) -> Vec<String> {
    let is_prose_or_code = |file: &&File| {
        let extensions = ["rs", "sql", "md", "toml", "sh"];
        let has_words = extensions.iter().any(|extension| file.has_extension(extension)) || file.is_script();
        has_words && file.path != "CHANGELOG.md"
    };
    let find = |line: &str| words(line).into_iter().find(|word| RETIRED.contains(&word.as_str()));
    let paths = files.iter().filter_map(|file| find(&file.path).map(|word| format!("{}: {word}", file.path)));
    paths.chain(files.iter().filter(is_prose_or_code).flat_map(|file| lines_with(file, find))).collect()
}

/// Returns the words of a line in lower case; names are split at underscores and capitals.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut was_lower = false;
    for c in line.chars() {
        if !c.is_alphabetic() || (was_lower && c.is_uppercase()) {
            words.push(String::new());
        }
        if c.is_alphabetic() {
            words.last_mut().expect("the list starts with one").extend(c.to_lowercase());
        }
        was_lower = c.is_lowercase();
    }
    words
}

/// Finds absolute paths of a developer's machine, and host names of package registries.
pub(crate) fn tied_to_a_machine(files: &[File]) -> Vec<String> {
    let find = |line: &str| {
        let host = HOSTS.iter().find(|host| line.contains(**host));
        let home = HOMES.iter().find(|home| names_home(line, home));
        host.or(home).map(ToString::to_string)
    };
    files.iter().filter(|file| !file.path.ends_with("Cargo.lock")).flat_map(|file| lines_with(file, find)).collect()
}

/// Returns whether the line names a path under `home`. Homebrew's fixed path on Linux does not count.
pub(crate) fn names_home(line: &str, home: &str) -> bool {
    line.match_indices(home).any(|(at, _)| {
        let begins = !line[..at].ends_with(|c: char| c.is_alphanumeric() || "._-}*~$/".contains(c));
        let rest = &line[at + home.len()..];
        let ends = !rest.starts_with(|c: char| c.is_alphanumeric() || "._-".contains(c));
        begins && ends && !rest.starts_with("/linuxbrew")
    })
}

pub(crate) fn unused_sql(files: &[File]) -> Vec<String> {
    let in_core = |file: &&File| file.path.starts_with("crates/pm-core/");
    let mut used = BTreeSet::new();
    for file in files.iter().filter(in_core).filter(|file| file.has_extension("rs")) {
        let dir = Path::new(&file.path).parent().unwrap_or(Path::new(""));
        for call in file.text.split("include_str!(").skip(1) {
            if let Some(name) = call.trim_start().strip_prefix('"').and_then(|rest| rest.split('"').next()) {
                used.insert(normal(&dir.join(name)));
            }
        }
    }
    let sql = files.iter().filter(in_core).filter(|file| file.has_extension("sql"));
    sql.filter(|file| !used.contains(Path::new(&file.path)))
        .map(|file| format!("{}: no include_str! uses it", file.path))
        .collect()
}

/// Finds statements that do not state what they lock and cost. A list of columns (`*_columns.sql`) is not a statement.
pub(crate) fn sql_without_header(files: &[File]) -> Vec<String> {
    let is_statement = |file: &&File| {
        file.path.starts_with("crates/pm-core/") && file.has_extension("sql") && !file.path.ends_with("_columns.sql")
    };
    let mut found = Vec::new();
    for file in files.iter().filter(is_statement) {
        let header: Vec<&str> = file.text.lines().take_while(|line| line.starts_with("--")).collect();
        for heading in SQL_HEADINGS {
            let is_filled = |line: &&str| line.strip_prefix(heading).is_some_and(|rest| !rest.trim().is_empty());
            if !header.iter().any(is_filled) {
                found.push(format!("{}: its opening comment has no line `{heading} …`", file.path));
            }
        }
    }
    found
}

pub(crate) fn changelog_form(files: &[File]) -> Vec<String> {
    let Some(file) = files.iter().find(|file| file.path == "CHANGELOG.md") else {
        return vec!["CHANGELOG.md: missing".into()];
    };
    let mut found = Vec::new();
    let mut releases = file.text.lines().filter_map(|line| line.strip_prefix("## "));
    if !file.text.starts_with("# Changelog\n") {
        found.push("CHANGELOG.md: does not open with `# Changelog`".into());
    }
    if releases.next() != Some("[Unreleased]") {
        found.push("CHANGELOG.md: the first release is not `## [Unreleased]`".into());
    }
    for release in releases.filter(|release| !is_release(release)) {
        found.push(format!("CHANGELOG.md: `## {release}` is not `## [1.2.3] - 2026-01-31`"));
    }
    for change in file.text.lines().filter_map(|line| line.strip_prefix("### ")) {
        if !CHANGE_HEADINGS.contains(&change) {
            found.push(format!("CHANGELOG.md: `### {change}` is none of {CHANGE_HEADINGS:?}"));
        }
    }
    found
}

/// Returns whether the text looks like `[1.2.3] - 2026-01-31`.
fn is_release(text: &str) -> bool {
    let numbers = |text: &str, separator: char, widths: &[usize]| {
        let parts: Vec<&str> = text.split(separator).collect();
        let fits = |(part, width): (&&str, &usize)| {
            part.bytes().all(|b| b.is_ascii_digit()) && !part.is_empty() && (*width == 0 || part.len() == *width)
        };
        parts.len() == widths.len() && parts.iter().zip(widths).all(fits)
    };
    let Some((version, date)) = text.strip_prefix('[').and_then(|rest| rest.split_once("] - ")) else {
        return false;
    };
    numbers(version, '.', &[0, 0, 0]) && numbers(date, '-', &[4, 2, 2])
}

pub(crate) fn record_form(files: &[File]) -> Vec<String> {
    let mut found = Vec::new();
    let records = files.iter().filter(|file| file.path.starts_with("docs/adr/"));
    let mut last = 0;
    for record in records {
        let path = &record.path;
        let number: u32 = path["docs/adr/".len()..].get(..4).and_then(|digits| digits.parse().ok()).unwrap_or_default();
        if !path.starts_with(&format!("docs/adr/{number:04}-")) || !record.has_extension("md") {
            found.push(format!("{path}: a record is named docs/adr/0001-title.md"));
        }
        // Records written at the same time are merged in any order: numbers may be missing, but none is used twice.
        if number <= last {
            found.push(format!("{path}: record {number} comes after record {last}"));
        }
        last = number;
        if !record.text.starts_with(&format!("# {number:04}: ")) {
            found.push(format!("{path}: does not open with `# {number:04}: Title`"));
        }
        let headings: Vec<&str> = record.text.lines().filter(|line| line.starts_with("## ")).collect();
        if headings != RECORD_HEADINGS {
            found.push(format!("{path}: its headings are {headings:?}, not {RECORD_HEADINGS:?}"));
        }
    }
    found
}

pub(crate) fn script_form(files: &[File]) -> Vec<String> {
    let mut found = Vec::new();
    for file in files.iter().filter(|file| file.is_script()) {
        let path = &file.path;
        if !file.executable {
            found.push(format!("{path}: is not executable"));
        }
        if !file.text.starts_with("#!/usr/bin/env ") {
            found.push(format!("{path}: does not open with `#!/usr/bin/env …`"));
        }
        let is_bash = file.text.lines().next().is_some_and(|line| line.ends_with("bash"));
        if is_bash && !file.text.lines().any(|line| line == "set -euo pipefail") {
            found.push(format!("{path}: has no line `set -euo pipefail`"));
        }
    }
    found
}

pub(crate) fn unlicensed(files: &[File]) -> Vec<String> {
    let mut found = Vec::new();
    for licence in LICENCES {
        if !files.iter().any(|file| file.path == licence && !file.text.trim().is_empty()) {
            found.push(format!("{licence}: missing or empty"));
        }
    }
    for file in files.iter().filter(|file| file.path.ends_with("Cargo.toml") && file.text.contains("[package]")) {
        if !file.text.lines().any(|line| line == "license.workspace = true" || line.starts_with("license = ")) {
            found.push(format!("{}: names no licence", file.path));
        }
    }
    found
}

/// Finds paths of the tree that a page names, in backticks or as a link, and that do not exist.
pub(crate) fn dead_paths(files: &[File]) -> Vec<String> {
    let exists = |path: &str| {
        let path = path.trim_end_matches('/');
        let below = format!("{path}/");
        files.iter().any(|file| file.path == path || file.path.starts_with(&below))
    };
    let named = |text: &&str| {
        ["crates/", "docs/", "scripts/", "tests/"].iter().any(|dir| text.starts_with(dir))
            && !text.contains("NNNN")
            && !text.contains(' ')
    };
    let find = |line: &str| {
        let dead = line.split(['`', '(', ')']).filter(named).find(|path| !exists(path));
        dead.map(|path| format!("{path} does not exist"))
    };
    files.iter().filter(|file| file.has_extension("md")).flat_map(|file| lines_with(file, find)).collect()
}

/// Returns `path:line: what` for each line in which `find` finds something.
fn lines_with(file: &File, find: impl Fn(&str) -> Option<String>) -> Vec<String> {
    let found = |(at, line): (usize, &str)| find(line).map(|what| format!("{}:{}: {what}", file.path, at + 1));
    file.text.lines().enumerate().filter_map(found).collect()
}

/// Resolves `..` and `.` without asking the file system.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => _ = normal.pop(),
            Component::CurDir => {}
            part => normal.push(part),
        }
    }
    normal
}
