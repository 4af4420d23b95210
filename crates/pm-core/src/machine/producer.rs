//! The machine that puts jobs on queues.

use super::batcher::{Batch, BatchLimits, Batched, Batcher, Ticket};
use super::notices::Notices;
use super::timer::Timer;
use super::{Entropy, Machine, Request, Trouble};
use crate::op::{Enqueue, EnqueueReply, Holder, KeyHolder, Notice, Notify, ReplaceJobs};
use crate::{Error, Failure, Instant, NewJob, OnConflict, Operation, Plan, QueueName, Rows, RunAt, SchemaName, State};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;
use uuid::Uuid;

/// The most jobs in one statement.
const MAX_BATCH: usize = 1_000;
/// For how long an enqueue with a lost reply is sent again. Within this time a deleted job may come back.
const RESEND_FOR: Duration = Duration::from_secs(30);

/// Gathers enqueues into batches and resolves what is ambiguous. At most one request of each kind is in flight.
#[derive(Debug)]
pub struct Producer {
    batcher: Batcher<NewJob>,
    /// Items of an answered batch that were there already; who holds their keys is asked next.
    present: Option<Batch<NewJob>>,
    /// Queues of the last batch whose workers may be asleep: they are told of replaced jobs too.
    sleeping: BTreeMap<QueueName, i32>,
    /// How many items the question in flight is about; none when zero.
    asking: usize,
    notices: Notices,
    events: VecDeque<ProducerEvent>,
    last_ticket: u64,
}

/// What a producer sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProducerRequest {
    /// Put these in.
    Enqueue(Batch<NewJob>),
    /// Which jobs stand for these?
    KeyHolder(Batch<NewJob>),
    /// Make the jobs that hold their keys what these say.
    Replace(Batch<NewJob>),
    /// Wake workers of other processes.
    Notify(Notify),
}

/// What happened to enqueues.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProducerEvent {
    /// An enqueue has its answer.
    Enqueued {
        /// Which one.
        ticket: Ticket,
        /// The job that stands for it, durable; or why there is none.
        outcome: Result<Enqueued, Trouble>,
    },
    /// Jobs were put on this queue; a worker may want to know.
    Ready {
        /// The queue.
        queue: QueueName,
        /// The line; none when the jobs are due later.
        priority: Option<i32>,
    },
}

/// The job that stands for an enqueue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Enqueued {
    /// A new job.
    Inserted(Uuid),
    /// The one that holds the key, and its state.
    Existing(Uuid, State),
    /// The one that holds the key, which became what was enqueued.
    Replaced(Uuid),
}

impl Enqueued {
    /// Returns the outcome for an enqueue whose key `id` holds.
    pub fn existing(id: Uuid, state: State) -> Self {
        Enqueued::Existing(id, state)
    }

    /// Returns the id of the job.
    pub fn id(&self) -> Uuid {
        match self {
            Enqueued::Inserted(id) | Enqueued::Existing(id, _) | Enqueued::Replaced(id) => *id,
        }
    }
}

impl Batched for NewJob {
    fn weight(&self) -> usize {
        NewJob::weight(self)
    }
}

impl Request for ProducerRequest {
    fn plan(&self) -> Plan<'_> {
        match self {
            ProducerRequest::Enqueue(batch) => Enqueue::plan_of(&batch.items),
            ProducerRequest::KeyHolder(batch) => KeyHolder::plan_of(&batch.items),
            ProducerRequest::Replace(batch) => ReplaceJobs::plan_of(&batch.items),
            ProducerRequest::Notify(notify) => notify.plan(),
        }
    }
}

impl Producer {
    /// Returns a producer for the tables in `schema`, with nothing to do.
    pub fn new(schema: &SchemaName) -> Self {
        Producer {
            batcher: Batcher::new(BatchLimits::of_items(MAX_BATCH)),
            present: None,
            sleeping: BTreeMap::new(),
            asking: 0,
            notices: Notices::new(Notice::channel(schema)),
            events: VecDeque::new(),
            last_ticket: 0,
        }
    }

    /// Queues a notice to workers of other processes. The same notice is sent at most once in 5 ms.
    pub fn notify(&mut self, notice: Notice) {
        self.notices.add(notice);
    }

    /// Queues a job for sending; an event with the returned ticket will tell what became of it.
    ///
    /// The job must have passed [`NewJob::check`]. It is sent again after failures for 30 s when it may have gone in,
    /// for 5 s when it surely has not.
    pub fn enqueue(&mut self, job: NewJob, now: Instant) -> Ticket {
        self.last_ticket += 1;
        let ticket = Ticket(self.last_ticket);
        self.batcher.push(ticket, job, Batcher::<NewJob>::patience(now, RESEND_FOR));
        ticket
    }

    /// Returns how many jobs wait for their answer.
    pub fn len(&self) -> usize {
        self.batcher.len() + self.present.as_ref().map_or(0, |batch| batch.items.len()) + self.asking
    }

    /// Returns whether every enqueue has its answer and every notice was sent.
    pub fn is_empty(&self) -> bool {
        self.len() == 0 && self.notices.is_empty()
    }

    /// Returns the next thing that happened.
    #[must_use]
    pub fn poll_event(&mut self) -> Option<ProducerEvent> {
        self.events.pop_front()
    }

    fn handle_enqueued(&mut self, batch: Batch<NewJob>, reply: &EnqueueReply) {
        self.sleeping.clear();
        for (place, queue_id) in &reply.sleeping {
            self.sleeping.insert(batch.items[*place].queue.clone(), *queue_id);
            self.notify_of(&batch, &batch.items[*place].queue, *queue_id);
        }
        // A reply is input: it may name a place twice.
        let missing: BTreeSet<usize> = reply.homeless.iter().copied().collect();
        let there = reply.present.iter().filter(|place| !missing.contains(place));
        let present: Vec<_> = there.map(|place| place - missing.range(..place).count()).collect();
        let (homeless, batch) = batch.partition(&reply.homeless);
        for (ticket, job) in homeless.into_entries() {
            let outcome = Err(Trouble::Refused(Error::QueueNotFound(job.queue.to_string())));
            self.events.push_back(ProducerEvent::Enqueued { ticket, outcome });
        }
        let (present, inserted) = batch.partition(&present);
        self.present = (!present.items.is_empty()).then_some(present);
        self.tell_inserted(inserted);
    }

    /// Tells other processes of the lines of one queue that a batch went to.
    fn notify_of(&mut self, batch: &Batch<NewJob>, queue: &QueueName, queue_id: i32) {
        for job in batch.items.iter().filter(|job| job.queue == *queue && !job.options.paused) {
            self.notices.add(Notice { queue_id, priority: ready_line(job) });
        }
    }

    fn tell_inserted(&mut self, inserted: Batch<NewJob>) {
        let mut lines = BTreeSet::new();
        for (ticket, job) in inserted.into_entries() {
            self.events.push_back(ProducerEvent::Enqueued { ticket, outcome: Ok(Enqueued::Inserted(job.id)) });
            if !job.options.paused {
                let line = ready_line(&job);
                lines.insert((job.queue, line));
            }
        }
        self.events.extend(lines.into_iter().map(|(queue, priority)| ProducerEvent::Ready { queue, priority }));
    }

    fn handle_holders(&mut self, batch: Batch<NewJob>, holders: Vec<Option<Holder>>) {
        let gone: Vec<usize> =
            holders.iter().enumerate().filter(|(_, holder)| holder.is_none()).map(|(place, _)| place).collect();
        let (again, known) = batch.partition(&gone);
        for ((ticket, job), Holder { id, state, replaced }) in known.into_entries().zip(holders.into_iter().flatten()) {
            let enqueued = match replaced {
                true => Enqueued::Replaced(id),
                false if id == job.id => Enqueued::Inserted(id),
                false => Enqueued::Existing(id, state),
            };
            if replaced && !job.options.paused {
                if let Some(queue_id) = self.sleeping.get(&job.queue) {
                    self.notices.add(Notice { queue_id: *queue_id, priority: ready_line(&job) });
                }
                self.events.push_back(ProducerEvent::Ready { priority: ready_line(&job), queue: job.queue });
            }
            self.events.push_back(ProducerEvent::Enqueued { ticket, outcome: Ok(enqueued) });
        }
        self.batcher.put_back(again);
    }

    /// Asks about items that were there already; those that replace go first.
    fn follow_up(&mut self, batch: Batch<NewJob>) -> ProducerRequest {
        let replaces = |job: &NewJob| job.options.on_conflict == OnConflict::Replace && job.options.key.is_some();
        let places: Vec<_> = (0..batch.items.len()).filter(|place| replaces(&batch.items[*place])).collect();
        let (replacing, keeping) = batch.partition(&places);
        if replacing.items.is_empty() {
            self.asking = keeping.items.len();
            return ProducerRequest::KeyHolder(keeping);
        }
        self.present = (!keeping.items.is_empty()).then_some(keeping);
        self.asking = replacing.items.len();
        ProducerRequest::Replace(replacing)
    }

    fn handle_failure(&mut self, batch: Batch<NewJob>, failure: &Failure, now: Instant, entropy: &mut dyn Entropy) {
        let given_up = self.batcher.handle_failure(batch, failure, now, entropy);
        self.tell_failed(given_up, &Trouble::Failed(failure.clone()));
    }

    fn handle_follow_up(
        &mut self,
        batch: Batch<NewJob>,
        reply: Result<Result<Vec<Option<Holder>>, Error>, Failure>,
        now: Instant,
        entropy: &mut dyn Entropy,
    ) {
        self.asking = 0;
        match reply {
            Ok(Ok(holders)) => self.handle_holders(batch, holders),
            Ok(Err(error)) => self.tell_failed(batch, &Trouble::Refused(error)),
            // The whole enqueue is sent again: what is there by then answers as before.
            Err(failure) => {
                let given_up = self.batcher.handle_follow_up_failure(batch, &failure, now, entropy);
                self.tell_failed(given_up, &Trouble::Failed(failure));
            }
        }
    }

    fn tell_failed(&mut self, batch: Batch<NewJob>, trouble: &Trouble) {
        for (ticket, _) in batch.into_entries() {
            self.events.push_back(ProducerEvent::Enqueued { ticket, outcome: Err(trouble.clone()) });
        }
    }
}

/// Returns the line a job is on, none when it is due later.
fn ready_line(job: &NewJob) -> Option<i32> {
    match job.options.run_at {
        None => Some(job.options.priority),
        Some(RunAt::In(delay)) => delay.is_zero().then_some(job.options.priority),
        // Whether that time has come only the database knows.
        Some(RunAt::At(_)) => None,
    }
}

impl Machine for Producer {
    type Request = ProducerRequest;

    fn poll_request(&mut self, now: Instant, _entropy: &mut dyn Entropy) -> Option<ProducerRequest> {
        if let Some(notify) = self.notices.poll_notify(now) {
            return Some(ProducerRequest::Notify(notify));
        }
        if self.asking == 0
            && let Some(batch) = self.present.take()
        {
            return Some(self.follow_up(batch));
        }
        if self.present.is_some() {
            return None;
        }
        self.batcher.poll_batch(now).map(ProducerRequest::Enqueue)
    }

    fn handle_reply(
        &mut self,
        request: ProducerRequest,
        reply: Result<Rows, Failure>,
        now: Instant,
        entropy: &mut dyn Entropy,
    ) {
        match (request, reply) {
            (ProducerRequest::Enqueue(batch), Ok(rows)) => match (Enqueue { jobs: &batch.items }).interpret(&rows) {
                Ok(reply) => {
                    self.batcher.handle_done();
                    self.handle_enqueued(batch, &reply);
                }
                Err(error) => {
                    self.batcher.handle_done();
                    self.tell_failed(batch, &Trouble::Refused(error));
                }
            },
            (ProducerRequest::KeyHolder(batch), reply) => {
                let reply = reply.map(|rows| (KeyHolder { jobs: &batch.items }).interpret(&rows));
                self.handle_follow_up(batch, reply, now, entropy);
            }
            (ProducerRequest::Replace(batch), reply) => {
                let reply = reply.map(|rows| (ReplaceJobs { jobs: &batch.items }).interpret(&rows));
                self.handle_follow_up(batch, reply, now, entropy);
            }
            (ProducerRequest::Notify(_), Ok(_)) => self.notices.handle_sent(),
            (ProducerRequest::Notify(notify), Err(_)) => self.notices.handle_failure(notify, now),
            (ProducerRequest::Enqueue(batch), Err(failure)) => self.handle_failure(batch, &failure, now, entropy),
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        let _the_batcher_compares_times_itself = now;
    }

    fn poll_timeout(&self) -> Option<(Instant, Timer)> {
        let batch = self.batcher.retry_at().filter(|_| self.present.is_none()).map(|at| (at, Timer::Batch));
        let notify = self.notices.next_at().map(|at| (at, Timer::Notify));
        batch.into_iter().chain(notify).min()
    }

    fn is_gathering(&self) -> bool {
        self.present.is_none() && self.batcher.is_gathering()
    }
}
