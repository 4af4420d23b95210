//! The password file and the service file, read as libpq does.

use super::parameters::{Origin, Parameters, known, unknown};
use super::surroundings::Surroundings;
use crate::Error;
use std::io;
use std::path::PathBuf;

/// The login that a line of the password file has to match.
pub(super) struct Login<'a> {
    /// The names under which the host may be listed.
    pub(super) hosts: &'a [&'a str],
    pub(super) port: u16,
    pub(super) database: &'a str,
    pub(super) user: &'a str,
}

/// Returns the password of the first matching line.
pub(super) fn password(text: &str, login: &Login<'_>) -> Option<String> {
    let port = login.port.to_string();
    text.lines().filter(|line| !line.starts_with('#')).find_map(|line| {
        let fields = fields(line.strip_suffix('\r').unwrap_or(line));
        let [host, its_port, database, user, password, ..] = &fields[..] else { return None };
        let is_host = host.as_written == "*" || login.hosts.contains(&host.meant.as_str());
        let rest = [(its_port, port.as_str()), (database, login.database), (user, login.user)];
        let matches = is_host && rest.iter().all(|(field, value)| field.as_written == "*" || field.meant == *value);
        (matches && !password.meant.is_empty()).then(|| password.meant.clone())
    })
}

#[derive(Default)]
struct Field {
    as_written: String,
    meant: String,
}

/// Splits a line at its colons; a backslash escapes the next character.
fn fields(line: &str) -> Vec<Field> {
    let mut fields = vec![Field::default()];
    let mut characters = line.chars();
    while let Some(c) = characters.next() {
        if c == ':' {
            fields.push(Field::default());
            continue;
        }
        let meant = if c == '\\' { characters.next().unwrap_or(c) } else { c };
        if let Some(field) = fields.last_mut() {
            // An escaped star is not a wildcard.
            field.as_written.push_str(if c == '\\' { "\\" } else { "" });
            field.as_written.push(meant);
            field.meant.push(meant);
        }
    }
    fields
}

/// Adds the parameters of the service that the connection string or `PGSERVICE` names, if any. Errors: `Invalid` when
/// the service is not defined, or its definition cannot be parsed.
pub(super) fn add_service(found: &mut Parameters, surroundings: &dyn Surroundings) -> Result<(), Error> {
    let named = found.filled("service").map(str::to_owned);
    let Some(service) = named.or_else(|| set(surroundings, "PGSERVICE")) else { return Ok(()) };
    let explicit = found.filled("servicefile").map(str::to_owned).or_else(|| set(surroundings, "PGSERVICEFILE"));
    let mut paths = vec![match explicit {
        Some(path) => Some(PathBuf::from(path)),
        None => surroundings.home().map(|home| home.join(".pg_service.conf")),
    }];
    match set(surroundings, "PGSYSCONFDIR") {
        Some(directory) => paths.push(Some(PathBuf::from(directory).join("pg_service.conf"))),
        None => paths.extend(SYSTEM_WIDE.map(|directory| Some(PathBuf::from(directory).join("pg_service.conf")))),
    }
    for path in paths.iter().flatten() {
        let text = match surroundings.read(path) {
            Ok(text) => text,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => continue,
            Err(error) => return Err(Error::invalid(format!("cannot read {}: {error}", path.display()))),
        };
        if let Some(lines) = section(&text, &service) {
            let source = format!("the service \"{service}\" in {}", path.display());
            return lines.iter().try_for_each(|line| add_line(line, &service, &source, found));
        }
    }
    let searched: Vec<_> = paths.iter().flatten().map(|path| path.display().to_string()).collect();
    Err(Error::invalid(format!("the service \"{service}\" is not defined in {}", searched.join(" or "))))
}

/// The directories of the system-wide service file: libpq's directory depends on how it was built.
const SYSTEM_WIDE: [&str; 2] = ["/etc/postgresql-common", "/etc/sysconfig/pgsql"];

fn add_line(line: &str, service: &str, source: &str, found: &mut Parameters) -> Result<(), Error> {
    let Some((name, value)) = line.split_once('=') else {
        return Err(Error::invalid(format!("{source} has a line without =")));
    };
    match known(name.trim_end()) {
        Some("service" | "servicefile") => Err(Error::invalid(format!("{source} refers to another service"))),
        Some(name) => {
            found.set_default(name, value.trim_start().to_owned(), Origin::Service(service.to_owned()));
            Ok(())
        }
        None => Err(unknown(name.trim_end(), source)),
    }
}

/// Returns the lines of a section, if it exists.
fn section<'a>(text: &'a str, name: &str) -> Option<Vec<&'a str>> {
    let heading = |line: &str| line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) == Some(name);
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let mut rest = lines.skip_while(|line| !heading(line));
    rest.next()?;
    Some(rest.take_while(|line| !line.starts_with('[')).collect())
}

/// Returns a variable that is set and not empty.
pub(super) fn set(surroundings: &dyn Surroundings, name: &str) -> Option<String> {
    surroundings.variable(name).filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Option<String> {
        let login = Login { hosts: &["db.example.org"], port: 5432, database: "app", user: "ada" };
        password(text, &login)
    }

    #[test]
    fn the_first_matching_line_has_the_password() {
        for (text, expected) in [
            ("db.example.org:5432:app:ada:hunter2", Some("hunter2")),
            ("#db.example.org:5432:app:ada:no\n*:*:*:*:yes", Some("yes")),
            ("db.example.org:5433:app:ada:no\r\ndb.example.org:*:*:ada:yes\r\n", Some("yes")),
            ("*:*:*:ada:first\n*:*:*:*:second", Some("first")),
            ("*:*:*:*:a\\:b\\\\c", Some("a:b\\c")),
            ("*:*:*:*:a:b", Some("a")),
            ("\\*:*:*:*:x", None),
            ("other:*:*:*:x", None),
            ("*:*:*:*", None),
            ("*:*:*:*:", None),
            ("", None),
        ] {
            assert_eq!(found(text).as_deref(), expected, "{text:?}");
        }
        let odd = Login { hosts: &["/tmp/a:b", "localhost"], port: 1, database: "a\\b", user: "*" };
        assert_eq!(password("/tmp/a\\:b:1:a\\\\b:\\*:x", &odd).as_deref(), Some("x"));
        assert_eq!(password("localhost:1:*:*:x", &odd).as_deref(), Some("x"));
    }

    #[test]
    fn a_section_ends_at_the_next() {
        let text = "# all\n[a]\nhost=1\n\n# more\n port = 2 \n[b]\nhost=3";
        assert_eq!(section(text, "a"), Some(vec!["host=1", "port = 2"]));
        assert_eq!(section(text, "b"), Some(vec!["host=3"]));
        assert_eq!(section(text, "c"), None);
    }
}
