//! The conformance suite: what every driver on every runtime must do, as plain async cases on a concrete `Queue`.
//!
//! A case gets a [`Harness`]: a migrated database of its own with a queue named `tasks`, and a handle on it made by the
//! stack under test. It waits by the stack's runtime only, so that nothing else has to run beside it.

mod acks;
mod enqueues;
mod faults;
mod harness;
mod jobs;
mod locks;
mod outage;
mod queues;
mod schedules;
mod settlements;
mod stack;
mod streams;
mod transactions;

pub use harness::Harness;
pub use outage::a_killed_server_costs_no_job_and_ends_no_stream;
pub use stack::{Client, Home, Memory, OnAsyncStd, OnSmol, OnTokio, Sqlx, Stack, TokioPostgres, Transaction};

use futures_util::future::LocalBoxFuture;

/// A case: its name, and what it does.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    /// Its name, a sentence.
    pub name: &'static str,
    /// Whether it needs a server: SQL of its own, transactions, connections that break.
    needs_server: bool,
    act: fn(Harness) -> LocalBoxFuture<'static, ()>,
}

impl Case {
    /// Returns whether this stack has what the case needs.
    pub fn fits(self, stack: Stack) -> bool {
        stack.has_server() || !self.needs_server
    }

    /// Plays the case on a fresh harness of this stack, to its end.
    pub fn play(self, stack: Stack) {
        stack.run(Box::pin(async move {
            let harness = Harness::new(stack).await;
            (self.act)(harness).await;
        }));
    }
}

/// Makes cases of async functions, named after them.
macro_rules! cases {
    ($needs_server:literal; $($room:ident: $($case:ident),*;)*) => {
        [$($(Case {
            name: stringify!($case),
            needs_server: $needs_server,
            act: |harness| Box::pin($room::$case(harness)),
        }),*),*]
    };
}

/// Returns all cases.
pub fn all() -> Vec<Case> {
    let anywhere = cases! { false;
        enqueues:
            a_job_comes_out_as_it_went_in,
            many_jobs_come_out_in_order_and_once,
            a_held_key_keeps_a_second_job_out,
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
            each_word_has_its_ending,
            retries_run_out,
            a_refresh_extends_the_lease,
            a_kept_lease_is_not_lost,
            a_lost_lease_is_told_and_refused,
            a_reaped_job_goes_to_another_worker;
        queues:
            a_paused_queue_holds_its_jobs,
            settings_are_kept_and_obeyed,
            queues_are_listed_with_their_jobs,
            stats_tell_who_waits_and_what_ended,
            a_renamed_queue_keeps_its_jobs,
            a_deleted_queue_goes_with_its_jobs;
        jobs:
            jobs_are_found_by_page_state_and_suffix,
            a_payload_is_shown_as_it_is_stored,
            an_operator_restarts_fails_finishes_and_deletes,
            a_job_that_is_not_what_it_was_chosen_for_is_spared,
            a_moved_job_obeys_its_new_queue,
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
            an_early_return_from_a_handler_makes_the_ack_count_again,
            a_drop_after_a_commit_in_the_dark_changes_nothing,
            a_settlement_given_up_halfway_leaves_the_ack_live,
            a_leaked_settlement_leaves_the_job_to_its_lease,
            verdicts_in_a_transaction_count_when_it_commits,
            a_retry_from_a_transaction_is_found_at_once;
        faults:
            close_gives_back_what_was_not_started;
    };
    let on_a_server = cases! { true;
        streams:
            an_idle_stream_is_woken_by_another_process;
        locks:
            a_locked_queue_holds_up_no_other_queue,
            a_locked_key_holds_up_no_other,
            jobs_with_and_without_keys_keep_their_order;
        schedules:
            a_missed_tick_makes_one_job_that_knows_it;
        transactions:
            many_go_in_with_the_transaction_and_keys_are_told,
            a_holder_that_commits_meanwhile_refuses_the_whole_call,
            nothing_is_kept_in_a_session_of_a_pooler;
        settlements:
            a_transaction_older_than_an_extension_succeeds_the_second_time,
            a_transaction_that_settles_first_may_outlast_the_lease;
        faults:
            all_backends_are_killed_and_every_job_is_done,
            a_lost_listener_comes_back,
            trouble_on_the_way_has_its_kind,
            a_lock_held_too_long_is_told;
    };
    anywhere.into_iter().chain(on_a_server).collect()
}
