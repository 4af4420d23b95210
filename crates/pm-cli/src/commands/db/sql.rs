//! `pm db sql`

use crate::context::Context;
use crate::error::CommandError;
use pm_core::{Catalog, ConnectionClass, StatementId, Type};

/// Prints the text of a statement as pm sends it
///
/// It prints only, and needs no database. Shared parts and the schema's name are filled in, so
/// that the text can be explained or run by hand. Without a name it lists all statements.
///
/// Example:
///   pm db sql claim
///   pm db sql
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct SqlArgs {
    /// The statement's name
    #[arg(value_name = "STATEMENT")]
    statement: Option<String>,
}

pub(super) fn run(context: &mut Context, args: &SqlArgs) -> Result<(), CommandError> {
    let catalog = Catalog::new(&context.settings()?.schema);
    let Some(name) = &args.statement else {
        let names: Vec<_> = StatementId::ALL.iter().map(|id| id.name()).collect();
        return context.output.text(&(names.join("\n") + "\n"));
    };
    let Some(id) = StatementId::ALL.into_iter().find(|id| id.name() == *name) else {
        let message = format!("there is no statement {name:?}");
        return Err(CommandError::usage(message).hint("list them: pm db sql"));
    };
    let statement = catalog.statement(id);
    let connections = match id.class() {
        ConnectionClass::Extend => "extensions of leases",
        ConnectionClass::Hot => "short and frequent statements",
        ConnectionClass::Keyed => "enqueues with keys",
        ConnectionClass::Operator => "operators' statements",
    };
    let types = |types: &mut dyn Iterator<Item = Type>| types.map(Type::name).collect::<Vec<_>>().join(", ");
    let heading = format!(
        "-- {name}\n-- Connections: those for {connections}.\n-- Parameters: {}.\n-- Columns: {}.\n",
        types(&mut statement.params.iter().copied()),
        types(&mut statement.columns.iter().map(|column| column.ty))
    );
    context.output.text(&format!("{heading}{};\n", statement.text.trim_end()))
}
