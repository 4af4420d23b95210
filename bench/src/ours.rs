//! pm, used as in its documentation.

use crate::Result;
use crate::contender::{Commits, Contender, Mail, handle};
use futures_util::StreamExt;
use pm_driver_tokio_postgres::{EnqueueOptions, Error, PendingJob, Queue, connect};
use std::marker::PhantomData;
use std::sync::atomic::{AtomicUsize, Ordering};

pub(crate) const QUEUE: &str = "bench";

/// pm on one of its drivers.
#[derive(Clone)]
pub(crate) struct Ours<D = TokioPostgres> {
    queue: Queue,
    driver: PhantomData<D>,
}

/// A driver of pm.
pub(crate) trait Driver: Clone + Send + Sync + 'static {
    /// The name of pm on this driver.
    const NAME: &'static str;

    /// Connects as a user does.
    async fn connect(url: &str) -> Result<Queue>;
}

/// The driver that all targets are for.
#[derive(Clone)]
pub(crate) struct TokioPostgres;

impl Driver for TokioPostgres {
    const NAME: &'static str = "ours";

    async fn connect(url: &str) -> Result<Queue> {
        Ok(connect(url).await?)
    }
}

impl<D: Driver> Contender for Ours<D> {
    const NAME: &'static str = D::NAME;
    const COUNT_ENDED: Option<&'static str> = Some("select count(*) from pm.job where state = 2");
    const COUNT_ALL: &'static str = "select count(*) from pm.job";

    async fn open(url: &str) -> Result<Self> {
        let queue = D::connect(url).await?;
        queue.create_queue(QUEUE, false).await?;
        Ok(Ours { queue, driver: PhantomData })
    }

    async fn enqueue_many(&self, jobs: usize) -> Result<()> {
        let mails = (0..jobs).map(|number| (Mail::new(number), EnqueueOptions::default()));
        self.queue.enqueue_many(QUEUE, mails).await?;
        Ok(())
    }

    async fn enqueue(&self, number: usize) -> Result<()> {
        self.queue.enqueue(QUEUE, Mail::new(number), EnqueueOptions::default()).await?;
        Ok(())
    }

    async fn drain(&self, jobs: usize, commits: Commits) -> Result<()> {
        let left = &AtomicUsize::new(jobs);
        let work = async |job: Result<PendingJob<Mail>, Error>| {
            let (mail, ack) = job.expect("the benchmark enqueues valid payloads").into_parts();
            handle(&mail);
            match commits {
                Commits::Awaited(_) => ack.commit().await.expect("the lease is longer than the benchmark"),
                Commits::Detached(_) => ack.commit().detach(),
            }
            if left.fetch_sub(1, Ordering::Relaxed) == 1 {
                let queue = self.queue.clone();
                tokio::spawn(async move { queue.close().await });
            }
        };
        self.queue.try_stream_jobs::<Mail>(QUEUE).for_each_concurrent(commits.handlers(), work).await;
        self.queue.close().await;
        Ok(())
    }

    async fn close(self) -> Result<()> {
        self.queue.close().await;
        Ok(())
    }
}
