//! The simulation: some hundred worlds in a normal test run; `scripts/sim` runs more.

use pm_tests::sim::{Bug, live_bytes, run, run_with};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How many worlds a normal test run has, and into how many tests they are divided.
const WORLDS: u64 = 500;
const SHARES: u64 = 4;
/// Seeds that once had a violation, and which.
const REGRESSIONS: [(u64, &str); 0] = [];
/// A planted bug must be found within this many worlds; more would take too long for a test.
const MOST_WORLDS: u64 = 200;

/// Runs the worlds of a share, or only that of `PM_SEED`.
fn run_share(share: u64) {
    let chosen = std::env::var("PM_SEED").ok().map(|seed| seed.parse::<u64>().expect("PM_SEED is a number"));
    let each = WORLDS / SHARES;
    let seeds = match chosen {
        Some(seed) if share == 0 => seed..seed + 1,
        Some(_) => return,
        None => 1 + share * each..1 + (share + 1) * each,
    };
    for seed in seeds {
        if let Some(violation) = run(seed).violation {
            panic!("{violation}\nreplay: PM_SEED={seed} scripts/sim");
        }
    }
}

#[test]
fn every_promise_holds_in_the_first_share_of_worlds() {
    run_share(0);
}

#[test]
fn every_promise_holds_in_the_second_share_of_worlds() {
    run_share(1);
}

#[test]
fn every_promise_holds_in_the_third_share_of_worlds() {
    run_share(2);
}

#[test]
fn every_promise_holds_in_the_fourth_share_of_worlds() {
    run_share(3);
}

#[test]
fn violations_of_the_past_do_not_recur() {
    for (seed, what) in REGRESSIONS {
        assert_eq!(run(seed).violation, None, "{what}; PM_SEED={seed} scripts/sim");
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
fn every_promise_holds_in_the_worlds_of_the_fuzz_corpus() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/sim");
    let mut files: Vec<_> = corpus.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty());
    for file in files {
        println!("{}", file.display());
        live_bytes(&std::fs::read(&file).unwrap());
    }
}

/// On two threads, because a single one comes near the time that a test may take.
#[test]
fn every_planted_bug_is_found() {
    let next = AtomicUsize::new(0);
    let find = || {
        let mut found = Vec::new();
        while let Some((bug, what)) = Bug::ALL.get(next.fetch_add(1, Ordering::Relaxed)) {
            let seed = (1..=MOST_WORLDS).find_map(|seed| Some((seed, run_with(seed, Some(*bug)).violation?)));
            found.push((bug, what, seed));
        }
        found
    };
    let mut found = std::thread::scope(|scope| {
        let threads = [scope.spawn(find), scope.spawn(find)];
        threads.map(|thread| thread.join().expect("no world panics")).concat()
    });
    found.sort_by_key(|(bug, ..)| *bug);
    for (_, what, found) in &found {
        if let Some((seed, violation)) = found {
            let head: String = violation.lines().next().unwrap_or_default().chars().take(110).collect();
            println!("| {what} | {seed} | {head} |");
        }
    }
    let missed: Vec<_> = found.iter().filter(|(.., found)| found.is_none()).map(|(_, what, _)| what).collect();
    assert!(missed.is_empty(), "not found within {MOST_WORLDS} worlds: {missed:?}");
}
