//! Parsers of arguments.

mod condition;
mod payload;
mod scalars;
mod schedule;
mod settings;
mod time;

pub(crate) use condition::{Condition, parse_condition};
pub(crate) use payload::{Source, encode, read_all};
pub(crate) use schedule::{parse_missed, parse_overlap};
pub(crate) use settings::SettingsArgs;
pub(crate) use time::parse_time;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use pm_core::{Codec, State};

/// Parses a state; `in_progress` and `in-progress` are the same.
pub(crate) fn parse_state(text: &str) -> Result<State, String> {
    let unknown = || format!("state {text:?} is not one of pending, paused, in-progress, finished, failed");
    State::from_name(text).ok_or_else(unknown)
}

/// Returns a parser of codecs; the help lists them.
pub(crate) fn codec_parser() -> impl TypedValueParser<Value = Codec> {
    PossibleValuesParser::new(Codec::ALL.map(Codec::name)).map(|name| Codec::from_name(&name).unwrap_or_default())
}
