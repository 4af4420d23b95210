//! The list of all statements.

/// Passes the names of all statements to the macro `$then`: that of the operation in [`op`](crate::op) which declares
/// it, and that of its SQL file, by which commands and the model of the database know it too.
///
/// Everything that exists once per statement follows from this list.
#[macro_export]
macro_rules! each_statement {
    ($then:ident) => {
        $then! {
            Enqueue enqueue
            EnqueueFresh enqueue_fresh
            EnqueueKeyed enqueue_keyed
            EnqueueEach enqueue_each
            KeyHolder key_holder
            ReplaceJobs replace_jobs
            Claim claim
            Poll poll
            Settle settle
            SettleCommits settle_commits
            Outcome outcome
            Extend extend
            SetProgress set_progress
            Reap reap
            Promote promote
            ReleaseClaim release_claim
            CreateQueue create_queue
            PauseQueue pause_queue
            ResumeQueue resume_queue
            CountPending count_pending
            ListQueues list_queues
            Activity activity
            TableSizes table_sizes
            RowHolders row_holders
            TableHealths table_healths
            IndexHealths index_healths
            QueueHealths queue_healths
            Settings settings
            SetQueue set_queue
            ListJobs list_jobs
            Job job
            Payload payload
            JobResult job_result
            ResolveSuffix resolve_suffix
            Attempts attempts
            NextJobs next_jobs
            Notify notify
            NotifyIdle notify_idle
            RestartJobs restart_jobs
            EndJobs end_jobs
            CancelJobs cancel_jobs
            CancelRequests cancel_requests
            DeleteJobs delete_jobs
            MoveJobs move_jobs
            EditJobs edit_jobs
            CopyJob copy_job
            FetchJob fetch_job
            BeginQueueDeletion begin_queue_deletion
            RenameQueue rename_queue
            PruneJobs prune_jobs
            DeleteEmptyQueues delete_empty_queues
            ListSchedules list_schedules
            SetSchedule set_schedule
            HoldSchedule hold_schedule
            DeleteSchedule delete_schedule
            DueSchedules due_schedules
            FireSchedules fire_schedules
            SchemaVersion schema_version
            Encoding encoding
            Relations relations
            Privileges privileges
            Sequences sequences
            Orphans orphans
            SearchPaths search_paths
        }
    };
}

macro_rules! statement_ids {
    ($($name:ident $file:ident)*) => {
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

            /// Returns the name as in SQL files and commands: `claim`, `prune_jobs`.
            pub const fn name(self) -> &'static str {
                match self {
                    $(StatementId::$name => stringify!($file),)*
                }
            }
        }
    };
}
each_statement!(statement_ids);
