//! What producers and worker processes said, and whether it agrees with the tables.

use pm_driver_tokio_postgres::Uuid;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, UNIX_EPOCH};

/// How far trust may outlast its end in these ledger: handlers are told between two turns of a busy processor.
const LATE_BY_THE_PROCESSOR: u64 = 1_000_000;

/// The ledger of one test.
#[derive(Default)]
pub(crate) struct Ledger(Mutex<Entries>);

#[derive(Default)]
pub(crate) struct Entries {
    /// What producers were told to be in, by number.
    pub(crate) told: BTreeMap<u64, Uuid>,
    /// What producers were told otherwise, by kind of error.
    pub(crate) refusals: BTreeMap<String, usize>,
    /// When handlers had which job and trusted its lease.
    spans: BTreeMap<u64, Vec<Span>>,
    /// Commits answered with Ok: job and time.
    pub(crate) endings: Vec<(u64, u64)>,
    /// Commits answered otherwise, by kind of error.
    pub(crate) late_words: BTreeMap<String, usize>,
    pub(crate) errors: Vec<String>,
}

#[derive(Debug, Clone, Copy)]
struct Span {
    process: usize,
    from_us: u64,
    to_us: Option<u64>,
}

pub(crate) fn now_us() -> u64 {
    UNIX_EPOCH.elapsed().expect("it is later than 1970").as_micros() as u64
}

impl Ledger {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().expect("who writes here does not panic")
    }

    /// Takes note of a line that a worker process said.
    pub(crate) fn note(&self, process: usize, line: &str) {
        let words: Vec<&str> = line.split(' ').collect();
        let number = |place: usize| words[place].parse::<u64>().expect("workers say numbers");
        let mut entries = self.lock();
        match words[0] {
            "starts" => {
                let span = Span { process, from_us: number(3), to_us: None };
                entries.spans.entry(number(1)).or_default().push(span);
            }
            "stops" => {
                let spans = entries.spans.entry(number(1)).or_default();
                let span = spans.iter_mut().rfind(|span| span.process == process).expect("it began");
                span.to_us = Some(number(3));
            }
            "told" if words[2] == "Ok" => entries.endings.push((number(1), number(3))),
            "told" => *entries.late_words.entry(words[2].to_owned()).or_default() += 1,
            "error" => entries.errors.push(line.to_owned()),
            _ => {}
        }
    }

    /// Takes note that a process is dead; returns the jobs that its handlers had.
    pub(crate) fn note_death(&self, process: usize) -> Vec<u64> {
        let mut held = Vec::new();
        for (n, spans) in &mut self.lock().spans {
            for span in spans.iter_mut().filter(|span| span.process == process && span.to_us.is_none()) {
                span.to_us = Some(now_us());
                held.push(*n);
            }
        }
        held
    }

    /// Returns how many commits were answered with Ok at or after `from_us`.
    pub(crate) fn endings_since(&self, from_us: u64) -> usize {
        self.lock().endings.iter().filter(|(_, at)| *at >= from_us).count()
    }

    /// Returns how long after `from_us` the commit number `count` was answered with Ok.
    pub(crate) fn ending_after(&self, from_us: u64, count: usize) -> Option<Duration> {
        let entries = self.lock();
        let mut times: Vec<u64> = entries.endings.iter().map(|(_, at)| *at).filter(|at| *at >= from_us).collect();
        times.sort_unstable();
        times.get(count - 1).map(|at| Duration::from_micros(at - from_us))
    }

    /// Returns the longest time without an ending from `from_us` on.
    pub(crate) fn longest_pause(&self, from_us: u64) -> Duration {
        let mut times: Vec<u64> = self.lock().endings.iter().map(|(_, at)| *at).filter(|at| *at >= from_us).collect();
        times.push(from_us);
        times.sort_unstable();
        Duration::from_micros(times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0))
    }
}

/// What a test puts into the table of its page.
pub(crate) struct Figures {
    pub(crate) jobs: usize,
    pub(crate) finished: usize,
    pub(crate) duplicates: usize,
}

/// Looks whether ledger and tables agree and every promise was kept; `tables` answers a query with rows of text.
///
/// Nothing told to be in is lost; nothing is in twice; each job ended once, and none began after its end was told; none
/// began again but after its lease was reaped, once for each reaping; no two handlers trusted a lease on one job at once.
pub(crate) fn audit(ledger: &Ledger, tables: impl Fn(&str) -> Vec<Vec<Option<String>>>) -> Figures {
    let entries = ledger.lock();
    let rows = tables(
        "select convert_from(payload, 'UTF8'), job.id, state, retry_count,
                (select count(*) from pm.attempt where job_id = job.id and verdict = 4)
         from pm.job",
    );
    let cell = |row: &[Option<String>], place: usize| row[place].clone().expect("these columns are never null");
    let mut jobs: BTreeMap<u64, (Uuid, usize)> = BTreeMap::new();
    for row in &rows {
        let (n, id) = (cell(row, 0).parse().expect("a number"), cell(row, 1).parse().expect("an id"));
        let reaped: usize = cell(row, 4).parse().expect("a count");
        assert_eq!(cell(row, 2), "2", "job {n} has not finished");
        assert_eq!(cell(row, 3).parse::<usize>().expect("a count"), reaped, "job {n} was blamed for something else");
        assert!(jobs.insert(n, (id, reaped)).is_none(), "job {n} is in twice");
    }
    for (n, id) in &entries.told {
        assert_eq!(jobs.get(n).map(|(id, _)| id), Some(id), "job {n} was told to be in");
    }
    let unsure: usize = entries.refusals.values().sum();
    assert!(jobs.len() <= entries.told.len() + unsure, "nothing came from nowhere");
    assert!(entries.errors.is_empty(), "streams show no trouble of the connection: {:?}", entries.errors);

    let mut ended = BTreeMap::new();
    for (n, at) in &entries.endings {
        assert!(ended.insert(*n, *at).is_none(), "job {n} was told twice to have ended");
    }
    let mut duplicates = 0;
    for (n, spans) in &entries.spans {
        let (_, reaped) = jobs[n];
        assert!(spans.len() <= 1 + reaped, "job {n} began {} times and was reaped {reaped} times", spans.len());
        duplicates += spans.len() - 1;
        let mut spans = spans.clone();
        spans.sort_by_key(|span| span.from_us);
        for pair in spans.windows(2) {
            let late = pair[0].to_us.expect("it stopped or died").saturating_sub(pair[1].from_us);
            assert!(late < LATE_BY_THE_PROCESSOR, "job {n}: two leases were trusted at once for {late} us");
        }
        let last = spans.last().expect("there is one").from_us;
        assert!(ended.get(n).is_none_or(|end| last <= *end), "job {n} began after its end was told");
    }
    let begun: BTreeSet<u64> = entries.spans.keys().copied().collect();
    assert!(jobs.keys().all(|n| begun.contains(n)), "none finished without a handler");
    Figures { jobs: jobs.len(), finished: rows.len(), duplicates }
}

mod tests {
    use super::*;

    /// Returns ledger and tables in which all is well: job 7 ran twice, since its first lease was reaped.
    fn good() -> (Ledger, Vec<Vec<Option<String>>>) {
        let (ledger, id) = (Ledger::default(), Uuid::from_u128(1));
        ledger.lock().told.insert(7, id);
        ledger.note(0, "starts 7 1 1000000");
        ledger.note(0, "stops 7 1 2000000");
        ledger.note(1, "starts 7 2 3000000");
        ledger.note(1, "stops 7 2 4000000");
        ledger.note(1, "told 7 Ok 4100000");
        (ledger, vec![["7", &id.to_string(), "2", "1", "1"].map(|cell| Some(cell.to_owned())).to_vec()])
    }

    fn verdict(change: impl FnOnce(&Ledger, &mut Vec<Vec<Option<String>>>)) -> Result<Figures, String> {
        let (ledger, mut rows) = good();
        change(&ledger, &mut rows);
        let audited = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| audit(&ledger, |_| rows.clone())));
        audited.map_err(|panic| *panic.downcast::<String>().expect("it says why"))
    }

    fn fault(change: impl FnOnce(&Ledger, &mut Vec<Vec<Option<String>>>)) -> String {
        verdict(change).err().expect("the audit finds it")
    }

    #[test]
    fn the_audit_passes_what_is_well_and_finds_what_is_not() {
        let figures = verdict(|_, _| {}).unwrap_or_else(|fault| panic!("{fault}"));
        assert_eq!((figures.jobs, figures.finished, figures.duplicates), (1, 1, 1));

        assert!(fault(|_, rows| rows.clear()).contains("was told to be in"));
        assert!(fault(|_, rows| rows.push(rows[0].clone())).contains("in twice"));
        assert!(fault(|_, rows| rows[0][2] = Some("1".to_owned())).contains("has not finished"));
        assert!(fault(|_, rows| rows[0][3] = Some("2".to_owned())).contains("blamed"));
        let unreaped =
            |rows: &mut Vec<Vec<Option<String>>>| (3..5).for_each(|cell| rows[0][cell] = Some("0".to_owned()));
        assert!(fault(|_, rows| unreaped(rows)).contains("began 2 times"));
        assert!(fault(|ledger, _| ledger.note(0, "told 7 Ok 4200000")).contains("told twice"));
        let again = |ledger: &Ledger| ["starts 7 3 5000000", "stops 7 3 6000000"].map(|line| ledger.note(0, line));
        let twice = |rows: &mut Vec<Vec<Option<String>>>| (3..5).for_each(|cell| rows[0][cell] = Some("2".to_owned()));
        assert!(fault(|ledger, rows| (again(ledger), twice(rows)).1).contains("began after its end"));
        assert!(fault(|ledger, _| ledger.note(0, "stops 7 1 4500000")).contains("trusted at once"));
        assert!(fault(|ledger, _| ledger.note(0, "error Schema gone")).contains("no trouble"));
    }
}
