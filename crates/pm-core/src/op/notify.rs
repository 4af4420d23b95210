//! Notifying workers of other processes.

use super::only;
use crate::operation::operation;
use crate::statement::{Declaration, roles};
use crate::wire::{Rows, Value, column};
use crate::{Error, Operation, Params, SchemaName, StatementId};

/// A notification that a line has ready jobs, or that a queue has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Notification {
    /// The id of the queue.
    pub queue_id: i32,
    /// The priority of the line that has ready jobs; `None` if the worker should poll the queue.
    pub priority: Option<i32>,
}

impl Notification {
    /// Returns the channel of a schema: `pm_` and its name, cut to 63 bytes.
    pub fn channel(schema: &SchemaName) -> String {
        let name = format!("pm_{schema}");
        // Postgres limits the names of channels to 63 bytes.
        name[..name.floor_char_boundary(63)].to_owned()
    }

    /// Returns the payload of the `NOTIFY`: `queue_id:priority`, or `queue_id:`.
    pub fn payload(&self) -> String {
        match self.priority {
            Some(priority) => format!("{}:{priority}", self.queue_id),
            None => format!("{}:", self.queue_id),
        }
    }

    /// Returns the notification with this payload; `None` if it is not one of pm's.
    pub fn parse(payload: &str) -> Option<Self> {
        let (queue_id, priority) = payload.split_once(':')?;
        let priority = (!priority.is_empty()).then(|| priority.parse()).transpose().ok()?;
        Some(Notification { queue_id: queue_id.parse().ok()?, priority })
    }
}

/// Notifies workers of other processes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notify {
    /// The channel: [`Notification::channel`].
    pub channel: String,
    /// The notifications.
    pub notifications: Vec<Notification>,
}

impl Operation for Notify {
    type Row = u64;
    type Output = ();
    const DECLARATION: Declaration =
        Declaration::hot(StatementId::Notify, include_str!("notify.sql"), roles::ENQUEUE).in_transaction();

    fn params(&self) -> Params<'_> {
        vec![Value::Text(&self.channel), column(&self.notifications, |notification| notification.payload())]
    }

    fn interpret(&self, rows: &Rows) -> Result<(), Error> {
        only::<Self>(rows).map(drop)
    }
}

/// Notifies idle workers of other processes to poll their queues. Returns how many queues may have idle workers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotifyIdle {
    /// The channel: [`Notification::channel`].
    pub channel: String,
}

operation! {
    NotifyIdle: only u64;
    Declaration::hot(StatementId::NotifyIdle, include_str!("notify_idle.sql"), roles::WORK);
    fn params(&self) -> Params<'_> {
        vec![Value::Text(&self.channel)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notifications_round_trip_and_others_are_ignored() {
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
