//! Statistics: waiting times, recently enqueued and ended jobs, and the sizes of the tables.

use super::{Count, all};
use crate::operation::operation;
use crate::statement::{Declaration, roles};
use crate::wire::{Parameter, Rows, columns};
use crate::{Error, Operation, Params, StatementId};
use std::time::Duration;

/// Reads the waiting time and the recent activity of each queue, in the order of their names.
///
/// The cost is bounded however large the tables are: about 60 ms at 1 M jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Activity {
    /// The period up to now, by the database's clock, in which jobs are counted.
    pub window: Duration,
}

/// The waiting time and the recent activity of a queue.
///
/// The counts are exact for the newest 20,000 jobs of all queues, and for older jobs while the table of jobs is at most
/// 16 MB large; otherwise those for older jobs are estimated from a sample. The newest jobs are found by their ids,
/// which contain the times of the clients' clocks. Jobs that were deleted since are not counted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct QueueActivity {
    /// The queue's name.
    pub queue: String,
    /// How long the oldest ready job has waited since it was enqueued or became due; `None` if no job is ready.
    ///
    /// Only the first job of each line is considered. Jobs of a paused queue count as waiting; jobs paused individually
    /// and jobs not yet due do not.
    pub oldest_waiting: Option<Duration>,
    /// How many jobs were enqueued.
    pub enqueued: Count,
    /// How many jobs finished.
    pub finished: Count,
    /// How many jobs failed, without another retry.
    pub failed: Count,
}

impl Operation for Activity {
    type Row = ActivityRow;
    type Output = Vec<QueueActivity>;
    const DECLARATION: Declaration =
        Declaration::operator(StatementId::Activity, include_str!("activity.sql"), roles::READ);

    fn params(&self) -> Params<'_> {
        vec![self.window.param()]
    }

    fn interpret(&self, rows: &Rows) -> Result<Vec<QueueActivity>, Error> {
        Ok(all::<Self>(rows)?.into_iter().map(activity).collect())
    }
}

columns! {
    /// The row of a queue.
    pub struct ActivityRow {
        pub queue: String as "name",
        pub oldest_waiting: Option<Duration> as "waits_ms",
        pub enqueued: u64,
        pub finished: u64,
        pub failed: u64,
        pub enqueued_is_estimate: bool,
        pub ended_is_estimate: bool,
    }
}

fn activity(row: ActivityRow) -> QueueActivity {
    QueueActivity {
        queue: row.queue,
        oldest_waiting: row.oldest_waiting,
        enqueued: Count { jobs: row.enqueued, is_estimate: row.enqueued_is_estimate },
        finished: Count { jobs: row.finished, is_estimate: row.ended_is_estimate },
        failed: Count { jobs: row.failed, is_estimate: row.ended_is_estimate },
    }
}

/// Measures pm's tables and indexes. Each table is followed by its indexes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TableSizes;

columns! {
    /// The size of a table or an index.
    pub struct TableSize {
        /// Its name, without the schema.
        pub name: String,
        /// The table of an index; `None` for a table.
        pub index_of: Option<String> as "of_table",
        /// The approximate number of rows of a table, as of the last vacuum or analyze; `None` before that, and for an
        /// index.
        pub rows: Option<u64>,
        /// The size on disk in bytes; of a table without its indexes.
        pub bytes: u64,
    }
}

operation! {
    TableSizes: all TableSize;
    Declaration::operator(StatementId::TableSizes, include_str!("table_sizes.sql"), roles::READ);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Type, Value};
    use bytes::BytesMut;

    fn rows(columns: usize, cells: &[Value<'_>]) -> Rows {
        let mut rows = Rows::builder(columns);
        for cell in cells {
            let mut bytes = BytesMut::new();
            cell.encode(&mut bytes).unwrap();
            rows.push((!cell.is_null()).then_some(&bytes[..]));
        }
        rows.finish()
    }

    #[test]
    fn the_window_is_sent_in_milliseconds() {
        let activity = Activity { window: Duration::from_secs(300) };
        assert_eq!(activity.params(), [Value::Int8(300_000)]);
    }

    #[test]
    fn estimates_are_distinguished_from_exact_counts() {
        let [yes, no] = [true, false].map(Value::Bool);
        let waits = Value::Int8(1_500);
        let never = Value::Null(Type::Int8);
        let mail = [Value::Text("mail"), waits, Value::Int8(7), Value::Int8(5), Value::Int8(2), no, yes.clone()];
        let film = [Value::Text("film"), never, Value::Int8(0), Value::Int8(0), Value::Int8(0), yes.clone(), yes];
        let read = Activity { window: Duration::ZERO }.interpret(&rows(7, &[mail, film].concat())).unwrap();
        let count = |jobs, is_estimate| Count { jobs, is_estimate };
        assert_eq!((read[0].queue.as_str(), read[0].oldest_waiting), ("mail", Some(Duration::from_millis(1_500))));
        assert_eq!(
            (read[0].enqueued, read[0].finished, read[0].failed),
            (count(7, false), count(5, true), count(2, true))
        );
        assert_eq!((read[1].oldest_waiting, read[1].enqueued), (None, count(0, true)));
    }

    #[test]
    fn tables_and_indexes_are_distinguished() {
        let table = [Value::Text("job"), Value::Null(Type::Text), Value::Int8(9), Value::Int8(8_192)];
        let index = [Value::Text("job_line"), Value::Text("job"), Value::Null(Type::Int8), Value::Int8(16_384)];
        let read = TableSizes.interpret(&rows(4, &[table, index].concat())).unwrap();
        assert_eq!((read[0].index_of.as_deref(), read[0].rows, read[0].bytes), (None, Some(9), 8_192));
        assert_eq!((read[1].index_of.as_deref(), read[1].rows, read[1].bytes), (Some("job"), None, 16_384));
    }
}
