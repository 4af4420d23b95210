//! `pm completions`

use crate::cli::Cli;
use crate::context::Context;
use crate::error::CommandError;
use clap::CommandFactory;
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

pub(super) fn run(context: &mut Context, args: &CompletionsArgs) -> Result<(), CommandError> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "pm", &mut script);
    context.output.text(&String::from_utf8_lossy(&script))
}
