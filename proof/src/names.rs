//! Fuzzes names, id suffixes and notifications.

use pm_core::op::Notification;
use pm_core::{Codec, Error, IdSuffix, QueueName, SchemaName, State};

/// Reads bytes as the name of a queue, a schema, a state and a codec, as an id suffix, and as a notification.
///
/// # Panics
///
/// If an invalid value is accepted, or a valid one does not round-trip.
pub fn names(bytes: &[u8]) {
    let text = &*String::from_utf8_lossy(bytes);
    if let Some(name) = checked(QueueName::new(text)) {
        assert_eq!(name.as_str(), text);
        assert!((1..=200).contains(&text.len()) && !text.chars().any(char::is_control) && text.trim() == text);
    }
    if let Some(name) = checked(SchemaName::new(text)) {
        assert_eq!(name.as_str(), text);
        assert!((1..=63).contains(&text.len()) && !text.contains(['"', '\'', '\0']), "{text:?}");
        assert!(Notification::channel(&name).len() <= 63, "{text:?}");
    }
    if let Some(suffix) = checked(IdSuffix::new(text)) {
        let digits = suffix.digits();
        assert!((1..=32).contains(&digits.len()) && digits.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f')));
        assert_eq!(IdSuffix::new(digits).as_ref(), Ok(&suffix));
        let whole = suffix.whole_id().map(|id| id.simple().to_string());
        assert_eq!(whole.as_deref(), Some(digits).filter(|digits| digits.len() == 32));
    }
    if let Some(state) = State::from_name(text) {
        assert_eq!(text.replace('-', "_"), state.name());
    }
    if let Some(codec) = checked(Codec::from_name(text)) {
        assert_eq!(text, codec.name());
    }
    if let Some(notification) = Notification::parse(text) {
        assert_eq!(Notification::parse(&notification.payload()), Some(notification));
    }
}

/// Returns the accepted value; checks that an error has a message.
fn checked<T>(outcome: Result<T, Error>) -> Option<T> {
    match outcome {
        Ok(value) => Some(value),
        Err(error) => {
            assert!(matches!(error, Error::Invalid { .. }) && !error.to_string().is_empty(), "{error:?}");
            None
        }
    }
}
