//! The floor: SQL by hand over the same client library, for these jobs and nothing else.
//!
//! It gives what ours gives where it counts: every commit is durable, an ack is fenced by its lease, history is kept,
//! batches are pipelined. It has one queue, one priority, one verdict and no timers.

mod design;

pub(crate) use design::{Lean, OneTable};

use crate::Result;
use crate::contender::{Contender, Mail, Way, handle};
use crate::ground::connect;
use design::Design;
use futures_util::future::{try_join, try_join_all};
use std::collections::VecDeque;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use tokio::sync::{mpsc, oneshot};
use tokio_postgres::{Client, Error, Statement};
use uuid::Uuid;

/// How many jobs travel together when nobody waits for them.
const LARGE: usize = 500;
/// How many jobs a lone handler claims ahead.
const AHEAD: usize = 100;
/// How many jobs travel together on their way in.
const BULK: usize = 1_000;

pub(crate) struct Floor<D> {
    lines: [Arc<Line>; 2],
    design: PhantomData<D>,
}

/// A job on its way in: its id and its payload.
type Written = (Uuid, Vec<u8>);

/// A connection with its prepared statements.
struct Line {
    client: Client,
    enqueue: Statement,
    claim: Statement,
    ack: Statement,
    /// The highest ticket claimed here.
    cursor: AtomicI64,
}

/// Jobs of one claim.
struct Claimed {
    lease: i64,
    tickets: Vec<i64>,
    mails: VecDeque<Mail>,
}

impl<D: Design> Contender for Floor<D> {
    const NAME: &'static str = D::NAME;
    const COUNT_ENDED: &'static str = D::COUNT_ENDED;
    const COUNT_ALL: &'static str = "select count(*) from job";

    async fn open(url: &str) -> Result<Self> {
        connect(url).await?.batch_execute(D::SCHEMA).await?;
        let lines = [Arc::new(Line::open::<D>(url).await?), Arc::new(Line::open::<D>(url).await?)];
        Ok(Floor { lines, design: PhantomData })
    }

    async fn enqueue_many(&self, jobs: usize) -> Result<()> {
        let batches = (0..jobs).step_by(BULK).map(|start| start..jobs.min(start + BULK));
        // One statement is on its way while the next is written.
        let mut before = None;
        for batch in batches {
            let line = self.lines[0].clone();
            let next = tokio::spawn(async move { line.enqueue(batch.map(written).collect()).await });
            if let Some(before) = before.replace(next) {
                before.await??;
            }
        }
        match before {
            Some(last) => Ok(last.await??),
            None => Ok(()),
        }
    }

    async fn enqueue_each(&self, jobs: usize, tasks: usize) -> Result<()> {
        if tasks == 1 {
            for number in 0..jobs {
                self.lines[0].enqueue(vec![written(number)]).await?;
            }
            return Ok(());
        }
        let (sender, crowd) = mpsc::channel(BULK);
        let gatherer = tokio::spawn(gather(self.lines[0].clone(), crowd));
        let tasks = (0..tasks).map(|task| {
            let sender = sender.clone();
            tokio::spawn(async move {
                for number in (task..jobs).step_by(tasks) {
                    let (done, is_done) = oneshot::channel();
                    sender.send((written(number), done)).await?;
                    is_done.await?;
                }
                Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
            })
        });
        for task in tasks.collect::<Vec<_>>() {
            task.await??;
        }
        drop(sender);
        Ok(gatherer.await??)
    }

    async fn drain(&self, _jobs: usize, way: Way) -> Result<()> {
        match way {
            Way::Awaited(1) => self.lines[0].drain_one_by_one().await?,
            Way::Awaited(handlers) => self.lines[0].drain(handlers).await?,
            Way::Detached(_) => {
                try_join_all(self.lines.iter().map(|line| line.drain(LARGE))).await?;
            }
        }
        Ok(())
    }

    async fn close(self) -> Result<()> {
        Ok(())
    }
}

impl Line {
    async fn open<D: Design>(url: &str) -> Result<Line> {
        let client = connect(url).await?;
        client
            .batch_execute(
                "set plan_cache_mode = force_generic_plan; set enable_seqscan = off;
                 set enable_bitmapscan = off; set jit = off",
            )
            .await?;
        let enqueue = client.prepare("insert into job (id, payload) select * from unnest($1::uuid[], $2::bytea[])");
        let (enqueue, claim, ack) = (enqueue.await?, client.prepare(D::CLAIM).await?, client.prepare(D::ACK).await?);
        Ok(Line { client, enqueue, claim, ack, cursor: AtomicI64::new(0) })
    }

    async fn enqueue(&self, jobs: Vec<Written>) -> Result<(), Error> {
        let (ids, payloads): (Vec<_>, Vec<_>) = jobs.into_iter().unzip();
        self.client.execute(&self.enqueue, &[&ids, &payloads]).await.map(drop)
    }

    async fn claim(&self, limit: usize) -> Result<Claimed> {
        let (cursor, limit) = (self.cursor.load(Ordering::Relaxed), i64::try_from(limit)?);
        let lease = i64::from_ne_bytes(*Uuid::now_v7().as_bytes().last_chunk().expect("16 bytes are more than 8"));
        let rows = self.client.query(&self.claim, &[&cursor, &limit, &lease]).await?;
        let tickets: Vec<i64> = rows.iter().map(|row| row.get(0)).collect();
        let last = tickets.iter().copied().max().unwrap_or(cursor);
        self.cursor.store(last, Ordering::Relaxed);
        let mails = rows.iter().map(|row| serde_json::from_slice(row.get(1))).collect::<Result<_, _>>()?;
        Ok(Claimed { lease, tickets, mails })
    }

    async fn ack(&self, tickets: &[i64], lease: i64) -> Result<()> {
        let acked = self.client.execute(&self.ack, &[&tickets, &lease]).await?;
        if acked != tickets.len() as u64 {
            return Err("a lease was lost".into());
        }
        Ok(())
    }

    /// Claims the next batch behind the ack of the last one, in one round trip.
    async fn drain(&self, limit: usize) -> Result<()> {
        let mut batch = self.claim(limit).await?;
        while !batch.tickets.is_empty() {
            batch.mails.iter().for_each(handle);
            let (_, next) = try_join(self.ack(&batch.tickets, batch.lease), self.claim(limit)).await?;
            batch = next;
        }
        Ok(())
    }

    /// Claims ahead, and acks one job after the other.
    async fn drain_one_by_one(&self) -> Result<()> {
        loop {
            let batch = self.claim(AHEAD).await?;
            if batch.tickets.is_empty() {
                return Ok(());
            }
            for (ticket, mail) in batch.tickets.iter().zip(&batch.mails) {
                handle(mail);
                self.ack(&[*ticket], batch.lease).await?;
            }
        }
    }
}

/// Sends what has come together by the time the last statement is done.
async fn gather(line: Arc<Line>, mut crowd: mpsc::Receiver<(Written, oneshot::Sender<()>)>) -> Result<(), Error> {
    let mut gathered = Vec::new();
    while crowd.recv_many(&mut gathered, BULK).await > 0 {
        let (jobs, waiting): (Vec<_>, Vec<_>) = gathered.drain(..).unzip();
        line.enqueue(jobs).await?;
        // A task that no longer waits needs no answer.
        waiting.into_iter().for_each(|done| done.send(()).unwrap_or(()));
        // The same tasks come back at once: let them.
        tokio::task::yield_now().await;
    }
    Ok(())
}

fn written(number: usize) -> Written {
    (Uuid::now_v7(), serde_json::to_vec(&Mail::new(number)).expect("a plain struct can be written"))
}
