//! The floor: hand-written SQL with the same client library, which can do nothing but these benchmarks.
//!
//! It has the same guarantees as pm where they cost something: commits are durable, acks are fenced by the lease, the
//! history is kept, batches are pipelined. It has one queue, one priority, one verdict and no timers.

mod design;

pub(crate) use design::{Lean, OneTable};

use crate::Result;
use crate::contender::{Commits, Contender, Mail, handle};
use crate::testbed::connect;
use design::Design;
use futures_util::future::{try_join, try_join_all};
use std::collections::VecDeque;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use tokio::sync::{mpsc, oneshot};
use tokio_postgres::{Client, Error, Statement};
use uuid::Uuid;

/// The batch size when commits are not awaited.
const LARGE: usize = 500;
/// How many jobs a single handler claims ahead.
const AHEAD: usize = 100;
/// The batch size of enqueues.
const BULK: usize = 1_000;

#[derive(Clone)]
pub(crate) struct Floor<D> {
    sessions: [Arc<Session>; 2],
    design: PhantomData<D>,
}

/// A new job: its id and its encoded payload.
type EncodedJob = (Uuid, Vec<u8>);

/// A connection with its prepared statements.
struct Session {
    client: Client,
    enqueue: Statement,
    claim: Statement,
    ack: Statement,
    /// The highest position claimed on this connection.
    cursor: AtomicI64,
}

/// The jobs of one claim.
struct Claimed {
    lease: i64,
    positions: Vec<i64>,
    mails: VecDeque<Mail>,
}

impl<D: Design> Contender for Floor<D> {
    const NAME: &'static str = D::NAME;
    const COUNT_ENDED: Option<&'static str> = Some(D::COUNT_ENDED);
    const COUNT_ALL: &'static str = "select count(*) from job";
    const WAITS_FOR_JOBS: bool = false;

    async fn open(url: &str) -> Result<Self> {
        connect(url).await?.batch_execute(D::SCHEMA).await?;
        let sessions = [Arc::new(Session::open::<D>(url).await?), Arc::new(Session::open::<D>(url).await?)];
        Ok(Floor { sessions, design: PhantomData })
    }

    async fn enqueue_many(&self, jobs: usize) -> Result<()> {
        let batches = (0..jobs).step_by(BULK).map(|start| start..jobs.min(start + BULK));
        // One statement is in flight while the next batch is encoded.
        let mut before = None;
        for batch in batches {
            let session = self.sessions[0].clone();
            let next = tokio::spawn(async move { session.enqueue(batch.map(encoded_job).collect()).await });
            if let Some(before) = before.replace(next) {
                before.await??;
            }
        }
        match before {
            Some(last) => Ok(last.await??),
            None => Ok(()),
        }
    }

    async fn enqueue(&self, number: usize) -> Result<()> {
        Ok(self.sessions[0].enqueue(vec![encoded_job(number)]).await?)
    }

    async fn enqueue_each(&self, jobs: usize, tasks: usize) -> Result<()> {
        if tasks == 1 {
            for number in 0..jobs {
                self.enqueue(number).await?;
            }
            return Ok(());
        }
        let (sender, receiver) = mpsc::channel(BULK);
        let batching = tokio::spawn(batch_enqueues(self.sessions[0].clone(), receiver));
        let tasks = (0..tasks).map(|task| {
            let sender = sender.clone();
            tokio::spawn(async move {
                for number in (task..jobs).step_by(tasks) {
                    let (done, is_done) = oneshot::channel();
                    sender.send((encoded_job(number), done)).await?;
                    is_done.await?;
                }
                Ok::<_, crate::Error>(())
            })
        });
        for task in tasks.collect::<Vec<_>>() {
            task.await??;
        }
        drop(sender);
        Ok(batching.await??)
    }

    async fn drain(&self, _jobs: usize, commits: Commits) -> Result<()> {
        match commits {
            Commits::Awaited(1) => self.sessions[0].drain_one_by_one().await?,
            Commits::Awaited(handlers) => self.sessions[0].drain(handlers).await?,
            Commits::Detached(_) => {
                try_join_all(self.sessions.iter().map(|session| session.drain(LARGE))).await?;
            }
        }
        Ok(())
    }
}

impl Session {
    async fn open<D: Design>(url: &str) -> Result<Session> {
        let client = connect(url).await?;
        client
            .batch_execute(
                "set plan_cache_mode = force_generic_plan; set enable_seqscan = off;
                 set enable_bitmapscan = off; set jit = off",
            )
            .await?;
        let enqueue = client.prepare("insert into job (id, payload) select * from unnest($1::uuid[], $2::bytea[])");
        let (enqueue, claim, ack) = (enqueue.await?, client.prepare(D::CLAIM).await?, client.prepare(D::ACK).await?);
        Ok(Session { client, enqueue, claim, ack, cursor: AtomicI64::new(0) })
    }

    async fn enqueue(&self, jobs: Vec<EncodedJob>) -> Result<(), Error> {
        let (ids, payloads): (Vec<_>, Vec<_>) = jobs.into_iter().unzip();
        self.client.execute(&self.enqueue, &[&ids, &payloads]).await.map(drop)
    }

    async fn claim(&self, limit: usize) -> Result<Claimed> {
        let (cursor, limit) = (self.cursor.load(Ordering::Relaxed), i64::try_from(limit)?);
        let lease = i64::from_ne_bytes(*Uuid::now_v7().as_bytes().last_chunk().expect("16 bytes are more than 8"));
        let rows = self.client.query(&self.claim, &[&cursor, &limit, &lease]).await?;
        let positions: Vec<i64> = rows.iter().map(|row| row.get(0)).collect();
        let last = positions.iter().copied().max().unwrap_or(cursor);
        self.cursor.store(last, Ordering::Relaxed);
        let mails = rows.iter().map(|row| serde_json::from_slice(row.get(1))).collect::<Result<_, _>>()?;
        Ok(Claimed { lease, positions, mails })
    }

    async fn ack(&self, positions: &[i64], lease: i64) -> Result<()> {
        let acked = self.client.execute(&self.ack, &[&positions, &lease]).await?;
        if acked != positions.len() as u64 {
            return Err("a lease was lost".into());
        }
        Ok(())
    }

    /// Claims the next batch in the same round trip as the ack of the last one.
    async fn drain(&self, limit: usize) -> Result<()> {
        let mut batch = self.claim(limit).await?;
        while !batch.positions.is_empty() {
            batch.mails.iter().for_each(handle);
            let (_, next) = try_join(self.ack(&batch.positions, batch.lease), self.claim(limit)).await?;
            batch = next;
        }
        Ok(())
    }

    /// Claims ahead, and acks the jobs one by one.
    async fn drain_one_by_one(&self) -> Result<()> {
        loop {
            let batch = self.claim(AHEAD).await?;
            if batch.positions.is_empty() {
                return Ok(());
            }
            for (position, mail) in batch.positions.iter().zip(&batch.mails) {
                handle(mail);
                self.ack(&[*position], batch.lease).await?;
            }
        }
    }
}

/// Sends the jobs that have accumulated while the last statement was running.
async fn batch_enqueues(
    session: Arc<Session>,
    mut jobs: mpsc::Receiver<(EncodedJob, oneshot::Sender<()>)>,
) -> Result<(), Error> {
    let mut gathered = Vec::new();
    while jobs.recv_many(&mut gathered, BULK).await > 0 {
        let (batch, waiting): (Vec<_>, Vec<_>) = gathered.drain(..).unzip();
        session.enqueue(batch).await?;
        // A task may have stopped waiting.
        waiting.into_iter().for_each(|done| done.send(()).unwrap_or(()));
        // The same tasks enqueue again at once; let them run first.
        tokio::task::yield_now().await;
    }
    Ok(())
}

fn encoded_job(number: usize) -> EncodedJob {
    (Uuid::now_v7(), serde_json::to_vec(&Mail::new(number)).expect("a plain struct can be encoded"))
}
