//! Findings of `pm db doctor`.

use super::output::Json;
use super::value::Value;
use crate::error::grants_arguments;
use crate::text::{printable, shell_option, shell_quoted};
use pm_driver_tokio_postgres::{Finding, Remedy};

/// A finding, with a shell command that fixes it.
pub(crate) struct FixableFinding {
    finding: Finding,
    command: String,
}

impl FixableFinding {
    /// Adds the command to the finding; `pm` is how to run pm on the same schema.
    pub(crate) fn new(finding: Finding, pm: &str) -> Self {
        let command = command(&finding.remedy, pm);
        FixableFinding { finding, command }
    }

    /// Returns a human-readable paragraph; the name of the check may be coloured.
    pub(crate) fn paragraph(&self, colour: bool) -> String {
        let Finding { check, what, why, .. } = &self.finding;
        let check = if colour { format!("\u{1b}[31m{}\u{1b}[0m", check.name()) } else { check.name().to_owned() };
        format!("{check}: {}\n  why: {why}\n  run: {}\n", printable(what), printable(&self.command))
    }
}

impl Json for FixableFinding {
    fn json(&self) -> Value {
        Value::named([
            ("check", self.finding.check.name().into()),
            ("what", self.finding.what.as_str().into()),
            ("why", self.finding.why.into()),
            // A shell command.
            ("remedy", self.command.as_str().into()),
        ])
    }
}

/// Returns the remedy as a shell command. It runs SQL with psql on the database in `PM_DATABASE_URL`.
fn command(remedy: &Remedy, pm: &str) -> String {
    match remedy {
        Remedy::Sql(statements) => {
            let each: Vec<_> = statements.iter().map(|sql| format!(" -c {}", shell_quoted(sql))).collect();
            format!("psql \"$PM_DATABASE_URL\"{}", each.concat())
        }
        Remedy::Grant { role, kind } => {
            format!("{pm} {} | psql \"$PM_DATABASE_URL\"", grants_arguments(role, *kind))
        }
        Remedy::Reap => format!("{pm} db reap"),
        Remedy::Prune => format!("{pm} db prune"),
        Remedy::Work(queue) => format!("{pm} work {} -- COMMAND", shell_quoted(queue)),
        Remedy::SetClock => "timedatectl set-ntp true".to_owned(),
        Remedy::MigrateNewSchema => "pm --schema NAME db migrate".to_owned(),
        Remedy::UseSchema(name) => format!("pm {} db doctor", shell_option("--schema", name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_statement_is_one_argument() {
        let remedy = Remedy::Sql(vec!["select 'o''clock; x'".to_owned(), "vacuum".to_owned()]);
        let expected = r#"psql "$PM_DATABASE_URL" -c 'select '\''o'\'''\''clock; x'\''' -c vacuum"#;
        assert_eq!(command(&remedy, "pm"), expected);
    }

    #[test]
    fn names_are_quoted_and_the_schema_is_passed_on() {
        let pm = "pm --schema 'my jobs'";
        assert_eq!(command(&Remedy::Reap, pm), "pm --schema 'my jobs' db reap");
        assert_eq!(command(&Remedy::Work("a$b".to_owned()), pm), "pm --schema 'my jobs' work 'a$b' -- COMMAND");
        assert_eq!(command(&Remedy::UseSchema("my jobs".to_owned()), "pm"), "pm --schema 'my jobs' db doctor");
    }
}
