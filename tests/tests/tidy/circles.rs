//! The rule that no files of a crate import each other in a circle.
//!
//! A file imports what it names in a `use`, or in a path that begins with `crate`, `super`, `self` or a module that it
//! declares. A name that a module only re-exports (`pub use`, also with `*`) and a macro that the crate exports count
//! as the file that defines them, so that a `mod.rs` of declarations and re-exports is in no circle. Tests at the end
//! of a file do not count, and neither does the type of the parent module for which a file has an `impl`: such a file
//! is a part of its parent, in a file for itself.

use crate::rules::File;
use crate::{assert_kept, file};
use std::collections::{BTreeMap, BTreeSet};

/// A module as the names that lead to it from the root of the crate.
type Module = Vec<String>;

/// What a file names.
#[derive(Default)]
struct Names {
    file: String,
    imports: Vec<Vec<String>>,
    /// The names that it re-exports, and what they stand for.
    exports: BTreeMap<String, Vec<String>>,
    /// The modules of which it re-exports every name.
    globs: Vec<Vec<String>>,
    /// The items that it defines.
    items: BTreeSet<String>,
    /// Its macros, which `crate` names if they are exported.
    macros: BTreeSet<String>,
}

fn circles(files: &[File]) -> Vec<String> {
    let sources = files.iter().filter_map(|file| Some(file.path.strip_prefix("crates/")?.split_once("/src/")?.0));
    let crates: BTreeSet<&str> = sources.collect();
    crates.iter().flat_map(|name| circles_of(&modules(files, &format!("crates/{name}/src/")))).collect()
}

fn circles_of(modules: &BTreeMap<Module, Names>) -> Vec<String> {
    let edges: BTreeMap<&Module, BTreeSet<&Module>> = modules
        .iter()
        .map(|(at, names)| {
            let found = names.imports.iter().filter_map(|path| resolve(modules, at, path));
            (at, found.filter(|found| *found != at).collect())
        })
        .collect();
    let reached: BTreeMap<&Module, BTreeSet<&Module>> = edges.keys().map(|at| (*at, reachable(&edges, at))).collect();
    let mut circles = BTreeSet::new();
    for (at, below) in reached.iter().filter(|(at, below)| below.contains(*at)) {
        let others = below.iter().filter(|other| reached[*other].contains(at));
        circles.insert(others.map(|module| modules[*module].file.as_str()).collect::<Vec<_>>());
    }
    circles.into_iter().map(|files| format!("{}: import each other in a circle", files.join(", "))).collect()
}

fn reachable<'a>(edges: &BTreeMap<&'a Module, BTreeSet<&'a Module>>, from: &Module) -> BTreeSet<&'a Module> {
    let mut found = BTreeSet::new();
    let mut remaining: Vec<&Module> = edges[from].iter().copied().collect();
    while let Some(module) = remaining.pop() {
        if found.insert(module) {
            remaining.extend(&edges[module]);
        }
    }
    found
}

/// Returns the module whose file defines what a path in module `at` stands for, if it is one of the crate.
fn resolve<'a>(modules: &'a BTreeMap<Module, Names>, at: &Module, path: &[String]) -> Option<&'a Module> {
    let mut module = at.clone();
    let mut rest = path;
    match path.first()?.as_str() {
        "crate" => (module, rest) = (Module::new(), &path[1..]),
        "super" | "self" => {
            while let [first, more @ ..] = rest
                && (first == "super" || first == "self")
            {
                module.truncate(module.len() - usize::from(first == "super"));
                rest = more;
            }
        }
        child if !modules.contains_key(&with(&module, child)) => return None,
        _ => {}
    }
    while let [first, more @ ..] = rest
        && modules.contains_key(&with(&module, first))
    {
        module.push(first.clone());
        rest = more;
    }
    let (found, names) = modules.get_key_value(&module)?;
    let Some((name, more)) = rest.split_first() else { return Some(found) };
    if let Some(path) = names.exports.get(name) {
        return resolve(modules, found, &[path, more].concat()).or(Some(found));
    }
    let mut of_globs = names.globs.iter().filter_map(|path| resolve(modules, found, path));
    let of_macro = || modules.iter().find(|(_, names)| module.is_empty() && names.macros.contains(name));
    of_globs.find(|module| modules[*module].items.contains(name)).or_else(|| Some(of_macro()?.0)).or(Some(found))
}

fn with(module: &Module, child: &str) -> Module {
    module.iter().map(String::as_str).chain([child]).map(str::to_owned).collect()
}

/// Returns the modules of the crate whose sources are in this directory.
fn modules(files: &[File], directory: &str) -> BTreeMap<Module, Names> {
    let mut sources = BTreeMap::new();
    for file in files {
        let path = file.path.strip_prefix(directory).and_then(|path| path.strip_suffix(".rs"));
        if let Some(path) = path.filter(|path| *path != "main") {
            let module = path.strip_suffix("/mod").unwrap_or(path).split('/').filter(|name| *name != "lib");
            sources.insert(module.map(str::to_owned).collect::<Module>(), file);
        }
    }
    let names = |(at, file): (&Module, &&File)| {
        let below = sources.keys().filter_map(|module| module.split_last());
        let children = below.filter(|(_, parent)| parent == at).map(|(name, _)| name.as_str()).collect();
        (at.clone(), names(&file.path, &file.text, &children))
    };
    sources.iter().map(names).collect()
}

fn names(file: &str, text: &str, children: &BTreeSet<&str>) -> Names {
    let mut names = Names { file: file.to_owned(), ..Names::default() };
    let tokens = tokens(text);
    let subjects: BTreeSet<&str> = tokens.windows(2).filter(|pair| pair[0] == "impl").map(|pair| pair[1]).collect();
    let is_own = |path: &[String]| matches!(path, [parent, name] if parent == "super" && subjects.contains(&**name));
    let defined = |keywords: &[&str], at: usize| {
        let named = tokens.windows(at + 1).filter(|window| keywords.contains(&window[0])).map(|window| window[at]);
        named.map(str::to_owned).collect()
    };
    names.items = defined(&["struct", "enum", "trait", "type", "fn", "const", "static"], 1);
    names.macros = defined(&["macro_rules"], 2);
    let (mut at, mut code) = (0, BTreeSet::new());
    while at < tokens.len() {
        let before = |back: usize| at.checked_sub(back).map_or("", |at| tokens[at]);
        let is_visibility = before(1) == "in" && before(3) == "pub";
        let is_head = ["crate", "super", "self"].contains(&tokens[at]) || children.contains(tokens[at]);
        if tokens[at] == "use" {
            let end = tokens[at..].iter().position(|token| *token == ";").map_or(tokens.len(), |length| at + length);
            let paths = expanded(&mut tokens[at + 1..end].iter().copied(), &[]);
            match before(1) == "pub" || before(1) == ")" {
                true => {
                    let (globs, exports): (Vec<_>, Vec<_>) = paths.into_iter().partition(|(name, _)| name == "*");
                    names.globs.extend(globs.into_iter().map(|(_, path)| path[..path.len() - 1].to_vec()));
                    names.exports.extend(exports);
                }
                false => names.imports.extend(paths.into_iter().map(|(_, path)| path).filter(|path| !is_own(path))),
            }
            at = end;
            continue;
        }
        code.insert(tokens[at]);
        if is_head && !is_visibility && ![".", "::"].contains(&before(1)) {
            let length = tokens[at..].chunks(2).take_while(|pair| pair.get(1) == Some(&"::")).count();
            if length > 0 {
                let path = tokens[at..].iter().step_by(2).take(length + 1);
                names.imports.push(path.map(|name| (*name).to_owned()).collect());
            }
            at += 2 * length + 1;
        } else {
            at += 1;
        }
    }
    // What it re-exports and uses itself, it imports.
    let used = names.exports.iter().filter(|(name, _)| code.contains(name.as_str()));
    names.imports.extend(used.map(|(_, path)| path.clone()));
    names
}

/// Returns the paths of the tree of a `use`, each with the name that it gets.
fn expanded<'a>(tokens: &mut impl Iterator<Item = &'a str>, prefix: &[String]) -> Vec<(String, Vec<String>)> {
    let (mut all, mut path, mut name) = (Vec::new(), prefix.to_vec(), None);
    loop {
        let token = tokens.next();
        match token {
            Some("::") => {}
            Some("as") => name = tokens.next().map(str::to_owned),
            Some("{") => {
                all.extend(expanded(tokens, &path));
                path.truncate(prefix.len());
            }
            Some("self") if !path.is_empty() && path == prefix => {
                all.extend(path.last().map(|last| (last.clone(), path.clone())));
            }
            Some("," | "}") | None => {
                if let Some(last) = path[prefix.len()..].last() {
                    all.push((name.take().unwrap_or(last.clone()), path.clone()));
                    path.truncate(prefix.len());
                }
                if token != Some(",") {
                    return all;
                }
            }
            Some(part) => path.push(part.to_owned()),
        }
    }
}

/// Returns the names and the punctuation of a source, up to its tests; without comments, strings and characters.
fn tokens(text: &str) -> Vec<&str> {
    let mut tokens: Vec<&str> = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            'r' if rest.starts_with("r\"") || rest.starts_with("r#\"") => {
                let end = if rest.starts_with("r#") { "\"#" } else { "\"" };
                3 + rest[3..].find(end).map_or(rest.len() - 3, |at| at + end.len())
            }
            'r' if rest.starts_with("r#") => 2,
            '"' => quoted(rest, '"'),
            '\'' if rest[1..].starts_with('\\') || rest.chars().nth(2) == Some('\'') => quoted(rest, '\''),
            ':' if rest.starts_with("::") => {
                tokens.push("::");
                2
            }
            _ => {
                let name = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
                let length = if name == 0 { first.len_utf8() } else { name };
                tokens.extend(Some(&rest[..length]).filter(|token| !token.trim().is_empty()));
                length
            }
        };
        rest = &rest[length..];
        let is_of_tests = |tests: &[&str]| tokens.ends_with(tests);
        if is_of_tests(&["cfg", "(", "test", ")", "]", "mod"])
            || is_of_tests(&["cfg", "(", "test", ")", "]", "pub", "(", "super", ")", "mod"])
        {
            break;
        }
    }
    tokens
}

/// Returns the length of a literal that begins with this quote.
fn quoted(text: &str, quote: char) -> usize {
    let mut is_escaped = false;
    let end = text.char_indices().skip(1).find(|(_, c)| {
        let is_end = *c == quote && !is_escaped;
        is_escaped = *c == '\\' && !is_escaped;
        is_end
    });
    end.map_or(text.len(), |(at, _)| at + 1)
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    assert_kept(circles);
}

#[test]
fn a_circle_of_imports_is_found() {
    let path = |name: &str| format!("crates/pm-cli/src/{name}");
    let with = |sources: [(&str, &str); 4]| circles(&sources.map(|(name, text)| file(&path(name), text)));
    let (lib, shared) = ("mod a;\nmod b;\npub use a::A;\n", "pub mod c;\nfn f() { c::go() }\n");
    let good = [("lib.rs", lib), ("a.rs", "use crate::b::{c, c::C as D};\n"), ("b/mod.rs", shared), ("b/c.rs", "")];
    assert_eq!(with(good), Vec::<String>::new());
    for back in [
        "use crate::A;",
        "use crate::{\n    A,\n};",
        "use super::super::a;",
        "fn f() -> char { '\"'; crate::a::f() }",
        "use super::f;",
        "fn f() { super::f(); }",
        "use super::{self, x};",
    ] {
        let mut bad = good;
        bad[3].1 = back;
        assert_eq!(with(bad).len(), 1, "{back}");
    }
    for fine in [
        "// use crate::a;",
        "const TEXT: &str = \"crate::a::f\";",
        "pub(in crate::a) struct A;",
        "#[cfg(test)]\nmod tests {\n    use crate::a;\n}",
        "use other::a;",
    ] {
        let mut good = good;
        good[3].1 = fine;
        assert_eq!(with(good), Vec::<String>::new(), "{fine}");
    }
}

#[test]
fn a_module_of_re_exports_is_in_no_circle() {
    let tree = |parent: &str, child: &str| {
        let files = [("lib.rs", "mod a;"), ("a/mod.rs", parent), ("a/b.rs", child), ("a/c.rs", "")];
        circles(&files.map(|(name, text)| file(&format!("crates/pm-cli/src/{name}"), text)))
    };
    let reexports = "mod b;\nmod c;\npub(crate) use b::B;\npub(crate) use c::{C, X as Y};\n";
    assert_eq!(tree(reexports, "use super::C;"), Vec::<String>::new());
    let parent = "mod b;\nmod c;\nuse b::B;\nstruct C;\n";
    assert_eq!(tree(parent, "use super::C;").len(), 1);
    assert_eq!(tree(parent, "use super::C;\nimpl C {\n}\n"), Vec::<String>::new());
    assert_eq!(tree(parent, "use super::{C, D};\nimpl C {\n}\n").len(), 1);
}

#[test]
fn a_name_behind_a_glob_or_of_an_exported_macro_is_found() {
    let tree = |parent: &str, sibling: &str| {
        let child = "use crate::s::f;\npub struct D;\nmacro_rules! m { () => {} }\n";
        let files = [("lib.rs", "mod a;\nmod s;"), ("a/mod.rs", parent), ("a/d.rs", child), ("s.rs", sibling)];
        circles(&files.map(|(name, text)| file(&format!("crates/pm-cli/src/{name}"), text)))
    };
    let all = "mod d;\npub use d::*;\n";
    for back in ["use crate::a::D;", "fn f(d: crate::a::D) {}", "use crate::m;"] {
        assert_eq!(tree(all, back).len(), 1, "{back}");
    }
    assert_eq!(tree(all, "use crate::a::Other;"), Vec::<String>::new());
    let user = "mod d;\npub use d::D;\nstruct E(D);\n";
    assert_eq!(tree("mod d;\npub use d::D;\nstruct E;\n", "use crate::a::E;"), Vec::<String>::new());
    assert_eq!(tree(user, "use crate::a::E;").len(), 1);
}
