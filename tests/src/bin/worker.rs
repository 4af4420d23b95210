//! A worker process for the fault tests: handles jobs of `tasks`, logs to standard output, and closes its queue when
//! its standard input ends.
//!
//! Lines, with times in microseconds since 1970: `starts N ATTEMPT TIME` (a handler has the job and trusts its lease),
//! `stops N ATTEMPT TIME` (it no longer does: its work is done, or the lease is lost), `settled N OUTCOME TIME` (the
//! result of its commit).

use futures_util::StreamExt;
use futures_util::future::{Either, select};
use pm_driver_tokio_postgres::{ConnectOptions, Error, Queue, StreamOptions, TokioPostgres};
use pm_tests::{Seed, SkewedRuntime};
use std::io::Read;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

const YEAR_MS: i64 = 365 * 86_400_000;

/// The command line: `URL NAME=VALUE…`.
struct Settings {
    url: String,
    driver: String,
    name: String,
    handlers: usize,
    work_ms: u64,
    years_off: bool,
    options: ConnectOptions,
}

impl Settings {
    fn from_arguments() -> Settings {
        let mut arguments = std::env::args().skip(1);
        let mut settings = Settings {
            url: arguments.next().expect("the first argument is a URL"),
            driver: "tokio-postgres".to_owned(),
            name: "worker".to_owned(),
            handlers: 8,
            work_ms: 40,
            years_off: false,
            options: ConnectOptions::default().migrate(false),
        };
        for argument in arguments {
            let (name, value) = argument.split_once('=').expect("the others are NAME=VALUE");
            let number = || value.parse::<u64>().expect("the value is a number");
            let options = settings.options.clone();
            match name {
                "driver" => settings.driver = value.to_owned(),
                "name" => settings.name = value.to_owned(),
                "handlers" => settings.handlers = number() as usize,
                "work_ms" => settings.work_ms = number(),
                "years_off" => settings.years_off = number() > 0,
                "statement_timeout_ms" => settings.options = options.statement_timeout(Duration::from_millis(number())),
                "lock_timeout_ms" => settings.options = options.lock_timeout(Duration::from_millis(number())),
                "connect_timeout_ms" => settings.options = options.connect_timeout(Duration::from_millis(number())),
                other => panic!("no such setting: {other}"),
            }
        }
        settings.options = settings.options.application_name(&settings.name);
        settings
    }

    async fn connect(&self) -> Result<Queue, Error> {
        let options = self.options.clone();
        match self.driver.as_str() {
            "sqlx" => pm_driver_sqlx::connect_with(&self.url, options).await,
            _ => {
                let runtime = skewed_runtime(self.years_off);
                let driver = TokioPostgres::new(&self.url, &options)?;
                Queue::open(Arc::new(driver), Arc::new(runtime), &options).await
            }
        }
    }
}

/// Returns a runtime whose wall clock may be a year off, alternating each second between ahead and behind.
fn skewed_runtime(years_off: bool) -> SkewedRuntime {
    if !years_off {
        return SkewedRuntime::new(Duration::ZERO, |_| 0);
    }
    SkewedRuntime::new(Duration::from_millis(YEAR_MS.unsigned_abs()), |now| match now / 1_000 % 2 {
        0 => YEAR_MS,
        _ => -YEAR_MS,
    })
}

fn now_us() -> u128 {
    UNIX_EPOCH.elapsed().expect("the clock is after 1970").as_micros()
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let settings = Settings::from_arguments();
    let queue = loop {
        match settings.connect().await {
            Ok(queue) => break queue,
            Err(error) => eprintln!("{}: {error}", settings.name),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    println!("ready");
    let closing = tokio::spawn(close_at_the_end_of_input(queue.clone()));
    let mut seed = Seed::from_environment();
    let mut random = || seed.below(settings.work_ms.max(1));
    let stream = StreamOptions::default().worker_name(&settings.name);
    let jobs = queue.try_stream_jobs_with::<u64>("tasks", stream);
    let work = jobs.map(|job| (job, Duration::from_millis(settings.work_ms / 2 + random())));
    work.for_each_concurrent(settings.handlers, |(job, takes)| async move {
        match job {
            Ok(job) => handle(job, takes).await,
            Err(error) => println!("error {:?} {error}", error.kind()),
        }
    })
    .await;
    closing.await.expect("closing does not panic");
    println!("closed");
}

async fn close_at_the_end_of_input(queue: Queue) {
    let (end, ended) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        // Input before the end is ignored; an error counts as the end.
        std::io::stdin().read_to_end(&mut Vec::new()).ok();
        end.send(()).ok();
    });
    ended.await.ok();
    queue.close().await;
}

async fn handle(job: pm_driver_tokio_postgres::PendingJob<u64>, takes: Duration) {
    let (n, ack) = job.into_parts();
    let attempt = ack.attempt();
    println!("starts {n} {attempt} {}", now_us());
    if let Either::Right(_) = select(pin!(tokio::time::sleep(takes)), ack.lost()).await {
        println!("distrusts {n}");
    }
    println!("stops {n} {attempt} {}", now_us());
    // Commits a lost lease too: the database decides.
    match ack.commit().await {
        Ok(()) => println!("settled {n} Ok {}", now_us()),
        Err(error) => println!("settled {n} {:?} {}", error.kind(), now_us()),
    }
}
