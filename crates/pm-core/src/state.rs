//! The states of a job and the events that change them.

use crate::named::named;
use std::fmt;

named! {
    /// The state of a job, in the order of a job's life cycle. The CLI and the API print [`State::name`].
    pub enum State {
        /// Waits to be claimed, now or when it is due.
        Pending = "pending",
        /// Waits, and cannot be claimed until its queue is resumed or, if only the job is paused, the job is restarted.
        Paused = "paused",
        /// Leased to a worker.
        InProgress = "in_progress",
        /// Ended successfully.
        Finished = "finished",
        /// Ended unsuccessfully, without further retries.
        Failed = "failed",
    }
}

named! {
    /// An event that can change the state of a job.
    pub enum Event {
        /// A worker claims the job.
        Claim,
        /// Its worker commits it.
        Commit,
        /// Its worker soft-fails it, and retries are left.
        SoftFail,
        /// Its worker soft-fails it, and no retries are left.
        LastSoftFail,
        /// Its worker hard-fails it.
        HardFail,
        /// Its worker releases it, without counting an attempt.
        Release,
        /// Its worker puts it off, without counting an attempt.
        Snooze,
        /// Its worker cannot decode its payload.
        Unreadable,
        /// No worker has been able to decode its payload for a day.
        LastUnreadable,
        /// Its worker extends the lease.
        Extend,
        /// Its lease is reaped, and retries are left.
        Reap,
        /// Its lease is reaped, and no retries are left.
        LastReap,
        /// Its queue, or the job itself, is paused.
        Pause,
        /// Its queue is resumed.
        Resume,
        /// An operator restarts it, unless it is in progress.
        Restart,
        /// An operator restarts it, even while it is in progress.
        ForceRestart,
        /// An operator marks it as finished.
        Done,
        /// It has not started by its time to expire.
        Expire,
        /// An operator marks it as failed.
        Fail,
        /// An operator cancels it; in progress, its handler is asked to stop.
        Cancel,
        /// An operator cancels it, and takes the lease of its worker if it is in progress.
        ForceCancel,
        /// Its lease ends in another way than with a commit after it was to be cancelled.
        EndCancelled,
    }
}

impl State {
    /// Returns the state after `event`, or `None` if the event is refused and nothing changes.
    ///
    /// This table is the contract: the SQL and the model are tested against it. A job that returns to `Pending` while
    /// its queue is paused is *shown* as `Paused`.
    pub fn after(self, event: Event) -> Option<State> {
        use Event::*;
        use State::*;
        match (self, event) {
            (Pending, Claim) => Some(InProgress),
            (InProgress, Commit) => Some(Finished),
            (InProgress, SoftFail | Reap | Release | Snooze | Unreadable) => Some(Pending),
            (InProgress, LastSoftFail | LastReap | LastUnreadable | HardFail) => Some(Failed),
            (InProgress, Extend) => Some(InProgress),
            (Pending, Pause) => Some(Paused),
            (Paused, Resume) => Some(Pending),
            (Pending | Paused | Finished | Failed, Restart | ForceRestart) => Some(Pending),
            (InProgress, ForceRestart) => Some(Pending),
            (Pending | Paused | InProgress, Done) => Some(Finished),
            (Pending | Paused | InProgress, Fail | ForceCancel) => Some(Failed),
            (Pending | Paused, Cancel | Expire) => Some(Failed),
            (InProgress, Cancel) => Some(InProgress),
            (InProgress, EndCancelled) => Some(Failed),
            _ => None,
        }
    }

    /// Returns whether the job has ended.
    pub fn is_ended(self) -> bool {
        matches!(self, State::Finished | State::Failed)
    }

    /// Returns the state with this name, if there is one; `-` and `_` are equivalent.
    pub fn from_name(name: &str) -> Option<State> {
        let wanted = name.replace('-', "_");
        State::ALL.into_iter().find(|state| state.name() == wanted)
    }

    /// Returns the number that represents the state in replies; `Paused` is computed, never stored.
    pub(crate) fn code(self) -> i16 {
        match self {
            State::Pending => 0,
            State::InProgress => 1,
            State::Finished => 2,
            State::Failed => 3,
            State::Paused => 4,
        }
    }

    /// Returns the state that this number represents.
    pub fn from_code(code: i16) -> Option<State> {
        State::ALL.into_iter().find(|state| state.code() == code)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The state after each event in each state, in the order of [`State::ALL`]: P pending, H paused, I in progress,
    /// F finished, X failed; `.` is refused.
    const TABLE: [(Event, &str); 22] = [
        (Event::Claim, "I...."),
        (Event::Commit, "..F.."),
        (Event::SoftFail, "..P.."),
        (Event::LastSoftFail, "..X.."),
        (Event::HardFail, "..X.."),
        (Event::Release, "..P.."),
        (Event::Snooze, "..P.."),
        (Event::Unreadable, "..P.."),
        (Event::LastUnreadable, "..X.."),
        (Event::Extend, "..I.."),
        (Event::Reap, "..P.."),
        (Event::LastReap, "..X.."),
        (Event::Pause, "H...."),
        (Event::Resume, ".P..."),
        (Event::Restart, "PP.PP"),
        (Event::ForceRestart, "PPPPP"),
        (Event::Done, "FFF.."),
        (Event::Expire, "XX..."),
        (Event::Fail, "XXX.."),
        (Event::Cancel, "XXI.."),
        (Event::ForceCancel, "XXX.."),
        (Event::EndCancelled, "..X.."),
    ];

    #[test]
    fn every_event_in_every_state_does_what_the_table_lists() {
        assert_eq!(TABLE.map(|(event, _)| event), Event::ALL);
        for (event, row) in TABLE {
            for (state, expected) in State::ALL.into_iter().zip(row.chars()) {
                let letters = [('P', State::Pending), ('H', State::Paused), ('I', State::InProgress)];
                let ends = [('F', State::Finished), ('X', State::Failed)];
                let expected =
                    letters.iter().chain(&ends).find(|(letter, _)| *letter == expected).map(|(_, state)| *state);
                assert_eq!(state.after(event), expected, "{state} {event:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn whatever_happens_a_job_ends_once_between_restarts(events in prop::collection::vec(0..Event::ALL.len(), 0..200)) {
            let (mut state, mut endings) = (State::Pending, 0);
            for event in events.into_iter().map(|n| Event::ALL[n]) {
                let Some(next) = state.after(event) else { continue };
                if matches!(event, Event::Restart | Event::ForceRestart) {
                    endings = 0;
                }
                endings += u32::from(next.is_ended());
                prop_assert!(endings <= 1 && (endings == 1) == next.is_ended(), "{state} {event:?}");
                state = next;
            }
        }
    }

    #[test]
    fn every_state_can_lead_to_both_endings() {
        for state in State::ALL {
            let mut reached = vec![state];
            for _ in State::ALL {
                let next = reached.iter().flat_map(|state| Event::ALL.map(|event| state.after(event)));
                let next: Vec<_> = next.flatten().filter(|state| !reached.contains(state)).collect();
                reached.extend(next);
            }
            assert!(reached.contains(&State::Finished) && reached.contains(&State::Failed), "{state}");
        }
    }

    #[test]
    fn only_a_restart_leaves_an_ended_state() {
        for state in [State::Finished, State::Failed] {
            for event in Event::ALL {
                let allowed = matches!(event, Event::Restart | Event::ForceRestart);
                assert_eq!(state.after(event).is_some(), allowed, "{state} {event:?}");
            }
        }
    }

    #[test]
    fn a_lease_begins_only_with_a_claim() {
        for state in State::ALL {
            for event in Event::ALL {
                if state != State::InProgress && state.after(event) == Some(State::InProgress) {
                    assert_eq!((state, event), (State::Pending, Event::Claim));
                }
            }
        }
    }

    #[test]
    fn a_job_that_is_not_in_progress_cannot_be_settled_extended_or_reaped() {
        use Event::*;
        for state in State::ALL.into_iter().filter(|state| *state != State::InProgress) {
            for event in [Commit, SoftFail, LastSoftFail, HardFail, Release, Snooze, Extend, Reap, LastReap] {
                assert_eq!(state.after(event), None, "{state} {event:?}");
            }
        }
    }

    #[test]
    fn names_and_codes_round_trip() {
        for state in State::ALL {
            assert_eq!(State::from_name(state.name()), Some(state));
            assert_eq!(State::from_code(state.code()), Some(state));
        }
        assert_eq!(State::from_name("in-progress"), Some(State::InProgress));
        assert_eq!(State::from_name("Pending"), None);
        assert_eq!(State::from_code(9), None);
    }
}
