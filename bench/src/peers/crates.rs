//! The peers that are crates.

use super::apalis::Apalis;
use super::awa::Awa;
use super::fang::Fang;
use super::graphile_worker::GraphileWorker;
use super::pgmq::Pgmq;
use super::postmodern::Postmodern;
use super::sqlx::Sqlx;
use crate::Result;
use crate::contender::Contender;
use crate::ours::Ours;
use crate::side::{Side, serve as serve_contender};

/// The connections of a peer with a pool: one for each task that enqueues and each handler that commits.
pub(super) const CONNECTIONS: u32 = 32;

/// Returns the peers, each named like its crate.
pub(super) fn sides() -> Result<Vec<Side>> {
    let sides = [
        Side::of::<GraphileWorker>()?,
        Side::of::<Pgmq>()?,
        Side::of::<Fang>()?,
        Side::of::<Postmodern>()?,
        Side::of::<Awa>()?,
        Side::of::<Apalis>()?,
    ];
    Ok(sides.into_iter().map(|side| Side { version: locked_version(side.name), ..side }).collect())
}

/// Does a piece of work for a peer, or for pm on sqlx.
pub(crate) async fn serve(name: &str, url: &str, work: &str, jobs: usize) -> Result<()> {
    match name {
        <Ours<Sqlx>>::NAME => serve_contender::<Ours<Sqlx>>(url, work, jobs).await,
        GraphileWorker::NAME => serve_contender::<GraphileWorker>(url, work, jobs).await,
        Pgmq::NAME => serve_contender::<Pgmq>(url, work, jobs).await,
        Fang::NAME => serve_contender::<Fang>(url, work, jobs).await,
        Postmodern::NAME => serve_contender::<Postmodern>(url, work, jobs).await,
        Awa::NAME => serve_contender::<Awa>(url, work, jobs).await,
        Apalis::NAME => serve_contender::<Apalis>(url, work, jobs).await,
        odd => Err(format!("no contender named {odd:?} in this build").into()),
    }
}

/// Returns the version of a crate in the lock file of this build.
fn locked_version(name: &str) -> String {
    let entry = include_str!("../../Cargo.lock").split_once(&format!("name = \"{name}\"\nversion = \""));
    entry.and_then(|(_, rest)| rest.split('"').next()).unwrap_or("unknown").to_owned()
}
