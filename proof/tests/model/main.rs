//! The life of a lease, checked exhaustively: every order of everything that two workers, two jobs, an operator, the
//! reaper, time and a lossy network can do. And the design's safeguards taken away one by one: each must be missed.

mod leases;

use leases::{LATE_WORD, Leases, Mistake, ONE_ENDING, Scenario, TRUE_ANSWER, TWO_TRUSTED};
use stateright::{Checker, HasDiscoveries, Model};
use std::collections::HashMap;

const SOUND: Leases = Leases { most_words: 1, mistake: None };

/// Returns how many words may be under way at once: one, in seconds, or more, in minutes (`PM_MODEL_WORDS`).
fn most_words() -> usize {
    std::env::var("PM_MODEL_WORDS").map_or(1, |words| words.parse().expect("PM_MODEL_WORDS is a number"))
}

#[test]
fn nothing_that_can_happen_breaks_a_promise() {
    let checker = Leases { most_words: most_words(), ..SOUND }.checker().threads(2).spawn_bfs().join();
    checker.assert_properties();
    println!("{} states, {} deep", checker.unique_state_count(), checker.max_depth());
}

#[test]
fn without_a_safeguard_the_checker_finds_how_its_promise_breaks() {
    for (mistake, promise) in [
        (Mistake::NoFence, LATE_WORD),
        (Mistake::BlindSettle, ONE_ENDING),
        (Mistake::EarlyReap, TWO_TRUSTED),
        (Mistake::NoMargin, TWO_TRUSTED),
        (Mistake::TrustFromReply, TWO_TRUSTED),
        (Mistake::ForgetfulRestart, TRUE_ANSWER),
    ] {
        let found = HasDiscoveries::AnyOf([promise].into());
        let checker = Leases { mistake: Some(mistake), most_words: 2 }.checker().finish_when(found).spawn_bfs().join();
        let path = checker.assert_any_discovery(promise);
        println!("{mistake:?} breaks \"{promise}\": {:?}", path.into_actions());
    }
}

/// Forwards through all scenarios, then backwards from those in which all jobs have ended, along ordinary steps only.
#[test]
fn from_wherever_trouble_leads_every_job_can_end_without_more_of_it() {
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
    let is_over = |scenario: &Scenario| scenario.jobs.iter().all(|job| job.state.is_ended());
    let mut open: Vec<_> = (0..scenarios.len()).filter(|number| is_over(&scenarios[*number])).collect();
    let mut can_end = vec![false; scenarios.len()];
    while let Some(number) = open.pop() {
        if !std::mem::replace(&mut can_end[number], true) {
            open.extend(&before[number]);
        }
    }
    let stuck = can_end.iter().position(|can_end| !can_end);
    assert!(stuck.is_none(), "no job ends from here: {:#?}", stuck.map(|number| &scenarios[number]));
}
