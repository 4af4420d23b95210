//! apalis-postgres: jobs are fetched in batches and completed in batches; it keeps a history.

use super::crates::CONNECTIONS;
use crate::Result;
use crate::contender::{Choice, Commits, Contender, Mail, handle, until_handled};
use ::apalis::prelude::{BoxDynError, ParallelizeExt, TaskSink, WorkerBuilder, WorkerBuilderExt};
use apalis_postgres::{Config, PgPool, PostgresStorage};
use sqlx_09::postgres::PgPoolOptions;
use std::io;

/// The jobs of a fetch.
const BATCH: usize = 100;
/// The jobs of an insertion in bulk.
const BULK: usize = 5_000;

#[derive(Clone)]
pub(crate) struct Apalis {
    pool: PgPool,
}

impl Contender for Apalis {
    const NAME: &'static str = "apalis-postgres";
    const COUNT_ENDED: Option<&'static str> = Some("select count(*) from apalis.jobs where status = 'Done'");
    const COUNT_ALL: &'static str = "select count(*) from apalis.jobs";
    const COMMITS: Choice = Choice::Detached;
    const ENQUEUES_AT_MOST: usize = 5_000;

    async fn open(url: &str) -> Result<Self> {
        let pool = PgPoolOptions::new().max_connections(CONNECTIONS).connect(url).await?;
        PostgresStorage::setup(&pool).await?;
        Ok(Apalis { pool })
    }

    async fn enqueue_many(&self, jobs: usize) -> Result<()> {
        for start in (0..jobs).step_by(BULK) {
            self.storage().push_bulk((start..jobs.min(start + BULK)).map(Mail::new).collect()).await?;
        }
        Ok(())
    }

    async fn enqueue(&self, number: usize) -> Result<()> {
        self.storage().push(Mail::new(number)).await?;
        Ok(())
    }

    async fn drain(&self, jobs: usize, commits: Commits) -> Result<()> {
        let worker = WorkerBuilder::new("bench")
            .backend(self.storage())
            .parallelize(tokio::spawn)
            .concurrency(commits.handlers())
            .build(work);
        let all_handled = async move {
            until_handled(jobs).await;
            Ok::<(), io::Error>(())
        };
        Ok(worker.run_until(all_handled).await?)
    }
}

impl Apalis {
    fn storage(&self) -> PostgresStorage<Mail> {
        PostgresStorage::new(&self.pool).with_config(Config::default().queue("bench").batch_size(BATCH))
    }
}

async fn work(mail: Mail) -> Result<(), BoxDynError> {
    handle(&mail);
    Ok(())
}
