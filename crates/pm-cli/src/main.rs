//! The `pm` binary; all of it is in the library beside it.

use std::process::ExitCode;

fn main() -> ExitCode {
    pm_cli::run()
}
