//! graphile_worker: jobs are deleted on success, without a fence; completions are gathered for 5 ms and not awaited,
//! and jobs are fetched into a local queue, as its guides and its own benchmarks do for throughput.

use super::crates::CONNECTIONS;
use crate::Result;
use crate::contender::{Choice, Commits, Contender, Mail, handle, until_handled};
use ::graphile_worker::worker_utils::WorkerUtils;
use ::graphile_worker::{IntoTaskHandlerResult, JobSpec, LocalQueueConfig, TaskHandler, WorkerContext, WorkerOptions};
use std::sync::Arc;
use std::time::Duration;

/// The jobs of a fetch.
const LOCAL_QUEUE: usize = 500;
const COMPLETION_DELAY: Duration = Duration::from_millis(5);
/// The jobs of an insertion in bulk.
const BULK: usize = 5_000;

#[derive(Clone)]
pub(crate) struct GraphileWorker {
    url: String,
    utils: WorkerUtils,
}

impl Contender for GraphileWorker {
    const NAME: &'static str = "graphile_worker";
    const COUNT_ENDED: Option<&'static str> = None;
    const COUNT_ALL: &'static str = "select count(*) from graphile_worker._private_jobs";
    const COMMITS: Choice = Choice::Detached;
    const ENQUEUES_AT_MOST: usize = 5_000;

    async fn open(url: &str) -> Result<Self> {
        let worker = options(url).init().await?;
        Ok(GraphileWorker { url: url.to_owned(), utils: worker.create_utils() })
    }

    async fn enqueue_many(&self, jobs: usize) -> Result<()> {
        let spec = JobSpec::default();
        for start in (0..jobs).step_by(BULK) {
            let mails: Vec<_> = (start..jobs.min(start + BULK)).map(|number| (Mail::new(number), &spec)).collect();
            self.utils.add_jobs(&mails).await?;
        }
        Ok(())
    }

    async fn enqueue(&self, number: usize) -> Result<()> {
        self.utils.add_job(Mail::new(number), JobSpec::default()).await?;
        Ok(())
    }

    async fn drain(&self, jobs: usize, commits: Commits) -> Result<()> {
        let options = options(&self.url)
            .concurrency(commits.handlers())
            .complete_job_batch_delay(COMPLETION_DELAY)
            .local_queue(LocalQueueConfig::default().with_size(LOCAL_QUEUE));
        let worker = Arc::new(options.init().await?);
        let running = tokio::spawn({
            let worker = worker.clone();
            async move { worker.run().await }
        });
        until_handled(jobs).await;
        worker.request_shutdown();
        Ok(running.await??)
    }
}

fn options(url: &str) -> WorkerOptions {
    WorkerOptions::default()
        .database_url(url)
        .max_pg_conn(CONNECTIONS)
        .listen_os_shutdown_signals(false)
        .define_job::<Mail>()
}

impl TaskHandler for Mail {
    const IDENTIFIER: &'static str = "mail";

    async fn run(self, _context: WorkerContext) -> impl IntoTaskHandlerResult {
        handle(&self);
        Ok::<(), String>(())
    }
}
