//! Statements as data: name, text, types, the connections on which they run, and the roles that run them.

use crate::Params;
use crate::grants::RoleKind;
use crate::wire::Type;

/// Identifies a statement. Drivers use it as the key of prepared statements, and treat all statements alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)] // each is documented at its operation
#[non_exhaustive]
pub enum StatementId {
    Enqueue,
    EnqueueKeyed,
    EnqueueEach,
    KeyHolder,
    ReplaceJobs,
    Claim,
    Poll,
    Settle,
    Outcome,
    Extend,
    Reap,
    Promote,
    ReleaseClaim,
    CreateQueue,
    PauseQueue,
    ResumeQueue,
    CountPending,
    ListQueues,
    Activity,
    TableSizes,
    RowHolders,
    TableHealth,
    IndexHealth,
    QueueHealth,
    QueueSettings,
    SetQueue,
    ListJobs,
    Job,
    Payload,
    ResolveSuffix,
    Attempts,
    NextJobs,
    Notify,
    NotifyIdle,
    RestartJobs,
    EndJobs,
    DeleteJobs,
    MoveJobs,
    CopyJob,
    FetchJob,
    BeginQueueDeletion,
    RenameQueue,
    PruneJobs,
    DeleteEmptyQueues,
    ListSchedules,
    SetSchedule,
    HoldSchedule,
    DeleteSchedule,
    DueSchedules,
    FireSchedules,
    SchemaVersion,
    Encoding,
    Relations,
    Privileges,
    Sequences,
    Orphans,
    SearchPaths,
}

/// The class of the connections on which a statement runs. A statement never waits behind one of another class.
///
/// Drivers and the queue handle give each class separate connections, or limit how many connections of a pool it may
/// use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConnectionClass {
    /// Extensions of leases. They never wait for a locked row, and must not wait behind statements that do.
    Extend,
    /// Short and frequent statements: claims, settlements, enqueues without keys, reads by id. They rarely wait for a
    /// locked row, and for at most `lock_timeout`.
    Hot,
    /// Enqueues with keys and their follow-ups, which may wait for a transaction that has locked a key.
    Keyed,
    /// Actions of operators, some of which wait for locked rows, and reads of many rows, which may take long.
    Operator,
}

/// A statement, rendered for one schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// The name.
    pub id: StatementId,
    /// The text; parameters are `$1`, `$2`, …
    pub text: String,
    /// The types of the parameters, in order.
    pub params: &'static [Type],
    /// The types of the columns of the reply, in order.
    pub columns: &'static [Type],
}

/// The declaration of a statement, before it is rendered. It is next to its operation.
#[derive(Debug)]
pub(crate) struct Definition {
    pub(crate) id: StatementId,
    /// The class of the connections on which it runs.
    pub(crate) class: ConnectionClass,
    /// The roles that run it besides operators, who run all statements; the one with the fewest privileges first.
    pub(crate) roles: &'static [RoleKind],
    pub(crate) sql: &'static str,
    pub(crate) params: &'static [Type],
    pub(crate) columns: &'static [Type],
}

/// The sets of roles that run a statement.
pub(crate) mod roles {
    use crate::grants::RoleKind::{self, Enqueuer, Reader, Worker};

    pub(crate) const ALL: &[RoleKind] = &[Reader, Enqueuer, Worker];
    pub(crate) const ENQUEUE: &[RoleKind] = &[Enqueuer, Worker];
    pub(crate) const WORK: &[RoleKind] = &[Worker];
    pub(crate) const READ: &[RoleKind] = &[Reader, Worker];
    pub(crate) const OPERATE: &[RoleKind] = &[];
}

/// A statement to be sent, with its parameters.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan<'a> {
    /// The statement.
    pub statement: StatementId,
    /// The values of its parameters, in order.
    pub params: Params<'a>,
}
