//! Faults between a process and the database, and how often they happen in a world.

use super::world::{MS, SECOND};
use crate::Seed;
use pm_core::StatementId;
use std::collections::BTreeMap;

/// What happens to a statement.
#[derive(Debug, Clone, Copy)]
pub(super) enum Fate {
    /// No connection is available.
    Unsent,
    /// The connection breaks before the server receives it.
    LostBefore { fails_us: u64 },
    /// The server runs it. Its reply may be lost.
    Runs { runs_us: u64, answers_us: u64, is_lost: bool },
    /// The connection breaks, and the server runs it afterwards.
    Straggles { fails_us: u64, runs_us: u64 },
}

/// How many of a thousand statements meet each fault. Each world has its own mixture.
#[derive(Debug, Default)]
pub(super) struct Faults {
    unsent: u64,
    lost_before: u64,
    lost_after: u64,
    straggles: u64,
    slow: u64,
    pub(super) notification_lost: u64,
    pub(super) notification_doubled: u64,
    pub(super) notification_late: u64,
    /// No process can connect until then: the server restarts.
    pub(super) down_until: u64,
    /// An open transaction holds locks until then, and operators' statements wait for them.
    pub(super) locked_until: u64,
    /// A process cannot connect until then.
    pub(super) cut_off_until: BTreeMap<usize, u64>,
}

impl Faults {
    /// Returns a mixture in which each kind of fault is absent, rare or frequent.
    pub(super) fn drawn(seed: &mut Seed) -> Self {
        let mut rate = |most: u64| seed.pick(&[0, most / 8, most]);
        Faults {
            unsent: rate(60),
            lost_before: rate(60),
            lost_after: rate(120),
            straggles: rate(60),
            slow: rate(250),
            notification_lost: rate(400),
            notification_doubled: rate(300),
            notification_late: rate(300),
            ..Faults::default()
        }
    }

    /// Ends all faults.
    pub(super) fn stop(&mut self) {
        *self = Faults::default();
    }

    pub(super) fn fate(&self, process: usize, statement: Option<StatementId>, now: u64, seed: &mut Seed) -> Fate {
        let cut_off = self.cut_off_until.get(&process).is_some_and(|until| *until > now);
        if self.down_until > now || cut_off || seed.below(1_000) < self.unsent {
            return Fate::Unsent;
        }
        if seed.below(1_000) < self.lost_before {
            return Fate::LostBefore { fails_us: seed.below(2 * SECOND) };
        }
        // What becomes of a lost claim matters only if the server still works on it.
        let straggles = if statement == Some(StatementId::Claim) { 5 * self.straggles } else { self.straggles };
        if seed.below(1_000) < straggles {
            return Fate::Straggles { fails_us: seed.below(SECOND), runs_us: seed.below(4 * SECOND) };
        }
        let is_lost = seed.below(1_000) < self.lost_after;
        let mut takes_us = || if seed.below(1_000) < self.slow { seed.below(3 * SECOND) } else { seed.below(2 * MS) };
        Fate::Runs { runs_us: takes_us(), answers_us: takes_us(), is_lost }
    }
}
