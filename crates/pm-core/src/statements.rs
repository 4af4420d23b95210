//! The list of all statements.

/// Passes the names of all statements to the macro `$then`. [`op`](crate::op) has an operation of each name, which
/// declares its statement.
///
/// Everything that exists once per statement follows from this list.
#[macro_export]
macro_rules! each_statement {
    ($then:ident) => {
        $then! {
            Enqueue
            EnqueueKeyed
            EnqueueEach
            KeyHolder
            ReplaceJobs
            Claim
            Poll
            Settle
            Outcome
            Extend
            Reap
            Promote
            ReleaseClaim
            CreateQueue
            PauseQueue
            ResumeQueue
            CountPending
            ListQueues
            Activity
            TableSizes
            RowHolders
            TableHealths
            IndexHealths
            QueueHealths
            Settings
            SetQueue
            ListJobs
            Job
            Payload
            ResolveSuffix
            Attempts
            NextJobs
            Notify
            NotifyIdle
            RestartJobs
            EndJobs
            DeleteJobs
            MoveJobs
            CopyJob
            FetchJob
            BeginQueueDeletion
            RenameQueue
            PruneJobs
            DeleteEmptyQueues
            ListSchedules
            SetSchedule
            HoldSchedule
            DeleteSchedule
            DueSchedules
            FireSchedules
            SchemaVersion
            Encoding
            Relations
            Privileges
            Sequences
            Orphans
            SearchPaths
        }
    };
}

macro_rules! statement_ids {
    ($($name:ident)*) => {
        /// Identifies a statement. Drivers use it as the key of prepared statements, and treat all statements alike.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[allow(missing_docs)] // each is documented at its operation
        #[non_exhaustive]
        pub enum StatementId {
            $($name,)*
        }

        impl StatementId {
            /// All statements.
            pub const ALL: [StatementId; [$(StatementId::$name),*].len()] = [$(StatementId::$name),*];
        }
    };
}
each_statement!(statement_ids);

impl StatementId {
    /// Returns the name as in SQL files and commands: `claim`, `prune_jobs`.
    pub fn name(self) -> String {
        let mut name = String::new();
        for c in format!("{self:?}").chars() {
            if c.is_ascii_uppercase() && !name.is_empty() {
                name.push('_');
            }
            name.push(c.to_ascii_lowercase());
        }
        name
    }
}
