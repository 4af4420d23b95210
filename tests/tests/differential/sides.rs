//! The model and Postgres behind both drivers, side by side.

use crate::dump;
use futures_util::future::join_all;
use pm_core::{Catalog, Failure, Plan, Rows, SchemaName, Statement, StatementId, Type, Value};
use pm_driver_memory::{Clock, Database};
use pm_queue::driver::Executor;
use pm_queue::{ConnectOptions, Timestamp};
use pm_sandbox::TestDatabase;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};
use tokio_postgres::NoTls;

/// Half a minute past 2026-01-01 00:00 UTC: ticks are at whole minutes, and time passes in whole minutes.
const START_US: i64 = 1_767_225_630_000_000;
/// The resolution in which times are compared: half a minute.
pub(crate) const GRAIN_S: i64 = 30;
/// A list that takes longer than this on a busy machine is not compared: the elapsed time would matter.
const LONGEST: Duration = Duration::from_secs(8);

/// The model's clock.
#[derive(Clone)]
struct ModelClock(Arc<AtomicI64>);

impl Clock for ModelClock {
    fn now(&self) -> Timestamp {
        // A little time passes with every read, so that statements have an order in time.
        Timestamp::from_unix_us(START_US + self.0.fetch_add(1_000, Ordering::Relaxed))
    }
}

/// One Postgres database behind one driver.
struct Postgres {
    name: &'static str,
    driver: Arc<dyn Executor>,
    client: tokio_postgres::Client,
    _database: TestDatabase,
}

/// All sides.
pub(crate) struct Sides {
    model: Database,
    clock: ModelClock,
    postgres: Vec<Postgres>,
    catalog: Catalog,
    started: Instant,
    /// How far the model's times are ahead of Postgres's.
    ahead_us: AtomicI64,
    lists: u64,
}

impl Sides {
    pub(crate) async fn new() -> Sides {
        let options = ConnectOptions::default();
        let mut postgres = Vec::new();
        for name in ["tokio-postgres", "sqlx"] {
            let database = TestDatabase::create().expect("a private Postgres starts");
            let url = database.url();
            pm_driver_tokio_postgres::connect(&url).await.expect("it migrates").close().await;
            let driver: Arc<dyn Executor> = match name {
                "sqlx" => {
                    let runtime = Arc::new(pm_driver_sqlx::runtime::Tokio::current());
                    Arc::new(pm_driver_sqlx::Sqlx::new(&url, &options, runtime).expect("the URL is valid"))
                }
                _ => Arc::new(pm_driver_tokio_postgres::TokioPostgres::new(&url, &options).expect("the URL is valid")),
            };
            let (client, connection) = tokio_postgres::connect(&url, NoTls).await.expect("connecting succeeds");
            tokio::spawn(connection);
            postgres.push(Postgres { name, driver, client, _database: database });
        }
        let clock = ModelClock(Arc::default());
        let catalog = Catalog::new(&SchemaName::default());
        Sides {
            model: Database::with_clock(clock.clone()),
            clock,
            postgres,
            catalog,
            started: Instant::now(),
            ahead_us: AtomicI64::new(0),
            lists: 0,
        }
    }

    /// Empties all sides.
    pub(crate) async fn start_anew(&mut self) {
        self.clock = ModelClock(Arc::default());
        self.model = Database::with_clock(self.clock.clone());
        self.lists += 1;
        let empty = if self.lists.is_multiple_of(50) { dump::EMPTY_AND_SHRINK } else { dump::EMPTY };
        let emptied = join_all(self.postgres.iter().map(|side| side.client.batch_execute(empty))).await;
        emptied.into_iter().for_each(|emptied| emptied.expect("it can be emptied"));
        self.started = Instant::now();
        let postgres_us = pm_driver_memory::SystemClock.now().unix_us();
        self.ahead_us = AtomicI64::new(START_US - postgres_us);
    }

    /// Returns whether the list took so long that the elapsed time would matter.
    pub(crate) fn is_late(&self) -> bool {
        self.started.elapsed() > LONGEST
    }

    /// Lets time pass: the model's clock advances, and in Postgres all times move back.
    pub(crate) async fn pass(&self, time: Duration) -> Result<(), String> {
        self.clock.0.fetch_add(time.as_micros() as i64, Ordering::Relaxed);
        self.ahead_us.fetch_add(time.as_micros() as i64, Ordering::Relaxed);
        let sql = dump::SHIFT.replace("{seconds}", &time.as_secs().to_string());
        for side in &self.postgres {
            side.client.batch_execute(&sql).await.map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    /// Sets the due times of jobs that are due within the same half minute to its middle, one microsecond apart, in the
    /// order of their ids.
    pub(crate) async fn separate_equal_times(&self) -> Result<(), String> {
        let now_us = START_US + self.clock.0.load(Ordering::Relaxed);
        self.model.change(|tables| {
            let mut ranks = BTreeMap::new();
            for job in tables.job.values_mut().filter(|job| job.seq.is_none()) {
                let Some(at) = &mut job.run_at else { continue };
                let grain = grains(at.unix_us() - now_us);
                let rank: &mut i64 = ranks.entry(grain).or_default();
                *at = Timestamp::from_unix_us(now_us + grain * GRAIN_S * 1_000_000 + *rank);
                *rank += 1;
            }
        });
        for side in &self.postgres {
            side.client.batch_execute(dump::SEPARATE_EQUAL_TIMES).await.map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    /// Runs a statement on all sides and compares the replies; returns the model's rows.
    pub(crate) async fn run(&self, plan: &Plan<'_>) -> Result<Option<Rows>, String> {
        let statement = self.catalog.statement(plan.statement);
        let model = self.model.answer(statement, &plan.params);
        let now = Timestamp::from_unix_us(START_US + self.clock.0.load(Ordering::Relaxed));
        let expected = shown(statement, &model, now);
        let params: Vec<_> = plan.params.iter().map(|value| self.in_postgres(value)).collect();
        let answers = join_all(self.postgres.iter().map(|side| side.driver.run(statement, &params))).await;
        for (side, answer) in self.postgres.iter().zip(answers) {
            let now = pm_driver_memory::SystemClock.now();
            let found = shown(statement, &answer, now);
            if found != expected {
                let (name, statement) = (side.name, plan.statement);
                return Err(format!("{statement:?} on {name}:\n  model:    {expected:?}\n  Postgres: {found:?}"));
            }
        }
        Ok(model.ok())
    }

    /// Returns a parameter with the model's times converted to Postgres's.
    fn in_postgres<'a>(&self, value: &Value<'a>) -> Value<'a> {
        let ahead_us = self.ahead_us.load(Ordering::Relaxed);
        let moved = |at: &Timestamp| match *at {
            Timestamp::INFINITY => Timestamp::INFINITY,
            at => Timestamp::from_unix_us(at.unix_us() - ahead_us),
        };
        match value {
            Value::Timestamp(at) => Value::Timestamp(moved(at)),
            Value::TimestampArray(times) => {
                Value::TimestampArray(times.iter().map(|at| at.as_ref().map(moved)).collect())
            }
            other => other.clone(),
        }
    }

    /// Compares the tables.
    pub(crate) async fn compare(&self) -> Result<(), String> {
        let now = Timestamp::from_unix_us(START_US + self.clock.0.load(Ordering::Relaxed));
        let expected = self.model.look(|tables| dump::of_model(tables, now));
        let dumps = join_all(self.postgres.iter().map(|side| dump::of_postgres(&side.client))).await;
        for (side, found) in self.postgres.iter().zip(dumps) {
            if let Some((model, postgres)) = expected.iter().zip(&found).find(|(model, postgres)| model != postgres) {
                return Err(format!("tables on {}:\n  model:    {model}\n  Postgres: {postgres}", side.name));
            }
            if expected.len() != found.len() {
                return Err(format!("tables on {}:\n  model: {expected:#?}\n  Postgres: {found:#?}", side.name));
            }
            let orphans = side.client.query(dump::ORPHANS, &[]).await.map_err(|error| error.to_string())?;
            if let Some(orphan) = orphans.first() {
                return Err(format!("left behind on {}: {}", side.name, orphan.get::<_, String>(0)));
            }
        }
        Ok(())
    }
}

/// Returns a reply as text: times in half minutes from now; rows without a defined order are sorted.
fn shown(statement: &Statement, answer: &Result<Rows, Failure>, now: Timestamp) -> Vec<String> {
    let rows = match answer {
        Ok(rows) => rows,
        Err(failure) => return vec![format!("{:?} {:?}", failure.sqlstate(), failure.constraint())],
    };
    let mut lines: Vec<String> = rows
        .iter(statement.id)
        .map(|mut row| {
            let cells = statement.columns.iter().enumerate().map(|(index, column)| {
                let is_ms = milliseconds_in(statement.id).contains(&index);
                cell(&mut row, column.ty, is_ms, now)
            });
            cells.collect::<Vec<_>>().join(" | ")
        })
        .collect();
    let is_ordered = matches!(
        statement.id,
        StatementId::ListJobs
            | StatementId::NextJobs
            | StatementId::Attempts
            | StatementId::ListQueues
            | StatementId::ListSchedules
            | StatementId::DueSchedules
    );
    if !is_ordered {
        lines.sort();
    }
    lines
}

/// Returns which columns are durations in milliseconds.
fn milliseconds_in(statement: StatementId) -> &'static [usize] {
    match statement {
        StatementId::Claim => &[3, 7],
        StatementId::FetchJob => &[3],
        StatementId::Poll => &[8, 9, 10],
        StatementId::DueSchedules => &[9],
        StatementId::Extend | StatementId::Activity => &[1],
        StatementId::Reap | StatementId::Promote => &[2],
        StatementId::QueueHealths => &[4],
        _ => &[],
    }
}

fn cell(row: &mut pm_core::wire::Row<'_>, ty: Type, is_ms: bool, now: Timestamp) -> String {
    match ty {
        Type::Bool => format!("{:?}", row.read::<Option<bool>>()),
        Type::Int2 => format!("{:?}", row.read::<Option<i16>>()),
        Type::Int4 => format!("{:?}", row.read::<Option<i32>>()),
        Type::Int8 if is_ms => {
            let ms = row.read::<Option<i64>>();
            format!("{:?}", ms.map(|ms| ms.map(|ms| grains(ms * 1_000))))
        }
        Type::Int8 => format!("{:?}", row.read::<Option<i64>>()),
        Type::Uuid => format!("{:?}", row.read::<Option<uuid::Uuid>>()),
        Type::Text => format!("{:?}", row.read::<Option<String>>()),
        Type::Timestamp => {
            let at = row.read::<Option<Timestamp>>();
            format!("{:?}", at.map(|at| at.map(|at| grains(at.unix_us().saturating_sub(now.unix_us())))))
        }
        Type::Int4Array => format!("{:?}", row.read::<Option<Vec<i32>>>()),
        Type::Int8Array => format!("{:?}", row.read::<Option<Vec<i64>>>()),
        _ => format!("{:?}", row.read::<Option<bytes::Bytes>>()),
    }
}

/// Returns a time in half minutes from now, rounded.
pub(crate) fn grains(us: i64) -> i64 {
    let grain = GRAIN_S * 1_000_000;
    (us.saturating_add(grain / 2)).div_euclid(grain)
}
