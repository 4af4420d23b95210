//! Runs many worlds of the simulation in parallel: `sim --seeds 10000`, `sim --minutes 60`, `PM_SEED=7 sim`.

use pm_tests::sim::{Report, Tally, run};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

fn main() {
    let limits = Limits::from_environment();
    let (next, broken) = (AtomicU64::new(limits.first), AtomicBool::new(false));
    let (start, total) = (Instant::now(), Mutex::new(Total::default()));
    let threads = std::thread::available_parallelism().map_or(1, |threads| threads.get());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    let is_over = seed - limits.first >= limits.seeds || start.elapsed() >= limits.time;
                    if is_over || broken.load(Ordering::Relaxed) {
                        return;
                    }
                    let report = run(seed);
                    total.lock().expect("the lock is not poisoned").add(&report);
                    if let Some(violation) = report.violation {
                        broken.store(true, Ordering::Relaxed);
                        println!("{violation}\nreplay: PM_SEED={seed} scripts/sim");
                    }
                }
            });
        }
    });
    total.into_inner().expect("the lock is not poisoned").print(start.elapsed());
    std::process::exit(i32::from(broken.into_inner()));
}

/// Which worlds to run, and for how long.
struct Limits {
    first: u64,
    seeds: u64,
    time: Duration,
}

impl Limits {
    fn from_environment() -> Limits {
        const FOR_EVER: Duration = Duration::MAX;
        let mut limits = Limits { first: 1, seeds: u64::MAX, time: FOR_EVER };
        let mut arguments = std::env::args().skip(1);
        while let Some(flag) = arguments.next() {
            let number = arguments.next().and_then(|number| number.parse::<u64>().ok());
            match (flag.as_str(), number) {
                ("--seeds", Some(number)) => limits.seeds = number,
                ("--from", Some(number)) => limits.first = number,
                ("--minutes", Some(number)) => limits.time = Duration::from_secs(number * 60),
                _ => {
                    eprintln!(
                        "usage: scripts/sim [--seeds NUMBER] [--minutes NUMBER] [--from SEED]   or PM_SEED=SEED scripts/sim"
                    );
                    std::process::exit(2);
                }
            }
        }
        if let Ok(seed) = std::env::var("PM_SEED") {
            limits = Limits { first: seed.parse().expect("PM_SEED is a number"), seeds: 1, time: FOR_EVER };
        } else if limits.seeds == u64::MAX && limits.time == FOR_EVER {
            limits.seeds = 500;
        }
        limits
    }
}

/// Totals over all worlds.
#[derive(Default)]
struct Total {
    worlds: u64,
    lasted: Duration,
    hash: u64,
    counts: [u64; 8],
}

impl Total {
    fn add(&mut self, report: &Report) {
        self.worlds += 1;
        self.lasted += report.lasted;
        self.hash ^= report.hash;
        let Tally { statements, jobs, ticks, endings, reaped, lost, pairs, crashes } = report.tally;
        let counts = [statements, jobs, ticks, endings, reaped, lost, pairs, crashes];
        self.counts.iter_mut().zip(counts).for_each(|(total, count)| *total += count);
    }

    fn print(&self, elapsed: Duration) {
        let [statements, jobs, ticks, endings, reaped, lost, pairs, crashes] = self.counts;
        let (worlds, hours, seconds) = (self.worlds, self.lasted.as_secs() / 3_600, elapsed.as_secs());
        println!("{worlds} worlds, {hours} h of virtual time in {seconds} s, hash {:016x}", self.hash);
        println!(
            "{statements} statements, {jobs} jobs, {ticks} of them by schedules, {endings} endings, {reaped} reaped, {lost} settlements refused, {pairs} times two batches of enqueues in flight, {crashes} crashes"
        );
    }
}
