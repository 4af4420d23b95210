//! The simulation: some hundred worlds in the ordinary run; `scripts/sim` lives through more.

use pm_tests::sim::{Bug, live_bytes, run, run_with};
use std::path::Path;

/// How many worlds the ordinary run lives through, in so many tests at once.
const WORLDS: u64 = 500;
const SHARES: u64 = 4;
/// Seeds in which something was wrong once, and what.
const REGRESSIONS: [(u64, &str); 0] = [];
/// A planted bug must be found within so many worlds; more would take longer than a test may.
const TIMEOUT: u64 = 200;

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
fn the_bytes_of_a_seed_give_its_world_and_more_of_them_choose_within_it() {
    assert_eq!(live_bytes(&7u64.to_le_bytes()), run(7));
    let with = |chosen: &[u8]| live_bytes(&[&7u64.to_le_bytes()[..], chosen].concat());
    assert_eq!(with(&[1, 2, 3]), with(&[1, 2, 3]));
    assert_ne!(with(&[1, 2, 3]).hash, with(&[201, 2, 3]).hash);
}

/// The committed corpus of the fuzzer, replayed.
#[test]
fn every_promise_holds_in_the_worlds_that_bytes_chose() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/sim");
    let mut files: Vec<_> = corpus.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty());
    for file in files {
        println!("{}", file.display());
        live_bytes(&std::fs::read(&file).unwrap());
    }
}

#[test]
fn every_planted_bug_is_found() {
    let mut missed = Vec::new();
    for (bug, what) in Bug::ALL {
        let found = (1..=TIMEOUT).find_map(|seed| Some((seed, run_with(seed, Some(bug)).violation?)));
        match found {
            Some((seed, violation)) => {
                let head: String = violation.lines().next().unwrap_or_default().chars().take(110).collect();
                println!("| {what} | {seed} | {head} |");
            }
            None => missed.push(what),
        }
    }
    assert!(missed.is_empty(), "not found within {TIMEOUT} worlds: {missed:?}");
}
