//! Q12: hours of jobs at a steady rate, with a retention, maintenance, and a snapshot that is held open for a while.

use crate::contender::Contender;
use crate::held::hold_snapshot;
use crate::load::{Progress, Role};
use crate::options::Options;
use crate::ours::{Ours, QUEUE};
use crate::paced;
use crate::samples::{Compared, Sample, compared, plot, print};
use crate::side::{Running, Side};
use crate::testbed::{Checkpoints, Database, Reading, Statements, Testbed, connect as connect_client};
use crate::{Error, Result};
use pm_driver_tokio_postgres::{ErrorKind, Queue, SettingsChange, connect};
use serde_json::json;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio_postgres::Client;

const SAMPLE_EVERY: Duration = Duration::from_secs(10);
/// The parts of the time: the retention and the held snapshot take one each.
const PARTS: u32 = 12;
/// The shortest retention that a queue can have.
const LEAST_RETENTION: Duration = Duration::from_secs(60);
/// In the end all jobs must be done within this time.
const CATCH_UP: Duration = Duration::from_secs(60);

const SIZES: &str = "
    select pg_table_size(job), pg_indexes_size(job), pg_relation_size('pm.job_line'),
           (select n_dead_tup from pg_stat_user_tables where relid = job)
    from (select 'pm.job'::regclass as job) named";

/// What happens when.
#[derive(Debug, Clone, Copy)]
struct Schedule {
    rate: usize,
    time: Duration,
    retention: Duration,
    prune_every: Duration,
    held: (Duration, Duration),
}

impl Schedule {
    fn new(options: &Options) -> Schedule {
        let time = Duration::from_secs(60 * options.minutes as u64);
        let part = time / PARTS;
        let retention = part.max(LEAST_RETENTION);
        Schedule {
            rate: options.rate,
            time,
            retention,
            prune_every: retention / 10,
            held: ((time - part) / 2, (time + part) / 2),
        }
    }

    fn is_held(&self, at: Duration) -> bool {
        (self.held.0..self.held.1).contains(&at)
    }

    fn held_minutes(&self) -> (f64, f64) {
        (self.held.0.as_secs_f64() / 60.0, self.held.1.as_secs_f64() / 60.0)
    }
}

/// Runs the soak, and prints a line every ten seconds. What was measured before an error is written too.
pub(crate) async fn measure(options: &Options) -> Result<()> {
    let schedule = Schedule::new(options);
    let testbed = Testbed::start(Statements::Uncounted, Checkpoints::ByDefault).await?;
    let database = testbed.database().await?;
    println!(
        "{} jobs/s for {} min; retention {} s, pruned every {} s; a snapshot is held from minute {:.1} to {:.1}\n{}",
        schedule.rate,
        options.minutes,
        schedule.retention.as_secs(),
        schedule.prune_every.as_secs(),
        schedule.held_minutes().0,
        schedule.held_minutes().1,
        Sample::HEADING,
    );
    let mut samples = Vec::new();
    let outcome = run(&testbed, &database, schedule, &mut samples).await;
    let compared = compared(&samples);
    print(&compared);
    if let Some(path) = &options.json {
        write_json(path, &testbed, schedule, &samples, &compared).await?;
    }
    if let Some(directory) = &options.svg {
        plot(directory, &samples, schedule.held_minutes())?;
    }
    outcome
}

async fn run(testbed: &Testbed, database: &Database<'_>, schedule: Schedule, samples: &mut Vec<Sample>) -> Result<()> {
    <Ours>::open(&database.url).await?.close().await?;
    let queue = connect(&database.url).await?;
    queue.set_queue_settings(QUEUE, SettingsChange::new().retain(Some(schedule.retention))).await?;
    let side = Side::of::<Ours>()?;
    let enqueuer = Role::Enqueuer { rate: schedule.rate }.name();
    let mut meter = Meter {
        testbed,
        sizes: connect_client(&database.url).await?,
        pruned: Arc::default(),
        enqueuer: side.start(&database.url, &enqueuer, usize::MAX).await?,
        worker: side.start(&database.url, &Role::Worker(paced::COMMITS).name(), usize::MAX).await?,
    };
    let maintenance = tokio::spawn(maintain(queue.clone(), schedule.prune_every, meter.pruned.clone()));
    meter.worker.go().await?;
    meter.enqueuer.go().await?;
    let begun = Instant::now();
    let mut last = meter.read(Duration::ZERO).await?;
    let mut holder = None;
    while last.at < schedule.time {
        let next = last.at + SAMPLE_EVERY;
        tokio::time::sleep_until((begun + next).into()).await;
        let was_held = holder.is_some();
        match (schedule.is_held(next), &holder) {
            (true, None) => holder = Some(hold_snapshot(&database.url).await?),
            (false, Some(_)) => holder = None,
            _ => {}
        }
        let now = meter.read(next).await?;
        let sample = now.since(&last, was_held);
        println!("{}", sample.line());
        samples.push(sample);
        last = now;
    }
    meter.end().await?;
    queue.close().await;
    maintenance.await?
}

/// Prunes, reaps and promotes until the queue is closed, as `pm reap` does.
async fn maintain(queue: Queue, prune_every: Duration, pruned: Arc<AtomicU64>) -> Result<()> {
    let mut maintenance = queue.maintenance(Some(prune_every));
    loop {
        match maintenance.step().await {
            Ok(report) => pruned.fetch_add(report.pruned, Ordering::Relaxed),
            Err(error) if error.kind() == ErrorKind::Closed => return Ok(()),
            Err(error) => return Err(error.into()),
        };
    }
}

/// All that is read every ten seconds.
struct Meter<'a> {
    testbed: &'a Testbed,
    sizes: Client,
    pruned: Arc<AtomicU64>,
    enqueuer: Running,
    worker: Running,
}

/// What a meter has read.
struct Moment {
    at: Duration,
    enqueued: Progress,
    handled: Progress,
    reading: Reading,
    table_bytes: i64,
    index_bytes: i64,
    line_bytes: i64,
    dead_tuples: i64,
    pruned: u64,
}

impl Meter<'_> {
    async fn read(&mut self, at: Duration) -> Result<Moment> {
        let (enqueuer, worker) = (&mut self.enqueuer, &mut self.worker);
        let (enqueued, handled) = futures_util::future::try_join(Progress::of(enqueuer), Progress::of(worker)).await?;
        let reading = self.testbed.read().await?;
        let sizes = self.sizes.query_one(SIZES, &[]).await?;
        let pruned = self.pruned.load(Ordering::Relaxed);
        Ok(Moment {
            at,
            enqueued,
            handled,
            reading,
            table_bytes: sizes.get(0),
            index_bytes: sizes.get(1),
            line_bytes: sizes.get(2),
            dead_tuples: sizes.get(3),
            pruned,
        })
    }

    /// Ends the load, and checks that every job was handled once.
    async fn end(self) -> Result<()> {
        let Meter { enqueuer, mut worker, .. } = self;
        let enqueued = Progress::end(enqueuer).await?.jobs;
        let deadline = Instant::now() + CATCH_UP;
        while Progress::of(&mut worker).await?.jobs < enqueued && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let handled = Progress::end(worker).await?.jobs;
        match handled == enqueued {
            true => Ok(()),
            false => Err(Error::from(format!("{enqueued} jobs were enqueued and {handled} handled"))),
        }
    }
}

impl Moment {
    fn since(&self, before: &Moment, is_held: bool) -> Sample {
        let (ms, mb) = (|us: u64| us as f64 / 1e3, |bytes: i64| bytes as f64 / 1e6);
        let jobs = (self.handled.jobs - before.handled.jobs).max(1) as f64;
        let per_s = |now: &Progress, before: &Progress| {
            (now.jobs - before.jobs) as f64 / now.at.saturating_sub(before.at).as_secs_f64()
        };
        let us_per_job = |cpu: Duration| cpu.as_secs_f64() * 1e6 / jobs;
        let client_cpu = self.enqueued.cpu + self.handled.cpu - before.enqueued.cpu - before.handled.cpu;
        Sample {
            minute: self.at.as_secs_f64() / 60.0,
            in_per_s: per_s(&self.enqueued, &before.enqueued),
            out_per_s: per_s(&self.handled, &before.handled),
            behind: self.enqueued.jobs as f64 - self.handled.jobs as f64,
            enqueue_p50_ms: ms(self.enqueued.p50_us),
            enqueue_p99_ms: ms(self.enqueued.p99_us),
            pickup_p50_ms: ms(self.handled.p50_us),
            pickup_p99_ms: ms(self.handled.p99_us),
            table_mb: mb(self.table_bytes),
            indexes_mb: mb(self.index_bytes),
            line_index_mb: mb(self.line_bytes),
            dead_tuples: self.dead_tuples as f64,
            server_us_per_job: us_per_job(self.reading.server_cpu_since(&before.reading)),
            client_us_per_job: us_per_job(client_cpu),
            pruned: self.pruned as f64,
            is_held,
        }
    }
}

async fn write_json(
    path: &Path,
    testbed: &Testbed,
    schedule: Schedule,
    samples: &[Sample],
    compared: &[Compared],
) -> Result<()> {
    let settings = testbed.settings().await?.into_iter().collect::<std::collections::BTreeMap<_, _>>();
    let report = json!({
        "postgres": settings, "rate": schedule.rate, "seconds": schedule.time.as_secs(),
        "retention_s": schedule.retention.as_secs(), "prune_every_s": schedule.prune_every.as_secs(),
        "held_minutes": schedule.held_minutes(), "compared": compared, "samples": samples,
    });
    std::fs::write(path, format!("{report:#}\n"))?;
    Ok(())
}
