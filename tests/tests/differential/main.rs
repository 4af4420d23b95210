//! Random lists of operations on the memory driver and on Postgres behind both drivers: replies and tables must be
//! equal after every step.
//!
//! `PM_LISTS=5000` with `cargo test` tries more lists than a normal run (nextest stops tests that take over five
//! minutes), `PM_SEED=…` the same ones again.

mod action;
mod dump;
mod history;
mod schedules;
mod sides;

use action::{Action, ScheduleAction};
use history::History;
use proptest::test_runner::{Config, RngSeed, TestCaseError, TestRunner};
use sides::Sides;
use std::cell::RefCell;

/// How many lists a normal run tries.
const LISTS: u32 = 300;

#[test]
fn the_model_and_postgres_do_the_same() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    let seed = number("PM_SEED").unwrap_or_else(|| std::time::UNIX_EPOCH.elapsed().map_or(1, |now| now.as_secs()));
    let cases = number("PM_LISTS").map_or(LISTS, |lists| lists as u32);
    let replay = format!("replay: PM_SEED={seed} PM_LISTS={cases} cargo nextest run -p pm-tests --test differential");
    println!("{replay}");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("it can be built");
    let sides = RefCell::new(runtime.block_on(Sides::new()));
    let late = RefCell::new(0);
    let config = Config {
        cases,
        rng_seed: RngSeed::Fixed(seed),
        failure_persistence: None,
        max_shrink_iters: 2_000,
        ..Config::default()
    };
    let outcome = TestRunner::new(config).run(&action::lists(), |list| {
        let mut sides = sides.borrow_mut();
        match runtime.block_on(run(&mut sides, &list)) {
            Err(_) if sides.is_late() => *late.borrow_mut() += 1,
            outcome => return outcome.map_err(TestCaseError::fail),
        }
        Ok(())
    });
    if let Err(difference) = outcome {
        panic!("{difference}\n{replay}");
    }
    let late = late.into_inner();
    assert!(late * 10 < cases, "{late} of {cases} lists took too long to compare");
}

/// Runs a list that once showed a difference.
fn replay(list: &[Action]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("it can be built");
    let mut sides = runtime.block_on(Sides::new());
    runtime.block_on(run(&mut sides, list)).unwrap_or_else(|difference| panic!("{difference}"));
}

#[test]
fn a_tick_whose_key_is_taken_draws_a_position_nevertheless() {
    let (schedule, queue, every, missed, look) = (0, 0, 0, 4, 0);
    let set = ScheduleAction::Set { schedule, queue, every, missed, skips_overlap: false, look, stale: false };
    replay(&[
        Action::Schedule(set),
        Action::Pass(3),
        Action::Schedule(ScheduleAction::Fire { stale: false, taken: Some(0) }),
        Action::Pass(3),
        Action::Schedule(ScheduleAction::Fire { stale: false, taken: None }),
    ]);
}

#[test]
fn a_job_sent_twice_in_a_batch_is_answered_twice() {
    let item = |queue, key, resent| action::Item {
        queue,
        priority: 0,
        paused: false,
        delayed: false,
        key,
        hold: 0,
        retries: None,
        resent,
    };
    replay(&[
        Action::Schedule(ScheduleAction::Fire { stale: false, taken: Some(2) }),
        Action::Claim { queues: vec![2], limit: 1 },
        Action::KeyHolder(vec![item(2, Some(2), false)]),
        Action::Replace(vec![item(0, None, true), item(0, None, true)]),
    ]);
}

async fn run(sides: &mut Sides, list: &[Action]) -> Result<(), String> {
    sides.start_anew().await;
    let mut history = History::new(sides);
    for action in [0, 1, 2].map(|queue| Action::CreateQueue { queue, paused: false }).iter().chain(list) {
        history.act(action).await.map_err(|difference| format!("{action:?}: {difference}"))?;
        sides.compare().await.map_err(|difference| format!("{action:?}: {difference}"))?;
    }
    Ok(())
}
