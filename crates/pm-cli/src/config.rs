//! Settings, from the command line, the environment and the configuration file, in this order.

use crate::error::CommandError;
use crate::global::GlobalArgs;
use crate::redact::Secrets;
use pm_core::SchemaName;
use pm_driver_tokio_postgres::connecting::{System, Target};
use serde::Deserialize;
use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The database, for pm only.
pub(crate) const URL_VARIABLE: &str = "PM_DATABASE_URL";
/// The database, shared with other programs.
pub(crate) const COMMON_URL_VARIABLE: &str = "DATABASE_URL";
/// The schema of pm's tables.
pub(crate) const SCHEMA_VARIABLE: &str = "PM_SCHEMA";

/// The settings of this process.
pub(crate) struct Settings {
    url: Option<String>,
    /// The schema of pm's tables.
    pub(crate) schema: SchemaName,
    /// How long to wait for each host.
    pub(crate) connect_timeout: Duration,
}

impl Settings {
    /// Reads the settings. The file is read only when the command line and the environment leave something unset.
    /// Errors: exit code 2 for a file or a value that cannot be read. A missing database is an error of
    /// [`Settings::url`] only.
    pub(crate) fn read(args: &GlobalArgs) -> Result<Self, CommandError> {
        let mut url = first_set(args.db.as_deref(), "--db", &[URL_VARIABLE, COMMON_URL_VARIABLE])?;
        let mut schema = first_set(args.schema.as_deref(), "--schema", &[SCHEMA_VARIABLE])?;
        if (url.is_none() || schema.is_none())
            && let Some(path) = file_path()
        {
            let (file_url, file_schema) = FileSettings::read(&path)?;
            (url, schema) = (url.or(file_url), schema.or(file_schema));
        }
        Self::checked(url, schema, args.connect_timeout)
    }

    /// Checks the values; errors name the source of the value.
    fn checked(url: Option<Sourced>, schema: Option<Sourced>, connect_timeout: Duration) -> Result<Self, CommandError> {
        if let Some((source, url)) = &url {
            check_url(url).map_err(|problem| problem.within(source))?;
        }
        let schema = match schema {
            Some((source, name)) => SchemaName::new(&name).map_err(|error| CommandError::from(error).within(source))?,
            None => SchemaName::default(),
        };
        Ok(Settings { url: url.map(|(_, url)| url), schema, connect_timeout })
    }

    /// Returns the settings from a file with this text alone.
    pub(crate) fn of_file(text: &str) -> Result<Self, CommandError> {
        let (url, schema) = FileSettings::parse(text, Path::new("config.toml"))?;
        Self::checked(url, schema, Duration::ZERO)
    }

    /// Returns the database's URL. It may contain a password: never put it into a message. Errors: exit code 2 when no
    /// database is set; the hint lists the ways to set it.
    pub(crate) fn url(&self) -> Result<&str, CommandError> {
        // The variables of psql fill in what the URL leaves out, so they also work with an empty one.
        let from_variables = || Target::is_named_by(&System).then_some("");
        self.url.as_deref().or_else(from_variables).ok_or_else(no_url)
    }

    /// Returns the passwords, to be hidden in messages.
    pub(crate) fn secrets(&self) -> Secrets {
        let secrets = self.url.as_deref().map(Secrets::of_connection).unwrap_or_default();
        secrets.and(env::var("PGPASSWORD").ok())
    }
}

/// A source, like `--db`, and the value it gives.
type Sourced = (String, String);

/// The configuration file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileSettings {
    database_url: Option<String>,
    schema: Option<String>,
}

impl FileSettings {
    /// Reads the URL and the schema, each with its source; neither is set in a missing file.
    fn read(path: &Path) -> Result<(Option<Sourced>, Option<Sourced>), CommandError> {
        // Reading a FIFO could block forever.
        let regular =
            |file: fs::Metadata| if file.is_file() { Ok(()) } else { Err(io::Error::other("not a regular file")) };
        match fs::metadata(path).and_then(regular).and_then(|()| fs::read_to_string(path)) {
            Ok(text) => Self::parse(&text, path),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                Ok((None, None))
            }
            Err(error) => Err(CommandError::usage(format!("cannot read {}: {error}", path.display()))),
        }
    }

    fn parse(text: &str, path: &Path) -> Result<(Option<Sourced>, Option<Sourced>), CommandError> {
        // The error's Display quotes the line, which may contain a password.
        let file: FileSettings = toml::from_str(text).map_err(|error| {
            let line = error.span().map_or(1, |span| 1 + text[..span.start.min(text.len())].matches('\n').count());
            let secrets = Secrets::of_connection(text);
            CommandError::usage(format!("{}, line {line}: {}", path.display(), secrets.hide(error.message())))
        })?;
        let sourced = |name: &str, value: Option<String>| Some((format!("{name} in {}", path.display()), value?));
        Ok((sourced("database_url", file.database_url), sourced("schema", file.schema)))
    }
}

/// Returns the first value that is set and not empty, with its source.
fn first_set(flag: Option<&str>, flag_name: &str, variables: &[&str]) -> Result<Option<Sourced>, CommandError> {
    if let Some(value) = flag {
        return Ok(Some((flag_name.to_owned(), value.to_owned())));
    }
    for name in variables {
        match env::var(name) {
            Ok(value) if !value.is_empty() => return Ok(Some(((*name).to_owned(), value))),
            Ok(_) | Err(env::VarError::NotPresent) => {}
            Err(env::VarError::NotUnicode(_)) => return Err(CommandError::usage(format!("{name} is not UTF-8"))),
        }
    }
    Ok(None)
}

/// Returns the path of the configuration file, whether it exists or not.
fn file_path() -> Option<PathBuf> {
    let absolute = |name: &str| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let home = absolute("XDG_CONFIG_HOME").or_else(|| Some(absolute("HOME")?.join(".config")))?;
    Some(home.join("postmodern").join("config.toml"))
}

fn no_url() -> CommandError {
    let path = file_path().map_or("~/.config/postmodern/config.toml".to_owned(), |path| path.display().to_string());
    CommandError::usage("no database is set").hint(format!(
        "set it in one of these ways; the first that is set is used:\n  \
         --db postgres://user@host:5432/database\n  \
         {URL_VARIABLE} in the environment\n  \
         {COMMON_URL_VARIABLE} in the environment\n  \
         database_url = \"postgres://…\" in {path}\n  \
         PGHOST, PGPORT, PGDATABASE, PGUSER or PGSERVICE in the environment, as for psql"
    ))
}

/// Rejects what cannot be a connection string, without quoting it.
fn check_url(url: &str) -> Result<(), CommandError> {
    let with_hint = |error: CommandError| error.hint("write it like postgres://user@host:5432/database");
    if url.trim().is_empty() {
        return Err(with_hint(CommandError::usage("this is not a Postgres URL")));
    }
    Target::check(url).map_err(|error| with_hint(CommandError::usage(error.to_string())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_connection_strings_are_accepted() {
        for good in [
            "postgres://localhost/app",
            "postgresql://ada:secret@localhost:5432/app?sslmode=disable",
            "postgres://postgres@%2Ftmp%2Fpm:5432/app",
            "host=localhost user=ada",
        ] {
            assert!(check_url(good).is_ok(), "{good}");
        }
        for bad in ["nonsense", "mysql://localhost/app", "", "postgres://a:b@c@localhost/app", "postgres://a\nb/c"] {
            assert_eq!(check_url(bad).unwrap_err().exit(), crate::error::Exit::Usage, "{bad}");
        }
    }
}
