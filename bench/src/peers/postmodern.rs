//! postmodern: one job a statement; a claim looks through all pending jobs of the queue.

use super::crates::CONNECTIONS;
use crate::Result;
use crate::contender::{Choice, Commits, Contender, Mail, handle};
use crate::ours::QUEUE;
use ::postmodern::{EnqueueOptions, Queue};
use futures_util::StreamExt;
use sqlx_08::postgres::PgPoolOptions;

#[derive(Clone)]
pub(crate) struct Postmodern {
    queue: Queue,
}

impl Contender for Postmodern {
    const NAME: &'static str = "postmodern";
    const COUNT_ENDED: Option<&'static str> = Some("select count(*) from jobs where status = 'finished'");
    const COUNT_ALL: &'static str = "select count(*) from jobs";
    const COMMITS: Choice = Choice::Awaited;
    const HAS_BULK: bool = false;
    const DRAINS_AT_MOST: usize = 1_000;

    async fn open(url: &str) -> Result<Self> {
        let pool = PgPoolOptions::new().max_connections(CONNECTIONS).connect(url).await?;
        let queue = Queue::from_pool(pool).await?;
        queue.create_queue(QUEUE, false).await?;
        Ok(Postmodern { queue })
    }

    async fn enqueue_many(&self, jobs: usize) -> Result<()> {
        self.enqueue_each(jobs, 32).await
    }

    async fn enqueue(&self, number: usize) -> Result<()> {
        self.queue.enqueue(QUEUE, Mail::new(number), EnqueueOptions::default()).await?;
        Ok(())
    }

    async fn drain(&self, jobs: usize, commits: Commits) -> Result<()> {
        let jobs = self.queue.stream_jobs::<Mail, _, _>([QUEUE]).take(jobs);
        let work = async |job: ::postmodern::job::PendingJob<Mail>| {
            let (_, mail, ack) = job.into_parts();
            handle(&mail);
            ack.commit().await.expect("the lock is longer than the benchmark");
        };
        jobs.for_each_concurrent(commits.handlers(), work).await;
        Ok(())
    }
}
