//! The simulation: some hundred worlds in the ordinary run; `scripts/sim` lives through more.

use pm_tests::sim::{Bug, run, run_with};

/// How many worlds the ordinary run lives through, in so many tests at once.
const WORLDS: u64 = 500;
const SHARES: u64 = 4;
/// Seeds in which something was wrong once, and what.
const REGRESSIONS: [(u64, &str); 0] = [];
/// A planted bug must be found within so many worlds; more would take longer than a test may.
const PATIENCE: u64 = 200;

/// Lives through the worlds of a share; or through that of `PM_SEED` alone.
fn live_through(share: u64) {
    let chosen = std::env::var("PM_SEED").ok().map(|seed| seed.parse::<u64>().expect("PM_SEED is a number"));
    let each = WORLDS / SHARES;
    let seeds = match chosen {
        Some(seed) if share == 0 => seed..seed + 1,
        Some(_) => return,
        None => 1 + share * each..1 + (share + 1) * each,
    };
    for seed in seeds {
        if let Some(violation) = run(seed).violation {
            panic!("{violation}\nreplay it: PM_SEED={seed} scripts/sim");
        }
    }
}

#[test]
fn every_promise_holds_in_the_first_share_of_worlds() {
    live_through(0);
}

#[test]
fn every_promise_holds_in_the_second_share_of_worlds() {
    live_through(1);
}

#[test]
fn every_promise_holds_in_the_third_share_of_worlds() {
    live_through(2);
}

#[test]
fn every_promise_holds_in_the_fourth_share_of_worlds() {
    live_through(3);
}

#[test]
fn what_was_wrong_once_is_right() {
    for (seed, what) in REGRESSIONS {
        assert_eq!(run(seed).violation, None, "again: {what}; PM_SEED={seed} scripts/sim");
    }
}

#[test]
fn the_same_seed_gives_the_same_world() {
    for seed in 1..=5 {
        assert_eq!(run(seed), run(seed));
    }
    assert_ne!(run(1).hash, run(2).hash);
}

#[test]
fn every_planted_bug_is_found() {
    let mut missed = Vec::new();
    for (bug, what) in Bug::ALL {
        let found = (1..=PATIENCE).find_map(|seed| Some((seed, run_with(seed, Some(bug)).violation?)));
        match found {
            Some((seed, violation)) => {
                let head: String = violation.lines().next().unwrap_or_default().chars().take(110).collect();
                println!("| {what} | {seed} | {head} |");
            }
            None => missed.push(what),
        }
    }
    assert!(missed.is_empty(), "not found within {PATIENCE} worlds: {missed:?}");
}
