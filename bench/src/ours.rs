//! pm, used as in its documentation.

use crate::Result;
use crate::contender::{Commits, Contender, Mail, handle};
use futures_util::StreamExt;
use pm_driver_tokio_postgres::{EnqueueOptions, Error, PendingJob, Queue, connect};
use std::sync::atomic::{AtomicUsize, Ordering};

pub(crate) const QUEUE: &str = "bench";

pub(crate) struct Ours {
    queue: Queue,
}

impl Contender for Ours {
    const NAME: &'static str = "ours";
    const COUNT_ENDED: &'static str = "select count(*) from pm.job where state = 2";
    const COUNT_ALL: &'static str = "select count(*) from pm.job";

    async fn open(url: &str) -> Result<Self> {
        let queue = connect(url).await?;
        queue.create_queue(QUEUE, false).await?;
        Ok(Ours { queue })
    }

    async fn enqueue_many(&self, jobs: usize) -> Result<()> {
        let mails = (0..jobs).map(|number| (Mail::new(number), EnqueueOptions::default()));
        self.queue.enqueue_many(QUEUE, mails).await?;
        Ok(())
    }

    async fn enqueue_each(&self, jobs: usize, tasks: usize) -> Result<()> {
        let tasks: Vec<_> = (0..tasks)
            .map(|task| {
                let queue = self.queue.clone();
                tokio::spawn(async move {
                    for number in (task..jobs).step_by(tasks) {
                        queue.enqueue(QUEUE, Mail::new(number), EnqueueOptions::default()).await?;
                    }
                    Ok::<_, Error>(())
                })
            })
            .collect();
        for task in tasks {
            task.await??;
        }
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
        let (Commits::Awaited(handlers) | Commits::Detached(handlers)) = commits;
        self.queue.try_stream_jobs::<Mail>(QUEUE).for_each_concurrent(handlers, work).await;
        self.queue.close().await;
        Ok(())
    }

    async fn close(self) -> Result<()> {
        self.queue.close().await;
        Ok(())
    }
}
