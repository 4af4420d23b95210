//! fang: one task a statement, for enqueuing, fetching and removing alike.

use super::crates::CONNECTIONS;
use crate::Result;
use crate::contender::{Choice, Commits, Contender, Mail, handle, until_handled};
use crate::testbed::connect;
use ::fang::asynk::async_queue::{AsyncQueue, AsyncQueueable};
use ::fang::asynk::async_worker_pool::AsyncWorkerPool;
use ::fang::{AsyncRunnable, FangError, async_trait, typetag};
use std::time::Duration;

/// Its migration, which it ships as a file to copy.
const MIGRATION: &str = r#"
    create extension if not exists "uuid-ossp";
    create type fang_task_state as enum ('new', 'in_progress', 'failed', 'finished', 'retried');
    create table fang_tasks (
      id uuid primary key default uuid_generate_v4(),
      metadata jsonb not null,
      error_message text,
      state fang_task_state default 'new' not null,
      task_type text default 'common' not null,
      uniq_hash text,
      retries integer default 0 not null,
      scheduled_at timestamp with time zone not null default now(),
      created_at timestamp with time zone not null default now(),
      updated_at timestamp with time zone not null default now()
    );
    create index fang_tasks_state_index on fang_tasks(state);
    create index fang_tasks_type_index on fang_tasks(task_type);
    create index fang_tasks_scheduled_at_index on fang_tasks(scheduled_at);
    create index fang_tasks_uniq_hash on fang_tasks(uniq_hash)"#;

#[derive(Clone)]
pub(crate) struct Fang {
    url: String,
    queue: AsyncQueue,
}

impl Contender for Fang {
    const NAME: &'static str = "fang";
    const COUNT_ENDED: Option<&'static str> = None;
    const COUNT_ALL: &'static str = "select count(*) from fang_tasks";
    const COMMITS: Choice = Choice::Awaited;
    const HAS_BULK: bool = false;
    const DRAINS_AT_MOST: usize = 3_000;

    async fn open(url: &str) -> Result<Self> {
        let client = connect(url).await?;
        let exists: bool = client.query_one("select to_regclass('fang_tasks') is not null", &[]).await?.get(0);
        if !exists {
            client.batch_execute(MIGRATION).await?;
        }
        let mut queue = AsyncQueue::builder().uri(url).max_pool_size(CONNECTIONS).build();
        queue.connect().await?;
        Ok(Fang { url: url.to_owned(), queue })
    }

    async fn enqueue_many(&self, jobs: usize) -> Result<()> {
        self.enqueue_each(jobs, 32).await
    }

    async fn enqueue(&self, number: usize) -> Result<()> {
        self.queue.insert_task(&Mail::new(number)).await?;
        Ok(())
    }

    /// Its workers cannot be stopped; they end with the process.
    async fn drain(&self, jobs: usize, commits: Commits) -> Result<()> {
        let workers = u32::try_from(commits.handlers())?;
        AsyncWorkerPool::<AsyncQueue>::builder()
            .number_of_workers(workers)
            .queue(self.queue.clone())
            .build()
            .start()
            .await;
        until_handled(jobs).await;
        let client = connect(&self.url).await?;
        while client.query_one(Self::COUNT_ALL, &[]).await?.get::<_, i64>(0) > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(())
    }
}

#[typetag::serde]
#[async_trait]
impl AsyncRunnable for Mail {
    async fn run(&self, _queue: &dyn AsyncQueueable) -> Result<(), FangError> {
        handle(self);
        Ok(())
    }
}
