//! `pm completions`

use crate::context::Context;
use crate::error::CommandError;
use clap::Command;
use clap_complete::Shell;

/// Prints a shell completion script
///
/// Example:
///   pm completions bash > ~/.local/share/bash-completion/completions/pm
///   pm completions zsh > ~/.zfunc/_pm
///   pm completions fish > ~/.config/fish/completions/pm.fish
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct CompletionsArgs {
    /// The shell
    #[arg(value_name = "SHELL", value_enum)]
    shell: Shell,
}

/// Prints the script for `tree`, the command tree of pm.
pub(super) fn run(context: &mut Context, args: &CompletionsArgs, mut tree: Command) -> Result<(), CommandError> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut tree, "pm", &mut script);
    context.output.text(&String::from_utf8_lossy(&script))
}
