//! Records what producers and worker processes report, and audits it against the tables.

use pm_driver_tokio_postgres::Uuid;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, UNIX_EPOCH};

/// How far two trusted leases may overlap in the ledger, in microseconds: a handler on a busy processor learns late
/// that its lease is lost.
const SCHEDULING_DELAY: u64 = 1_000_000;

/// The ledger of one test.
#[derive(Default)]
pub(crate) struct Ledger(Mutex<Entries>);

#[derive(Default)]
pub(crate) struct Entries {
    /// Confirmed enqueues, by number.
    pub(crate) confirmed: BTreeMap<u64, Uuid>,
    /// Failed enqueues, by error.
    pub(crate) refusals: BTreeMap<String, usize>,
    /// When handlers had which job and trusted its lease.
    spans: BTreeMap<u64, Vec<Span>>,
    /// Successful commits: job and time.
    pub(crate) endings: Vec<(u64, u64)>,
    /// Failed commits, by kind of error.
    pub(crate) failed_commits: BTreeMap<String, usize>,
    pub(crate) errors: Vec<String>,
}

#[derive(Debug, Clone, Copy)]
struct Span {
    process: usize,
    from_us: u64,
    to_us: Option<u64>,
}

pub(crate) fn now_us() -> u64 {
    UNIX_EPOCH.elapsed().expect("the clock is after 1970").as_micros() as u64
}

impl Ledger {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().expect("the lock is not poisoned")
    }

    /// Records a line that a worker process printed.
    pub(crate) fn note(&self, process: usize, line: &str) {
        let fields: Vec<&str> = line.split(' ').collect();
        let number = |index: usize| fields[index].parse::<u64>().expect("workers print numbers");
        let mut entries = self.lock();
        match fields[0] {
            "starts" => {
                let span = Span { process, from_us: number(3), to_us: None };
                entries.spans.entry(number(1)).or_default().push(span);
            }
            "stops" => {
                let spans = entries.spans.entry(number(1)).or_default();
                let span = spans.iter_mut().rfind(|span| span.process == process).expect("it started");
                span.to_us = Some(number(3));
            }
            "settled" if fields[2] == "Ok" => entries.endings.push((number(1), number(3))),
            "settled" => *entries.failed_commits.entry(fields[2].to_owned()).or_default() += 1,
            "error" => entries.errors.push(line.to_owned()),
            _ => {}
        }
    }

    /// Records that a process is dead; returns the jobs that its handlers had.
    pub(crate) fn note_death(&self, process: usize) -> Vec<u64> {
        let mut jobs = Vec::new();
        for (n, spans) in &mut self.lock().spans {
            for span in spans.iter_mut().filter(|span| span.process == process && span.to_us.is_none()) {
                span.to_us = Some(now_us());
                jobs.push(*n);
            }
        }
        jobs
    }

    /// Returns how many commits succeeded at or after `from_us`.
    pub(crate) fn endings_since(&self, from_us: u64) -> usize {
        self.lock().endings.iter().filter(|(_, at)| *at >= from_us).count()
    }

    /// Returns how long after `from_us` the successful commit number `count` came.
    pub(crate) fn ending_after(&self, from_us: u64, count: usize) -> Option<Duration> {
        let entries = self.lock();
        let mut times: Vec<u64> = entries.endings.iter().map(|(_, at)| *at).filter(|at| *at >= from_us).collect();
        times.sort_unstable();
        times.get(count - 1).map(|at| Duration::from_micros(at - from_us))
    }

    /// Returns the longest time without a successful commit from `from_us` on.
    pub(crate) fn longest_pause(&self, from_us: u64) -> Duration {
        let mut times: Vec<u64> = self.lock().endings.iter().map(|(_, at)| *at).filter(|at| *at >= from_us).collect();
        times.push(from_us);
        times.sort_unstable();
        Duration::from_micros(times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0))
    }
}

/// The figures of a test for the table in docs/reliability.md.
pub(crate) struct Figures {
    pub(crate) jobs: usize,
    pub(crate) finished: usize,
    pub(crate) duplicates: usize,
}

/// Audits the ledger against the tables; `tables` answers a query with rows of text.
///
/// No confirmed job is lost; none is stored twice; each job ended once, and none started after its end was confirmed; a
/// job started again only after its lease was reaped, once for each reap; no two handlers trusted a lease on one job at
/// the same time.
pub(crate) fn audit(ledger: &Ledger, tables: impl Fn(&str) -> Vec<Vec<Option<String>>>) -> Figures {
    let entries = ledger.lock();
    let rows = tables(
        "select convert_from(payload, 'UTF8'), job.id, state, retry_count,
                (select count(*) from pm.attempt where job_id = job.id and verdict = 4)
         from pm.job",
    );
    let cell = |row: &[Option<String>], index: usize| row[index].clone().expect("these columns are never null");
    let mut jobs: BTreeMap<u64, (Uuid, usize)> = BTreeMap::new();
    for row in &rows {
        let (n, id) = (cell(row, 0).parse().expect("a number"), cell(row, 1).parse().expect("an id"));
        let reaped: usize = cell(row, 4).parse().expect("a count");
        assert_eq!(cell(row, 2), "2", "job {n} has not finished");
        assert_eq!(cell(row, 3).parse::<usize>().expect("a count"), reaped, "job {n} has retries without a reap");
        assert!(jobs.insert(n, (id, reaped)).is_none(), "job {n} is stored twice");
    }
    for (n, id) in &entries.confirmed {
        assert_eq!(jobs.get(n).map(|(id, _)| id), Some(id), "job {n} was confirmed");
    }
    let unconfirmed: usize = entries.refusals.values().sum();
    assert!(jobs.len() <= entries.confirmed.len() + unconfirmed, "every stored job was enqueued");
    assert!(entries.errors.is_empty(), "streams yield no errors: {:?}", entries.errors);

    let mut ended = BTreeMap::new();
    for (n, at) in &entries.endings {
        assert!(ended.insert(*n, *at).is_none(), "job {n} was confirmed twice as ended");
    }
    let mut duplicates = 0;
    for (n, spans) in &entries.spans {
        let (_, reaped) = jobs[n];
        assert!(spans.len() <= 1 + reaped, "job {n} started {} times and was reaped {reaped} times", spans.len());
        duplicates += spans.len() - 1;
        let mut spans = spans.clone();
        spans.sort_by_key(|span| span.from_us);
        for pair in spans.windows(2) {
            let late = pair[0].to_us.expect("it stopped or died").saturating_sub(pair[1].from_us);
            assert!(late < SCHEDULING_DELAY, "job {n}: two leases were trusted at once for {late} us");
        }
        let last = spans.last().expect("there is a span").from_us;
        assert!(ended.get(n).is_none_or(|end| last <= *end), "job {n} started after its end was confirmed");
    }
    let started: BTreeSet<u64> = entries.spans.keys().copied().collect();
    assert!(jobs.keys().all(|n| started.contains(n)), "every finished job had a handler");
    Figures { jobs: jobs.len(), finished: rows.len(), duplicates }
}

mod tests {
    use super::*;

    /// Returns a ledger and tables that agree: job 7 ran twice, because its first lease was reaped.
    fn good() -> (Ledger, Vec<Vec<Option<String>>>) {
        let (ledger, id) = (Ledger::default(), Uuid::from_u128(1));
        ledger.lock().confirmed.insert(7, id);
        ledger.note(0, "starts 7 1 1000000");
        ledger.note(0, "stops 7 1 2000000");
        ledger.note(1, "starts 7 2 3000000");
        ledger.note(1, "stops 7 2 4000000");
        ledger.note(1, "settled 7 Ok 4100000");
        (ledger, vec![["7", &id.to_string(), "2", "1", "1"].map(|cell| Some(cell.to_owned())).to_vec()])
    }

    fn verdict(change: impl FnOnce(&Ledger, &mut Vec<Vec<Option<String>>>)) -> Result<Figures, String> {
        let (ledger, mut rows) = good();
        change(&ledger, &mut rows);
        let audited = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| audit(&ledger, |_| rows.clone())));
        audited.map_err(|panic| *panic.downcast::<String>().expect("the panic has a message"))
    }

    fn fault(change: impl FnOnce(&Ledger, &mut Vec<Vec<Option<String>>>)) -> String {
        verdict(change).err().expect("the audit finds it")
    }

    #[test]
    fn the_audit_passes_a_consistent_ledger_and_finds_each_fault() {
        let figures = verdict(|_, _| {}).unwrap_or_else(|fault| panic!("{fault}"));
        assert_eq!((figures.jobs, figures.finished, figures.duplicates), (1, 1, 1));

        assert!(fault(|_, rows| rows.clear()).contains("was confirmed"));
        assert!(fault(|_, rows| rows.push(rows[0].clone())).contains("stored twice"));
        assert!(fault(|_, rows| rows[0][2] = Some("1".to_owned())).contains("has not finished"));
        assert!(fault(|_, rows| rows[0][3] = Some("2".to_owned())).contains("without a reap"));
        let unreaped =
            |rows: &mut Vec<Vec<Option<String>>>| (3..5).for_each(|cell| rows[0][cell] = Some("0".to_owned()));
        assert!(fault(|_, rows| unreaped(rows)).contains("started 2 times"));
        assert!(fault(|ledger, _| ledger.note(0, "settled 7 Ok 4200000")).contains("confirmed twice"));
        let again = |ledger: &Ledger| ["starts 7 3 5000000", "stops 7 3 6000000"].map(|line| ledger.note(0, line));
        let twice = |rows: &mut Vec<Vec<Option<String>>>| (3..5).for_each(|cell| rows[0][cell] = Some("2".to_owned()));
        assert!(fault(|ledger, rows| (again(ledger), twice(rows)).1).contains("started after its end"));
        assert!(fault(|ledger, _| ledger.note(0, "stops 7 1 4500000")).contains("trusted at once"));
        assert!(fault(|ledger, _| ledger.note(0, "error Schema gone")).contains("no errors"));
    }
}
