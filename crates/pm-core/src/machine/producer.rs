//! The machine that puts jobs on queues.

use super::batch::{Batch, BatchLimits, Batched, RequestId};
use super::batcher::Batcher;
use super::notifications::Notifications;
use super::timer::Timer;
use super::{Entropy, Machine, Request, Trouble};
use crate::op::{
    Enqueue, EnqueueEach, EnqueueKeyed, EnqueueReply, Holder, KeyHolder, Notification, Notify, ReplaceJobs,
};
use crate::{Error, Failure, Instant, NewJob, Operation, Plan, QueueName, Rows, SchemaName, State};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;
use uuid::Uuid;

/// The most jobs in one statement.
const MAX_BATCH: usize = 1_000;
/// For how long an enqueue with a lost reply is sent again. Within this time a deleted job may come back.
const RESEND_FOR: Duration = Duration::from_secs(30);

/// Gathers enqueues into batches and resolves what is ambiguous.
///
/// Jobs without keys and jobs with keys travel in separate statements, so that the first never wait for a key. At most
/// one statement of each is in flight, and at most one follow-up of each.
#[derive(Debug)]
pub struct Producer {
    slots: [EnqueueSlot; 2],
    notifications: Notifications,
    events: VecDeque<ProducerEvent>,
    last_request_id: u64,
}

/// Enqueues that travel together.
#[derive(Debug)]
struct EnqueueSlot {
    kind: EnqueueKind,
    batcher: Batcher<NewJob>,
    /// Items of an answered batch that were there already; the jobs that hold their keys are asked for next.
    present: Option<Batch<NewJob>>,
    /// Queues of the last batch whose workers may be idle: they are told of replaced jobs too.
    idle: BTreeMap<QueueName, i32>,
    /// How many items the question in flight is about; none when zero.
    asking: usize,
}

/// Which enqueues travel together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EnqueueKind {
    /// Those without keys, which wait for no lock.
    Plain,
    /// Those with keys.
    Keyed,
}

/// What a producer sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProducerRequest {
    /// Put these in.
    Enqueue(EnqueueKind, Batch<NewJob>),
    /// Which jobs stand for these?
    KeyHolder(EnqueueKind, Batch<NewJob>),
    /// Make the jobs that hold their keys what these say.
    Replace(EnqueueKind, Batch<NewJob>),
    /// Wake workers of other processes.
    Notify(Notify),
}

/// What happened to enqueues.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProducerEvent {
    /// An enqueue has its answer.
    Enqueued {
        /// Which one.
        request_id: RequestId,
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

/// What an enqueue needs that another transaction may have locked.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum EnqueueLock {
    /// The row of its queue.
    Queue(QueueName),
    /// Its key on its queue.
    Key(QueueName, String),
}

impl Batched for NewJob {
    type Lock = EnqueueLock;

    fn weight(&self) -> usize {
        NewJob::weight(self)
    }

    fn locks(&self) -> [Option<EnqueueLock>; 2] {
        let key = self.options.key.clone().map(|key| EnqueueLock::Key(self.queue.clone(), key));
        [Some(EnqueueLock::Queue(self.queue.clone())), key]
    }
}

impl Request for ProducerRequest {
    fn plan(&self) -> Plan<'_> {
        match self {
            ProducerRequest::Enqueue(EnqueueKind::Plain, batch) => Enqueue::plan_of(&batch.items),
            ProducerRequest::Enqueue(EnqueueKind::Keyed, batch) if batch.passes => EnqueueEach::plan_of(&batch.items),
            ProducerRequest::Enqueue(EnqueueKind::Keyed, batch) => EnqueueKeyed::plan_of(&batch.items),
            ProducerRequest::KeyHolder(_, batch) => KeyHolder::plan_of(&batch.items),
            ProducerRequest::Replace(_, batch) => ReplaceJobs::plan_of(&batch.items),
            ProducerRequest::Notify(notify) => notify.plan(),
        }
    }
}

impl Producer {
    /// Returns a producer for the tables in `schema`, with nothing to do.
    pub fn new(schema: &SchemaName) -> Self {
        let limits = BatchLimits::of_items(MAX_BATCH);
        Producer {
            slots: [
                EnqueueSlot::new(EnqueueKind::Plain, Batcher::new(limits)),
                EnqueueSlot::new(EnqueueKind::Keyed, Batcher::passing_locks(limits)),
            ],
            notifications: Notifications::new(Notification::channel(schema)),
            events: VecDeque::new(),
            last_request_id: 0,
        }
    }

    /// Queues a notification to workers of other processes. The same notification is sent at most once in 5 ms.
    pub fn notify(&mut self, notification: Notification) {
        self.notifications.add(notification);
    }

    /// Queues a job for sending; an event with the returned request id will tell what became of it.
    ///
    /// The job must have passed [`NewJob::check`]. It is sent again after failures for 30 s when it may have gone in,
    /// for 5 s when it surely has not. A job without a key may overtake one with a key that was queued before it.
    pub fn enqueue(&mut self, job: NewJob, now: Instant) -> RequestId {
        let kind = if job.options.key.is_some() { EnqueueKind::Keyed } else { EnqueueKind::Plain };
        self.enqueue_by(kind, job, now)
    }

    /// Does the same for a job that must not overtake the jobs with keys that were queued before it.
    pub fn enqueue_behind_keyed(&mut self, job: NewJob, now: Instant) -> RequestId {
        self.enqueue_by(EnqueueKind::Keyed, job, now)
    }

    fn enqueue_by(&mut self, kind: EnqueueKind, job: NewJob, now: Instant) -> RequestId {
        self.last_request_id += 1;
        let request_id = RequestId(self.last_request_id);
        let deadlines = Batcher::<NewJob>::deadlines(now, RESEND_FOR);
        self.slot(kind).batcher.push(request_id, job, deadlines);
        request_id
    }

    fn slot(&mut self, kind: EnqueueKind) -> &mut EnqueueSlot {
        &mut self.slots[kind as usize]
    }

    /// Returns how many jobs wait for their answer.
    pub fn len(&self) -> usize {
        self.slots.iter().map(EnqueueSlot::len).sum()
    }

    /// Returns whether every enqueue has its answer and every notification was sent.
    pub fn is_empty(&self) -> bool {
        self.len() == 0 && self.notifications.is_empty()
    }

    /// Returns the next thing that happened.
    #[must_use]
    pub fn poll_event(&mut self) -> Option<ProducerEvent> {
        self.events.pop_front()
    }

    fn handle_enqueued(
        &mut self,
        kind: EnqueueKind,
        batch: Batch<NewJob>,
        reply: &EnqueueReply,
        now: Instant,
        entropy: &mut dyn Entropy,
    ) {
        // A follow-up under way needs what is known of its queues to notify of what it replaces.
        if self.slot(kind).asking == 0 {
            self.slot(kind).idle.clear();
        }
        for (place, queue_id) in &reply.idle {
            let queue = &batch.items[*place].queue;
            self.slot(kind).idle.insert(queue.clone(), *queue_id);
            self.notify_of(&batch, queue, *queue_id);
        }
        let [inserted, unknown_queue, present, queue_locked, key_locked] =
            batch.divide([&reply.unknown_queue, &reply.present, &reply.queue_locked, &reply.key_locked]);
        for (job, request_id, unknown) in unknown_queue.into_outcomes() {
            let trouble = Trouble::Refused(Error::QueueNotFound(job.queue.to_string()));
            self.tell(request_id, Err(trouble.unknown_if(unknown)));
        }
        let slot = self.slot(kind);
        slot.present = (!present.items.is_empty()).then_some(present);
        let given_up = [
            slot.batcher.set_aside_widely(queue_locked, now, entropy),
            slot.batcher.set_aside(key_locked, now, entropy),
        ];
        given_up.into_iter().for_each(|batch| self.tell_locked(batch));
        self.tell_inserted(inserted);
    }

    /// Tells other processes of the lines of one queue that a batch went to.
    fn notify_of(&mut self, batch: &Batch<NewJob>, queue: &QueueName, queue_id: i32) {
        for job in batch.items.iter().filter(|job| job.queue == *queue && !job.options.paused) {
            self.notifications.add(Notification { queue_id, priority: job.ready_line() });
        }
    }

    fn tell_inserted(&mut self, inserted: Batch<NewJob>) {
        let mut lines = BTreeSet::new();
        for (request_id, job) in inserted.into_entries() {
            self.tell(request_id, Ok(Enqueued::Inserted(job.id)));
            if !job.options.paused {
                let line = job.ready_line();
                lines.insert((job.queue, line));
            }
        }
        self.events.extend(lines.into_iter().map(|(queue, priority)| ProducerEvent::Ready { queue, priority }));
    }

    fn handle_holders(
        &mut self,
        kind: EnqueueKind,
        batch: Batch<NewJob>,
        holders: Vec<Option<Holder>>,
    ) -> Batch<NewJob> {
        let gone: Vec<usize> =
            holders.iter().enumerate().filter(|(_, holder)| holder.is_none()).map(|(place, _)| place).collect();
        let (again, known) = batch.partition(&gone);
        for ((request_id, job), Holder { id, state, replaced }) in
            known.into_entries().zip(holders.into_iter().flatten())
        {
            let enqueued = match replaced {
                true => Enqueued::Replaced(id),
                false if id == job.id => Enqueued::Inserted(id),
                false => Enqueued::Existing(id, state),
            };
            if replaced && !job.options.paused {
                if let Some(queue_id) = self.slot(kind).idle.get(&job.queue).copied() {
                    self.notifications.add(Notification { queue_id, priority: job.ready_line() });
                }
                self.events.push_back(ProducerEvent::Ready { priority: job.ready_line(), queue: job.queue });
            }
            self.tell(request_id, Ok(enqueued));
        }
        again
    }

    fn handle_follow_up(
        &mut self,
        kind: EnqueueKind,
        replaces: bool,
        batch: Batch<NewJob>,
        reply: Result<Result<Vec<Option<Holder>>, Error>, Failure>,
        now: Instant,
        entropy: &mut dyn Entropy,
    ) {
        self.slot(kind).asking = 0;
        match reply {
            Ok(Ok(holders)) => {
                let again = self.handle_holders(kind, batch, holders);
                let batcher = &mut self.slot(kind).batcher;
                // A job that is to be replaced may be locked.
                let given_up = if replaces {
                    batcher.set_aside(again, now, entropy)
                } else {
                    batcher.put_back(again, now, entropy)
                };
                self.tell_locked(given_up);
            }
            Ok(Err(error)) => self.tell_failed(batch, &Trouble::Refused(error)),
            // The whole enqueue is sent again: what is there by then answers as before.
            Err(failure) => {
                let given_up = self.slot(kind).batcher.handle_follow_up_failure(batch, &failure, now, entropy);
                self.tell_failed(given_up, &Trouble::Failed(failure));
            }
        }
    }

    /// Answers the enqueues whose deadline has passed while they waited to be sent again.
    fn give_up(&mut self, now: Instant) {
        for kind in EnqueueKind::ALL {
            while let Some((batch, failure)) = self.slot(kind).batcher.poll_given_up(now) {
                match failure {
                    Some(failure) => self.tell_failed(batch, &Trouble::Failed(failure)),
                    None => self.tell_locked(batch),
                }
            }
        }
    }

    fn tell_failed(&mut self, batch: Batch<NewJob>, trouble: &Trouble) {
        for (_, request_id, unknown) in batch.into_outcomes() {
            self.tell(request_id, Err(trouble.clone().unknown_if(unknown)));
        }
    }

    fn tell_locked(&mut self, batch: Batch<NewJob>) {
        for (job, request_id, unknown) in batch.into_outcomes() {
            self.tell(request_id, Err(Trouble::Failed(job.locked()).unknown_if(unknown)));
        }
    }

    fn tell(&mut self, request_id: RequestId, outcome: Result<Enqueued, Trouble>) {
        self.events.push_back(ProducerEvent::Enqueued { request_id, outcome });
    }
}

impl NewJob {
    /// Returns the failure of an enqueue that waited in vain for a lock.
    fn locked(&self) -> Failure {
        let what = match &self.options.key {
            Some(key) => format!("the queue {:?} or the key {key:?}", self.queue.as_str()),
            None => format!("the queue {:?}", self.queue.as_str()),
        };
        Failure::reported("55P03", None, format!("another transaction has locked {what}"))
    }
}

impl EnqueueKind {
    const ALL: [EnqueueKind; 2] = [EnqueueKind::Plain, EnqueueKind::Keyed];
}

impl EnqueueSlot {
    fn new(kind: EnqueueKind, batcher: Batcher<NewJob>) -> Self {
        EnqueueSlot { kind, batcher, present: None, idle: BTreeMap::new(), asking: 0 }
    }

    fn len(&self) -> usize {
        self.batcher.len() + self.present.as_ref().map_or(0, |batch| batch.items.len()) + self.asking
    }

    fn poll_request(&mut self, now: Instant) -> Option<ProducerRequest> {
        if self.asking == 0
            && let Some(batch) = self.present.take()
        {
            return Some(self.follow_up(batch));
        }
        if self.present.is_some() {
            return None;
        }
        self.batcher.poll_batch(now).map(|batch| ProducerRequest::Enqueue(self.kind, batch))
    }

    /// Asks about items that were there already; those that replace go first.
    fn follow_up(&mut self, batch: Batch<NewJob>) -> ProducerRequest {
        let places: Vec<_> = (0..batch.items.len()).filter(|place| batch.items[*place].replaces()).collect();
        let (replacing, keeping) = batch.partition(&places);
        if replacing.items.is_empty() {
            self.asking = keeping.items.len();
            return ProducerRequest::KeyHolder(self.kind, keeping);
        }
        self.present = (!keeping.items.is_empty()).then_some(keeping);
        self.asking = replacing.items.len();
        ProducerRequest::Replace(self.kind, replacing)
    }

    /// Returns when it wants to be woken: to send again, or to give up.
    fn next_at(&self) -> Option<Instant> {
        let retry = self.batcher.retry_at().filter(|_| self.present.is_none());
        retry.into_iter().chain(self.batcher.expires_at()).min()
    }

    fn is_gathering(&self) -> bool {
        self.present.is_none() && self.batcher.is_gathering()
    }
}

impl Machine for Producer {
    type Request = ProducerRequest;

    fn poll_request(&mut self, now: Instant, _entropy: &mut dyn Entropy) -> Option<ProducerRequest> {
        if let Some(notify) = self.notifications.poll_notify(now) {
            return Some(ProducerRequest::Notify(notify));
        }
        let request = self.slots.iter_mut().find_map(|slot| slot.poll_request(now));
        self.give_up(now);
        request
    }

    fn handle_reply(
        &mut self,
        request: ProducerRequest,
        reply: Result<Rows, Failure>,
        now: Instant,
        entropy: &mut dyn Entropy,
    ) {
        match (request, reply) {
            (ProducerRequest::Enqueue(kind, batch), Ok(rows)) => {
                self.slot(kind).batcher.handle_done();
                match read(kind, &batch, &rows) {
                    Ok(reply) => self.handle_enqueued(kind, batch, &reply, now, entropy),
                    Err(error) => self.tell_failed(batch, &Trouble::Refused(error)),
                }
            }
            (ProducerRequest::Enqueue(kind, batch), Err(failure)) => {
                let given_up = self.slot(kind).batcher.handle_failure(batch, &failure, now, entropy);
                self.tell_failed(given_up, &Trouble::Failed(failure));
            }
            (ProducerRequest::KeyHolder(kind, batch), reply) => {
                let reply = reply.map(|rows| (KeyHolder { jobs: &batch.items }).interpret(&rows));
                self.handle_follow_up(kind, false, batch, reply, now, entropy);
            }
            (ProducerRequest::Replace(kind, batch), reply) => {
                let reply = reply.map(|rows| (ReplaceJobs { jobs: &batch.items }).interpret(&rows));
                self.handle_follow_up(kind, true, batch, reply, now, entropy);
            }
            (ProducerRequest::Notify(_), Ok(_)) => self.notifications.handle_sent(),
            (ProducerRequest::Notify(notify), Err(_)) => self.notifications.handle_failure(notify, now),
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.give_up(now);
    }

    fn poll_timeout(&self) -> Option<(Instant, Timer)> {
        let batches = self.slots.iter().filter_map(EnqueueSlot::next_at).map(|at| (at, Timer::Batch));
        let notify = self.notifications.next_at().map(|at| (at, Timer::Notify));
        batches.chain(notify).min()
    }

    fn is_gathering(&self) -> bool {
        self.slots.iter().any(EnqueueSlot::is_gathering)
    }
}

/// Reads the reply to a batch of enqueues.
fn read(kind: EnqueueKind, batch: &Batch<NewJob>, rows: &Rows) -> Result<EnqueueReply, Error> {
    let jobs = &batch.items;
    match kind {
        EnqueueKind::Plain => Enqueue { jobs }.interpret(rows),
        EnqueueKind::Keyed if batch.passes => EnqueueEach { jobs }.interpret(rows),
        EnqueueKind::Keyed => EnqueueKeyed { jobs, in_transaction: false }.interpret(rows),
    }
}
