//! Runs a temporary server for several test processes.
//!
//! `pm-sandbox` prints `PM_TEST_SERVER=<url>` and runs until its standard input is closed or a
//! signal terminates it. `pm-sandbox COMMAND ARGUMENT…` runs the command with that variable set,
//! and exits with its exit status.

use std::env;
use std::error::Error;
use std::io::{self, Write};
use std::process::{Command, ExitCode};

use pm_sandbox::{Server, ServerOptions, TEST_SERVER_VARIABLE};

fn main() -> ExitCode {
    run().unwrap_or_else(|error| {
        eprintln!("pm-sandbox: {error}");
        ExitCode::FAILURE
    })
}

const HELP: &str = "\
Runs a temporary Postgres server for several test processes

Usage: pm-sandbox [COMMAND [ARGUMENT]...]

It sets PM_TEST_SERVER to the server's URL, runs the command, and exits with its exit status.
Without a command it prints PM_TEST_SERVER=<URL> and runs until its standard input is closed or a
signal terminates it.
";

fn run() -> Result<ExitCode, Box<dyn Error>> {
    if env::args_os().nth(1).is_some_and(|argument| argument == "--help" || argument == "-h") {
        print!("{HELP}");
        return Ok(ExitCode::SUCCESS);
    }
    let server = Server::start_with(ServerOptions::shared())?;
    let mut arguments = env::args_os().skip(1);
    let Some(program) = arguments.next() else {
        println!("{TEST_SERVER_VARIABLE}={}", server.url());
        io::stdout().flush()?;
        io::copy(&mut io::stdin(), &mut io::sink())?;
        server.stop()?;
        return Ok(ExitCode::SUCCESS);
    };
    let status = Command::new(&program)
        .args(arguments)
        .env(TEST_SERVER_VARIABLE, server.url())
        .status()
        .map_err(|error| format!("cannot run {}: {error}", program.display()))?;
    server.stop()?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}
