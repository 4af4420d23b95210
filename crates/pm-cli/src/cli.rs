//! The command line: the command tree and the entry point.

use crate::commands::Command;
use crate::context::Context;
use crate::error::{CommandError, Exit};
use crate::global::GlobalArgs;
use crate::redact::hide_in_urls;
use crate::render::write_stderr;
use clap::{CommandFactory, Parser};
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

/// Operates pm, a job queue in Postgres
///
/// Results go to stdout, messages to stderr.
/// Exit codes: 0 success, 1 nothing matched or something was refused, 2 invalid usage or input,
/// 3 database error.
///
/// The database is set by the first of these: --db, PM_DATABASE_URL, DATABASE_URL,
/// `database_url` in ~/.config/postmodern/config.toml ($XDG_CONFIG_HOME is respected), or the
/// variables of psql (PGHOST, PGPORT, PGDATABASE, PGUSER, PGSERVICE). What a URL leaves out comes
/// from the variables of psql and from ~/.pgpass.
///
/// Example:
///   pm demo
#[derive(Parser)]
#[command(name = "pm", version, verbatim_doc_comment, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    global: GlobalArgs,
    #[command(subcommand)]
    command: Command,
}

/// Runs the command given by this process's arguments; returns the exit code.
pub fn run() -> ExitCode {
    if std::env::args_os().nth(1).is_some_and(|argument| argument == crate::commands::guard::ARGUMENT) {
        return crate::commands::guard::run();
    }
    if std::process::id() == 1 {
        return crate::process_one::run();
    }
    match Cli::try_parse() {
        Ok(cli) => {
            cli.global.start_log();
            execute(cli)
        }
        Err(error) => show_parser_output(&error),
    }
}

fn execute(cli: Cli) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return report(&CommandError::trouble(format!("cannot start: {error}")), &Default::default()),
    };
    runtime.block_on(async {
        let mut context = Context::new(cli.global);
        let result = cli.command.run(&mut context, Cli::command).await;
        let pm = result.as_ref().err().and_then(|_| context.pm_on_schema().ok());
        let (written, secrets) = context.finish().await;
        match result.and(written) {
            Ok(()) => ExitCode::from(Exit::Done as u8),
            Err(error) => report(&error.with_pm(pm.unwrap_or_else(|| "pm".to_owned())), &secrets),
        }
    })
}

fn report(error: &CommandError, secrets: &crate::redact::Secrets) -> ExitCode {
    write_stderr(&error.report(secrets));
    ExitCode::from(error.exit() as u8)
}

/// Prints help or an argument error. The error may quote a URL, so passwords are hidden.
fn show_parser_output(error: &clap::Error) -> ExitCode {
    let text = error.render();
    let render = |is_terminal: bool| match is_terminal && crate::render::may_colour() {
        true => text.ansi().to_string(),
        false => text.to_string(),
    };
    if error.use_stderr() {
        write_stderr(&hide_in_urls(&render(io::stderr().is_terminal())));
    } else {
        let mut stdout = io::stdout().lock();
        // A closed pipe is not an error.
        drop(stdout.write_all(render(stdout.is_terminal()).as_bytes()));
    }
    ExitCode::from(if error.exit_code() == 0 { Exit::Done as u8 } else { Exit::Usage as u8 })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns every command that is not hidden, with its path, like `pm job ls`.
    fn commands() -> Vec<(String, clap::Command)> {
        let mut root = Cli::command();
        root.build();
        let mut found = Vec::new();
        let mut remaining = vec![("pm".to_owned(), root)];
        while let Some((path, command)) = remaining.pop() {
            for child in command.get_subcommands().filter(|child| !child.is_hide_set() && child.get_name() != "help") {
                remaining.push((format!("{path} {}", child.get_name()), child.clone()));
            }
            found.push((path, command));
        }
        found.sort_by(|(a, _), (b, _)| a.cmp(b));
        found
    }

    #[test]
    fn the_command_tree_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_help_text_has_an_example_of_its_command() {
        for (path, mut command) in commands() {
            let help = command.render_long_help().to_string();
            let (_, examples) = help.split_once("Example:").unwrap_or_else(|| panic!("{path} has no example"));
            assert!(examples.contains(&format!("  {path}")), "{path}: the example is of another command");
        }
    }

    /// A command counts as tested when a test contains `pm(&["queue", "ls", …])`.
    #[test]
    fn every_command_has_a_test() {
        let tests = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cli");
        let files = std::fs::read_dir(tests).unwrap().map(|entry| entry.unwrap().path());
        let sources = files.filter(|path| path.extension().is_some_and(|it| it == "rs"));
        let text: String = sources.map(|path| std::fs::read_to_string(path).unwrap()).collect();
        for (path, _) in commands().into_iter().filter(|(_, command)| !command.has_subcommands()) {
            let names: Vec<_> = path.split(' ').skip(1).map(|name| format!("\"{name}\"")).collect();
            assert!(text.contains(&format!("[{}", names.join(", "))), "no test runs `{path}`");
        }
    }

    /// `PM_UPDATE_SNAPSHOTS=1 cargo test -p pm-cli` updates the snapshot.
    #[test]
    fn the_help_matches_the_snapshot() {
        let mut help = String::new();
        for (path, command) in commands() {
            let rendered = command.term_width(100).render_long_help().to_string();
            let lines: Vec<_> = rendered.lines().map(str::trim_end).collect();
            help.push_str(&format!("$ {path} --help\n{}\n\n", lines.join("\n").trim_end()));
        }
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cli/help.txt");
        if std::env::var_os("PM_UPDATE_SNAPSHOTS").is_some() {
            std::fs::write(path, &help).unwrap();
        }
        let expected = std::fs::read_to_string(path).unwrap_or_default();
        let difference = help.lines().zip(expected.lines()).find(|(now, then)| now != then);
        assert!(help == expected, "the help differs from {path}; first at {difference:?}");
    }
}
