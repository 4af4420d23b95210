//! The conformance suite: what every driver on every runtime must do, as plain async cases on a concrete `Queue`.
//!
//! A case gets a [`Harness`]: a private migrated database with a queue named `tasks`, and a handle on it made by the
//! stack under test. It waits with the stack's runtime only, so that it needs no second runtime.

mod acks;
mod enqueues;
mod faults;
mod harness;
mod jobs;
mod locks;
mod outage;
mod queues;
mod results;
mod runner;
mod schedules;
mod settlements;
mod stack;
mod streams;
mod transactions;

pub use harness::Harness;
pub use outage::a_killed_server_costs_no_job_and_ends_no_stream;
pub use stack::{AsyncRuntime, Client, Memory, OnAsyncStd, OnSmol, OnTokio, Sqlx, Stack, TokioPostgres, Transaction};

use futures_util::future::LocalBoxFuture;

/// A case: its name and its function.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    /// Its name, a sentence.
    pub name: &'static str,
    /// Whether it needs a server: for SQL, transactions, or broken connections.
    needs_server: bool,
    run: fn(Harness) -> LocalBoxFuture<'static, ()>,
}

impl Case {
    /// Returns whether this stack has what the case needs.
    pub fn fits(self, stack: Stack) -> bool {
        stack.has_server() || !self.needs_server
    }

    /// Runs the case on a fresh harness of this stack.
    pub fn run(self, stack: Stack) {
        stack.run(Box::pin(async move {
            let harness = Harness::new(stack).await;
            (self.run)(harness).await;
        }));
    }
}

/// Makes cases from async functions, with the functions' names.
macro_rules! cases {
    ($needs_server:literal; $($module:ident: $($case:ident),*;)*) => {
        [$($(Case {
            name: stringify!($case),
            needs_server: $needs_server,
            run: |harness| Box::pin($module::$case(harness)),
        }),*),*]
    };
}

/// Returns all cases.
pub fn all() -> Vec<Case> {
    let anywhere = cases! { false;
        enqueues:
            a_job_comes_out_as_it_went_in,
            many_jobs_come_out_in_order_and_once,
            a_reserved_key_keeps_a_second_job_out,
            a_job_waits_for_its_time,
            unicode_survives_everywhere,
            a_payload_of_100_mb_goes_through,
            bad_input_is_refused_and_the_next_job_goes_in;
        streams:
            the_highest_priority_of_many_queues_comes_first,
            a_payload_of_another_type_does_not_end_the_stream,
            an_unreadable_payload_waits_for_a_worker_that_can_read_it,
            a_worker_may_decide_about_a_job_it_cannot_read,
            two_workers_never_get_the_same_job;
        acks:
            each_verdict_has_its_ending,
            a_soft_fail_can_say_when_to_come_back,
            a_job_that_is_put_off_loses_neither_attempt_nor_retry,
            retries_run_out,
            refresh_lock_extends_the_lease,
            an_extended_lease_is_not_lost,
            a_lost_lease_is_reported_and_refused,
            a_reaped_job_goes_to_another_worker;
        results:
            a_result_is_stored_with_its_commit_until_a_restart,
            a_result_that_is_refused_leaves_the_ack_to_the_worker,
            progress_is_shown_while_a_handler_works,
            a_wait_ends_with_its_job,
            a_wait_outlasts_retries_and_ends_when_the_job_is_gone;
        runner:
            what_a_handler_returns_settles_its_job,
            a_handler_that_does_not_return_costs_its_job_only,
            a_stopped_runner_waits_for_its_handlers_and_releases_the_rest,
            a_handler_learns_of_its_last_attempt_and_of_a_lost_lease,
            a_handler_settles_its_job_in_its_own_transaction,
            a_job_that_a_runner_cannot_read_is_left_to_another_worker_at_once,
            a_job_whose_ack_is_in_use_is_settled_all_the_same,
            a_runner_refuses_bad_input_and_ends_without_a_queue;
        queues:
            a_paused_queue_hands_out_no_jobs,
            settings_are_kept_and_obeyed,
            queues_are_listed_with_their_jobs,
            stats_report_what_waits_and_what_ended,
            a_renamed_queue_keeps_its_jobs,
            a_deleted_queue_goes_with_its_jobs;
        jobs:
            jobs_are_found_by_page_state_and_suffix,
            a_payload_is_shown_as_it_is_stored,
            an_operator_restarts_fails_finishes_and_deletes,
            a_job_that_does_not_meet_the_precondition_is_left_unchanged,
            a_moved_job_obeys_its_new_queue,
            a_pending_job_can_be_given_another_priority,
            a_copy_shares_the_payload,
            a_job_is_fetched_by_its_id;
        schedules:
            a_schedule_is_set_shown_paused_resumed_and_deleted;
        transactions:
            a_rollback_leaves_neither_job_nor_ending,
            a_stale_ack_is_refused_in_a_transaction,
            a_refused_item_keeps_all_of_its_call_out,
            a_call_into_a_missing_queue_leaves_the_transaction_usable;
        settlements:
            after_a_rollback_a_drop_of_the_ack_soft_fails_its_job,
            an_early_return_from_a_handler_drops_the_ack,
            a_drop_after_a_commit_of_unknown_outcome_changes_nothing,
            a_settlement_cancelled_halfway_leaves_the_ack_live,
            a_leaked_settlement_leaves_the_job_to_its_lease,
            verdicts_in_a_transaction_are_applied_when_it_commits,
            a_retry_from_a_transaction_is_found_at_once;
        faults:
            close_releases_unstarted_jobs;
    };
    let on_a_server = cases! { true;
        streams:
            an_idle_stream_is_notified_by_another_process;
        locks:
            a_locked_queue_delays_no_other_queue,
            a_locked_key_delays_no_other,
            jobs_with_and_without_keys_keep_their_order;
        schedules:
            a_missed_tick_makes_one_job_that_names_it;
        transactions:
            many_jobs_go_in_with_the_transaction_and_conflicts_are_reported,
            a_holder_that_commits_concurrently_refuses_the_whole_call,
            nothing_is_kept_in_a_session_of_a_pooler;
        settlements:
            a_transaction_older_than_an_extension_succeeds_the_second_time,
            a_transaction_that_settles_first_may_outlast_the_lease;
        faults:
            all_backends_are_killed_and_every_job_is_done,
            a_lost_listener_comes_back,
            connection_failures_have_their_kind,
            a_lock_timeout_is_reported;
    };
    anywhere.into_iter().chain(on_a_server).collect()
}
