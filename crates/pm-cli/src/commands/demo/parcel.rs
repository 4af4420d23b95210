//! The jobs of the demo.

use serde::{Deserialize, Serialize};

/// A payload: any serde type will do.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Parcel {
    pub(super) to: String,
    pub(super) contents: String,
    pub(super) fate: Fate,
}

/// What is going to happen to a parcel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Fate {
    /// It is delivered.
    Arrives,
    /// Nobody is at home the first time.
    NobodyAtHome,
    /// It can never be delivered.
    NoSuchAddress,
    /// Whoever has it first is killed on the way.
    CourierDies,
}

/// Returns the parcels of the story, with their priorities.
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
