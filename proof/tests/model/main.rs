//! Exhaustive checks of the model of leases: every order of the actions of two workers, an operator, the reaper, time
//! and a lossy network on two jobs. Each safeguard of the design is also removed in turn, and the checker must find a
//! counterexample.

mod leases;

use leases::{LATE_SETTLEMENT, Leases, Mistake, ONE_ENDING, Scenario, TRUE_ANSWER, TWO_TRUSTED};
use stateright::{Checker, HasDiscoveries, Model};
use std::collections::HashMap;

const SOUND: Leases = Leases { max_settlements: 1, mistake: None };

/// Returns how many settlements may be in flight (`PM_MODEL_WORDS`): one takes seconds, more take minutes.
fn max_settlements() -> usize {
    std::env::var("PM_MODEL_WORDS").map_or(1, |number| number.parse().expect("PM_MODEL_WORDS is a number"))
}

#[test]
fn every_property_holds_in_all_scenarios() {
    let checker = Leases { max_settlements: max_settlements(), ..SOUND }.checker().threads(2).spawn_bfs().join();
    checker.assert_properties();
    println!("{} states, {} deep", checker.unique_state_count(), checker.max_depth());
}

#[test]
fn without_a_safeguard_the_checker_finds_a_counterexample() {
    for (mistake, property) in [
        (Mistake::NoFence, LATE_SETTLEMENT),
        (Mistake::BlindSettle, ONE_ENDING),
        (Mistake::EarlyReap, TWO_TRUSTED),
        (Mistake::NoMargin, TWO_TRUSTED),
        (Mistake::TrustFromReply, TWO_TRUSTED),
        (Mistake::ForgetfulRestart, TRUE_ANSWER),
    ] {
        let found = HasDiscoveries::AnyOf([property].into());
        let checker =
            Leases { mistake: Some(mistake), max_settlements: 2 }.checker().finish_when(found).spawn_bfs().join();
        let path = checker.assert_any_discovery(property);
        println!("{mistake:?} breaks \"{property}\": {:?}", path.into_actions());
    }
}

/// Searches forwards through all scenarios, then backwards from those in which all jobs have ended, along ordinary
/// actions only.
#[test]
fn from_every_scenario_all_jobs_can_end_without_further_faults() {
    let model = SOUND;
    let mut scenarios = model.init_states();
    let mut numbers: HashMap<_, _> = scenarios.iter().cloned().zip(0..).collect();
    let mut before: Vec<Vec<usize>> = vec![Vec::new()];
    let mut at = 0;
    while at < scenarios.len() {
        for (action, next) in model.next_steps(&scenarios[at]) {
            let number = *numbers.entry(next).or_insert_with_key(|next| {
                scenarios.push(next.clone());
                before.push(Vec::new());
                scenarios.len() - 1
            });
            if action.is_ordinary() {
                before[number].push(at);
            }
        }
        at += 1;
    }
    let is_ended = |scenario: &Scenario| scenario.jobs.iter().all(|job| job.state.is_ended());
    let mut open: Vec<_> = (0..scenarios.len()).filter(|number| is_ended(&scenarios[*number])).collect();
    let mut can_end = vec![false; scenarios.len()];
    while let Some(number) = open.pop() {
        if !std::mem::replace(&mut can_end[number], true) {
            open.extend(&before[number]);
        }
    }
    let stuck = can_end.iter().position(|can_end| !can_end);
    assert!(stuck.is_none(), "the jobs cannot end from here: {:#?}", stuck.map(|number| &scenarios[number]));
}
