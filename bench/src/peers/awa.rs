//! awa: jobs are bulk-loaded with COPY, claimed in batches, and their completions are gathered for a moment; a
//! handler's place is taken until its completion is durable. Completed jobs vanish with their partition.

use super::crates::CONNECTIONS;
use crate::Result;
use crate::contender::{Choice, Commits, Contender, Mail, handle, until_handled};
use crate::ours::QUEUE;
use ::awa::awa_model::{insert::params_with, migrations};
use ::awa::{
    Client, InsertOpts, JobArgs, JobContext, JobError, JobResult, QueueConfig, QueueStorage, QueueStorageConfig,
    insert_with,
};
use sqlx_08::PgPool;
use sqlx_08::postgres::PgPoolOptions;
use std::time::Duration;

/// The jobs of a COPY.
const BULK: usize = 5_000;
const SHUTDOWN: Duration = Duration::from_secs(10);

#[derive(Clone)]
pub(crate) struct Awa {
    pool: PgPool,
}

impl Contender for Awa {
    const NAME: &'static str = "awa";
    const COUNT_ENDED: Option<&'static str> = None;
    const COUNT_ALL: &'static str = "select count(*) from awa.jobs where state <> 'completed'";
    const COMMITS: Choice = Choice::Awaited;
    const ENQUEUES_AT_MOST: usize = 5_000;
    const DRAINS_AT_MOST: usize = 20_000;

    async fn open(url: &str) -> Result<Self> {
        let pool = PgPoolOptions::new().max_connections(CONNECTIONS).connect(url).await?;
        migrations::run(&pool).await?;
        let awa = Awa { pool };
        // The first start of a worker puts a new database on the current storage engine.
        let client = awa.client(1)?;
        client.start().await?;
        client.shutdown(SHUTDOWN).await;
        Ok(awa)
    }

    async fn enqueue_many(&self, jobs: usize) -> Result<()> {
        let storage = QueueStorage::new(QueueStorageConfig::default())?;
        for start in (0..jobs).step_by(BULK) {
            let numbers = start..jobs.min(start + BULK);
            let jobs =
                numbers.map(|number| params_with(&Mail::new(number), options())).collect::<Result<Vec<_>, _>>()?;
            storage.enqueue_params_copy(&self.pool, &jobs).await?;
        }
        Ok(())
    }

    async fn enqueue(&self, number: usize) -> Result<()> {
        insert_with(&self.pool, &Mail::new(number), options()).await?;
        Ok(())
    }

    async fn drain(&self, jobs: usize, commits: Commits) -> Result<()> {
        let client = self.client(u32::try_from(commits.handlers())?)?;
        client.start().await?;
        until_handled(jobs).await;
        client.shutdown(SHUTDOWN).await;
        Ok(())
    }
}

impl Awa {
    fn client(&self, handlers: u32) -> Result<Client> {
        // Short jobs need no deadline, and the shortest path is for jobs without one.
        let config = QueueConfig { max_workers: handlers, deadline_duration: Duration::ZERO, ..QueueConfig::default() };
        let builder = Client::builder(self.pool.clone()).queue(QUEUE, config);
        Ok(builder.register::<Mail, _, _>(|mail, _: &JobContext| work(mail)).build()?)
    }
}

fn options() -> InsertOpts {
    InsertOpts { queue: QUEUE.to_owned(), ..InsertOpts::default() }
}

async fn work(mail: Mail) -> Result<JobResult, JobError> {
    handle(&mail);
    Ok(JobResult::Completed)
}

impl JobArgs for Mail {
    fn kind() -> &'static str {
        "mail"
    }
}
