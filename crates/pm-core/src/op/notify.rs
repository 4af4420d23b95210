//! Waking workers of other processes.

use crate::statement::Definition;
use crate::wire::{Rows, Type, Value, column};
use crate::{Error, Operation, Params, SchemaName, StatementId};
use std::borrow::Cow;

pub(crate) const NOTIFY: Definition =
    Definition { sql: include_str!("notify.sql"), params: &[Type::Text, Type::TextArray], columns: &[Type::Int8] };

pub(crate) const NOTIFY_IDLE: Definition =
    Definition { sql: include_str!("notify_idle.sql"), params: &[Type::Text], columns: &[Type::Int8] };

/// What a notification says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Notification {
    /// The queue.
    pub queue_id: i32,
    /// The line with jobs that are ready; none when the queue is to be looked at again.
    pub priority: Option<i32>,
}

impl Notification {
    /// Returns the channel of a schema: `pm_` and its name.
    pub fn channel(schema: &SchemaName) -> String {
        let name = format!("pm_{schema}");
        // Postgres keeps 63 bytes of a channel's name.
        name[..name.floor_char_boundary(63)].to_owned()
    }

    /// Returns the notification's text: `queue_id:priority`, or `queue_id:`.
    pub fn payload(&self) -> String {
        match self.priority {
            Some(priority) => format!("{}:{priority}", self.queue_id),
            None => format!("{}:", self.queue_id),
        }
    }

    /// Returns what a notification says; `None` when it is not one of ours.
    pub fn parse(payload: &str) -> Option<Self> {
        let (queue_id, priority) = payload.split_once(':')?;
        let priority = (!priority.is_empty()).then(|| priority.parse()).transpose().ok()?;
        Some(Notification { queue_id: queue_id.parse().ok()?, priority })
    }
}

/// Wakes the listeners of other processes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notify {
    /// On which channel.
    pub channel: String,
    /// About what.
    pub notifications: Vec<Notification>,
}

impl Operation for Notify {
    type Output = ();
    const STATEMENT: StatementId = StatementId::Notify;

    fn params(&self) -> Params<'_> {
        vec![
            Value::Text(&self.channel),
            Value::TextArray(column(&self.notifications, |notification| Cow::Owned(notification.payload()))),
        ]
    }

    fn interpret(self, rows: &Rows) -> Result<(), Error> {
        rows.only(Self::STATEMENT)?.read::<i64>().map(drop)
    }
}

/// Makes workers of other processes that sleep look at their queues again. Answers on how many queues some slept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotifyIdle {
    /// On which channel.
    pub channel: String,
}

impl Operation for NotifyIdle {
    type Output = u64;
    const STATEMENT: StatementId = StatementId::NotifyIdle;

    fn params(&self) -> Params<'_> {
        vec![Value::Text(&self.channel)]
    }

    fn interpret(self, rows: &Rows) -> Result<u64, Error> {
        rows.only(Self::STATEMENT)?.count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notices_are_read_back_and_others_ignored() {
        for notification in
            [Notification { queue_id: 7, priority: Some(-3) }, Notification { queue_id: 1, priority: None }]
        {
            assert_eq!(Notification::parse(&notification.payload()), Some(notification));
        }
        for odd in ["", "7", ":", "x:1", "7:x", "7:1:2", "99999999999:1"] {
            assert_eq!(Notification::parse(odd), None, "{odd}");
        }
    }

    #[test]
    fn a_channel_fits_in_63_bytes() {
        assert_eq!(Notification::channel(&SchemaName::default()), "pm_pm");
        assert_eq!(Notification::channel(&SchemaName::new(&"é".repeat(31)).unwrap()).len(), 63);
    }
}
