//! pgmq: a message queue without states, keys, priorities or retries. Messages are read and deleted in batches.

use super::crates::CONNECTIONS;
use crate::Result;
use crate::contender::{Choice, Commits, Contender, Mail, handle, handled};
use crate::ours::QUEUE;
use ::pgmq::{Message, PGMQueueExt};
use sqlx_08::postgres::PgPoolOptions;

/// The messages of an insertion in bulk.
const BULK: usize = 5_000;
/// How many messages a single handler reads ahead.
const AHEAD: usize = 100;
/// How long a message that was read stays invisible, in seconds.
const VISIBILITY_S: i32 = 300;

#[derive(Clone)]
pub(crate) struct Pgmq {
    queue: PGMQueueExt,
}

impl Contender for Pgmq {
    const NAME: &'static str = "pgmq";
    const COUNT_ENDED: Option<&'static str> = None;
    const COUNT_ALL: &'static str = "select count(*) from pgmq.q_bench";
    const COMMITS: Choice = Choice::Awaited;

    async fn open(url: &str) -> Result<Self> {
        let pool = PgPoolOptions::new().max_connections(CONNECTIONS).connect(url).await?;
        let queue = PGMQueueExt::new_with_pool(pool).await;
        queue.install_sql_from_embedded().await?;
        queue.create(QUEUE).await?;
        Ok(Pgmq { queue })
    }

    async fn enqueue_many(&self, jobs: usize) -> Result<()> {
        for start in (0..jobs).step_by(BULK) {
            let mails: Vec<_> = (start..jobs.min(start + BULK)).map(Mail::new).collect();
            self.queue.send_batch(QUEUE, &mails).await?;
        }
        Ok(())
    }

    async fn enqueue(&self, number: usize) -> Result<()> {
        self.queue.send(QUEUE, &Mail::new(number)).await?;
        Ok(())
    }

    async fn drain(&self, jobs: usize, commits: Commits) -> Result<()> {
        match commits.handlers() {
            1 => self.drain_one_by_one(jobs).await,
            handlers => self.drain_in_batches(jobs, handlers).await,
        }
    }
}

impl Pgmq {
    /// A batch for as many handlers, which share a deletion.
    async fn drain_in_batches(&self, jobs: usize, handlers: usize) -> Result<()> {
        while handled() < jobs {
            let messages = self.read(handlers).await?;
            messages.iter().for_each(|message| handle(&message.message));
            let ids: Vec<i64> = messages.iter().map(|message| message.msg_id).collect();
            self.queue.delete_batch(QUEUE, &ids).await?;
        }
        Ok(())
    }

    async fn drain_one_by_one(&self, jobs: usize) -> Result<()> {
        while handled() < jobs {
            for message in self.read(AHEAD).await? {
                handle(&message.message);
                self.queue.delete(QUEUE, message.msg_id).await?;
            }
        }
        Ok(())
    }

    async fn read(&self, limit: usize) -> Result<Vec<Message<Mail>>> {
        let limit = i32::try_from(limit)?;
        let messages = self.queue.read_batch(QUEUE, VISIBILITY_S, limit).await?;
        match messages.is_empty() {
            false => Ok(messages),
            true => {
                let messages = self.queue.read_batch_with_poll(QUEUE, VISIBILITY_S, limit, None, None).await?;
                Ok(messages.unwrap_or_default())
            }
        }
    }
}
