//! The jobs of the demo.

use serde::{Deserialize, Serialize};

/// The payload; any serde type works.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Parcel {
    pub(super) to: String,
    pub(super) contents: String,
    pub(super) fate: Fate,
}

/// The outcome of a parcel's job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Fate {
    /// Commit.
    Arrives,
    /// A soft failure at the first attempt.
    NobodyAtHome,
    /// A hard failure.
    NoSuchAddress,
    /// The worker of the first attempt is killed.
    CourierDies,
}

/// Returns the parcels of the demo, with their priorities.
pub(super) fn parcels() -> Vec<(Parcel, i32)> {
    let parcel = |contents: &str, to: &str, fate, priority| {
        (Parcel { to: to.to_owned(), contents: contents.to_owned(), fate }, priority)
    };
    vec![
        parcel("postcard", "Edsger", Fate::Arrives, -5),
        parcel("book", "Barbara", Fate::Arrives, 0),
        parcel("letter", "Nobody", Fate::NoSuchAddress, 0),
        parcel("cheese", "Grace", Fate::NobodyAtHome, 5),
        parcel("piano", "Charles", Fate::CourierDies, 5),
        parcel("flowers", "Ada", Fate::Arrives, 10),
        parcel("medicine", "Alan", Fate::Arrives, 100),
    ]
}
