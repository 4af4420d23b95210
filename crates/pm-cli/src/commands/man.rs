//! `pm man`

use crate::context::Context;
use crate::error::CommandError;
use clap::Command;
use std::path::PathBuf;

/// Prints the man page of a command, or writes all man pages to a directory
///
/// Example:
///   pm man job add | man -l -
///   pm man --dir ~/.local/share/man/man1
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct ManArgs {
    /// The command [default: pm itself]
    #[arg(value_name = "COMMAND", conflicts_with = "dir")]
    command: Vec<String>,
    /// Write the pages of all commands to this directory
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// Prints pages of `tree`, the command tree of pm.
pub(super) fn run(context: &mut Context, args: &ManArgs, tree: Command) -> Result<(), CommandError> {
    let mut root = tree.disable_help_subcommand(true);
    root.build();
    if let Some(dir) = &args.dir {
        let failed = |error| CommandError::usage(format!("cannot write to {}: {error}", dir.display()));
        return std::fs::create_dir_all(dir).and_then(|()| clap_mangen::generate_to(root, dir)).map_err(failed);
    }
    let mut command = &root;
    for name in &args.command {
        let unknown = || CommandError::usage(format!("there is no command `pm {}`", args.command.join(" ")));
        command = command.find_subcommand(name).filter(|command| !command.is_hide_set()).ok_or_else(unknown)?;
    }
    let mut page = Vec::new();
    clap_mangen::Man::new(command.clone()).render(&mut page)?;
    context.output.text(&String::from_utf8_lossy(&page))
}
