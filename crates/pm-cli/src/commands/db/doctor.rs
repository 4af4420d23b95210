//! `pm db doctor`

use crate::context::Context;
use crate::error::CommandError;
use crate::input::parse_duration;
use crate::render::{FindingView, Format};
use std::time::Duration;

/// Finds what makes queues sick, and tells the remedy
///
/// It looks for transactions, standbys and slots that keep dead rows alive (and whose they are);
/// dead rows that vacuum does not remove; missing and invalid indexes; statements that read large
/// tables from end to end; leases that ran out and were not reaped; a clock that differs from the
/// database's; queues with ready jobs that nobody claims; autovacuum that is off; transaction
/// numbers that run out; queues whose deletion was broken off; row-level security and missing
/// grants; tables that are views, unlogged, partitioned or elsewhere, and triggers on them;
/// sequences that a failover left behind; what is left of deleted jobs; search paths in which
/// pg_catalog is not first.
///
/// Of each it says what was found, why that matters, and a command that mends it: read it before
/// you run it. It writes nothing. Exit code 1 when something is wrong. Other roles' transactions
/// are seen by superusers and members of pg_read_all_stats.
///
/// Example:
///   pm db doctor
///   pm db doctor --json --threshold 1m
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct DoctorArgs {
    /// How long a transaction may be open, a lease be run out, and a ready job wait
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = parse_duration)]
    threshold: Duration,
}

pub(super) async fn run(context: &mut Context, args: &DoctorArgs) -> Result<(), CommandError> {
    let findings = context.connect_unchecked().await?.doctor(args.threshold).await?;
    let views: Vec<_> = findings.iter().map(FindingView::new).collect();
    context.output.paragraphs(&views, FindingView::paragraph)?;
    match views.len() {
        0 if context.output.format() == Format::People => context.output.say("Nothing is wrong."),
        0 => {}
        1 => return Err(CommandError::refused("1 thing is wrong")),
        count => return Err(CommandError::refused(format!("{count} things are wrong"))),
    }
    Ok(())
}
