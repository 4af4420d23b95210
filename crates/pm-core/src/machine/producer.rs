//! The machine that enqueues jobs.

use super::batch::{Batch, BatchLimits, Batched, RequestId};
use super::batcher::Batcher;
use super::notifications::Notifications;
use super::timer::Timer;
use super::{Entropy, Machine, Reply, Request, Trouble};
use crate::op::{
    Enqueue, EnqueueEach, EnqueueFresh, EnqueueKeyed, EnqueueReply, Holder, KeyHolder, Notification, Notify,
    ReplaceJobs,
};
use crate::{Error, Failure, Instant, NewJob, Operation, Plan, QueueName, Rows, SchemaName, State};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;
use uuid::Uuid;

/// The maximum number of jobs in one statement.
const MAX_BATCH: usize = 1_000;
/// For how long an enqueue with a lost reply is sent again. A job that is deleted within this time may reappear.
const RESEND_FOR: Duration = Duration::from_secs(30);

/// Gathers enqueues into batches, sends them again after failures, and resolves key conflicts.
///
/// Jobs without keys and jobs with keys are sent in separate statements, so that the former never wait for a key. Of
/// each kind at most one statement and one follow-up are in flight; [pipelined](Producer::pipelined), two statements
/// without keys at times.
#[derive(Debug)]
pub struct Producer {
    slots: [EnqueueSlot; 2],
    notifications: Notifications,
    events: VecDeque<ProducerEvent>,
    last_request_id: u64,
}

/// The enqueues of one kind.
#[derive(Debug)]
struct EnqueueSlot {
    kind: EnqueueKind,
    batcher: Batcher<NewJob>,
    /// Items of the last batch whose id or key exists already. A follow-up looks up or replaces the existing jobs.
    present: Option<Batch<NewJob>>,
    /// Queues of the last batch that may have idle workers, with their ids: to notify of replaced jobs too.
    idle: BTreeMap<QueueName, i32>,
    /// How many items the follow-up in flight has; zero if there is none.
    in_follow_up: usize,
}

/// The kinds of enqueues, which are sent in separate statements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EnqueueKind {
    /// Those without keys, which do not wait for locks.
    Plain,
    /// Those with keys.
    Keyed,
}

/// The requests of a producer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProducerRequest {
    /// Insert these jobs.
    Enqueue(EnqueueKind, Batch<NewJob>),
    /// Look up the existing jobs with the ids or keys of these.
    KeyHolder(EnqueueKind, Batch<NewJob>),
    /// Replace the existing jobs with the keys of these.
    Replace(EnqueueKind, Batch<NewJob>),
    /// Notify workers of other processes.
    Notify(Notify),
}

/// The events of a producer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProducerEvent {
    /// The outcome of an enqueue is known.
    Enqueued {
        /// The id that [`Producer::enqueue`] returned.
        request_id: RequestId,
        /// The job of the enqueue, committed in the database, or why there is none.
        outcome: Result<Enqueued, Trouble>,
    },
    /// Jobs were enqueued here, so that a worker of this process need not wait for its next poll.
    Ready {
        /// The queue.
        queue: QueueName,
        /// The priority of the line; `None` if the jobs may be due later.
        priority: Option<i32>,
    },
}

/// The outcome of an enqueue: the job that was inserted, or the existing one with its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Enqueued {
    /// The new job was inserted.
    Inserted(Uuid),
    /// This job has reserved the key, and is in this state. Nothing was changed.
    Existing(Uuid, State),
    /// This job has reserved the key, and was replaced.
    Replaced(Uuid),
}

impl Enqueued {
    /// Returns the outcome for a job whose id or key the `holder` has.
    pub fn found(holder: &Holder, job: &NewJob) -> Self {
        match *holder {
            Holder { id, replaced: true, .. } => Enqueued::Replaced(id),
            // It was sent before, and the reply was lost.
            Holder { id, .. } if id == job.id => Enqueued::Inserted(id),
            Holder { id, state, .. } => Enqueued::Existing(id, state),
        }
    }

    /// Returns the id of the job.
    pub fn id(&self) -> Uuid {
        match self {
            Enqueued::Inserted(id) | Enqueued::Existing(id, _) | Enqueued::Replaced(id) => *id,
        }
    }
}

/// What an enqueue needs and another transaction may have locked.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum EnqueueLock {
    /// The row of its queue.
    Queue(QueueName),
    /// Its key in its queue.
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
            ProducerRequest::Enqueue(EnqueueKind::Plain, batch) if batch.is_fresh() => {
                EnqueueFresh::plan_of(&batch.items)
            }
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
    /// Returns a producer for the tables in `schema`.
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

    /// Returns the producer with up to two statements without keys in flight, if both are full and sent for the first
    /// time, and sends no more than `max_batch` jobs in one (at most 1,000).
    ///
    /// For a driver that runs these statements in the order in which they are sent. Jobs keep their order, except after
    /// a failure or a locked queue: what the second statement has inserted then is before what is sent again of the
    /// first.
    #[must_use]
    pub fn pipelined(mut self, max_batch: usize) -> Self {
        let limits = BatchLimits::of_items(max_batch.clamp(1, MAX_BATCH));
        self.slot(EnqueueKind::Plain).batcher = Batcher::new(limits).pipelined();
        self
    }

    /// Queues a notification to workers of other processes. Equal notifications are sent at most once in 5 ms.
    pub fn notify(&mut self, notification: Notification) {
        self.notifications.add(notification);
    }

    /// Queues a job to be sent. A [`ProducerEvent::Enqueued`] with the returned request id reports its outcome.
    ///
    /// The job must have passed [`NewJob::check`]. After failures it is sent again for 30 s if it may have been
    /// inserted, and for 5 s if it certainly has not, or once more to learn why it has not. A job without a key may
    /// overtake one with a key that was queued before it.
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

    /// Returns how many enqueues have no outcome yet.
    pub fn len(&self) -> usize {
        self.slots.iter().map(EnqueueSlot::len).sum()
    }

    /// Returns whether every enqueue has an outcome and every notification was sent.
    pub fn is_empty(&self) -> bool {
        self.len() == 0 && self.notifications.is_empty()
    }

    /// Returns the next event.
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
        // A follow-up in flight needs the idle queues to notify them of the jobs that it replaces.
        if self.slot(kind).in_follow_up == 0 {
            self.slot(kind).idle.clear();
        }
        for (index, queue_id) in &reply.idle {
            let queue = &batch.items[*index].queue;
            self.slot(kind).idle.insert(queue.clone(), *queue_id);
            self.notify_of(&batch, queue, *queue_id);
        }
        let (inserted, [unknown_queue, present, queue_locked, key_locked, unexplained]) = batch.divide([
            &reply.unknown_queue,
            &reply.present,
            &reply.queue_locked,
            &reply.key_locked,
            &reply.unexplained,
        ]);
        for (job, request_id, unknown) in unknown_queue.into_outcomes() {
            let trouble = Trouble::Refused(Error::QueueNotFound(job.queue.to_string()));
            self.report(request_id, Err(trouble.unknown_if(unknown)));
        }
        let slot = self.slot(kind);
        if !present.items.is_empty() {
            // Those of one statement: nothing is sent while some wait, and where two are in flight neither reports any.
            slot.present = Some(present);
        }
        slot.batcher.explain(unexplained);
        let given_up = [
            slot.batcher.set_aside_widely(queue_locked, now, entropy),
            slot.batcher.set_aside(key_locked, now, entropy),
        ];
        given_up.into_iter().for_each(|batch| self.report_locked(batch));
        self.report_inserted(inserted);
    }

    /// Notifies other processes of the lines of one queue that jobs of a batch were put in.
    fn notify_of(&mut self, batch: &Batch<NewJob>, queue: &QueueName, queue_id: i32) {
        for priority in batch.items.iter().filter(|job| job.queue == *queue).filter_map(NewJob::ready_line) {
            self.notifications.add(Notification { queue_id, priority });
        }
    }

    fn report_inserted(&mut self, inserted: Batch<NewJob>) {
        let mut lines = BTreeSet::new();
        for (request_id, job) in inserted.into_entries() {
            self.report(request_id, Ok(Enqueued::Inserted(job.id)));
            lines.extend(job.ready_line().map(|priority| (job.queue, priority)));
        }
        self.events.extend(lines.into_iter().map(|(queue, priority)| ProducerEvent::Ready { queue, priority }));
    }

    /// Reports the items with an existing job; returns those without, which must be sent again.
    fn handle_holders(
        &mut self,
        kind: EnqueueKind,
        batch: Batch<NewJob>,
        holders: Vec<Option<Holder>>,
    ) -> Batch<NewJob> {
        let missing: Vec<usize> =
            holders.iter().enumerate().filter(|(_, holder)| holder.is_none()).map(|(index, _)| index).collect();
        let (unresolved, resolved) = batch.partition(&missing);
        for ((request_id, job), holder) in resolved.into_entries().zip(holders.into_iter().flatten()) {
            let enqueued = Enqueued::found(&holder, &job);
            if let Some(priority) = job.ready_line().filter(|_| holder.replaced) {
                if let Some(queue_id) = self.slot(kind).idle.get(&job.queue).copied() {
                    self.notifications.add(Notification { queue_id, priority });
                }
                self.events.push_back(ProducerEvent::Ready { priority, queue: job.queue });
            }
            self.report(request_id, Ok(enqueued));
        }
        unresolved
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
        self.slot(kind).in_follow_up = 0;
        match reply {
            Ok(Ok(holders)) => {
                let unresolved = self.handle_holders(kind, batch, holders);
                let batcher = &mut self.slot(kind).batcher;
                // A job to be replaced may be locked.
                let given_up = if replaces {
                    batcher.set_aside(unresolved, now, entropy)
                } else {
                    batcher.put_back(unresolved, now, entropy)
                };
                self.report_locked(given_up);
            }
            Ok(Err(error)) => self.report_failed(batch, &Trouble::Refused(error)),
            // The enqueue itself is sent again, and finds the existing jobs again.
            Err(failure) => {
                let given_up = self.slot(kind).batcher.handle_follow_up_failure(batch, &failure, now, entropy);
                self.report_failed(given_up, &Trouble::Failed(failure));
            }
        }
    }

    /// Reports the enqueues whose deadline has passed while they waited to be sent again.
    fn give_up(&mut self, now: Instant) {
        for kind in EnqueueKind::ALL {
            while let Some((batch, failure)) = self.slot(kind).batcher.poll_given_up(now) {
                match failure {
                    Some(failure) => self.report_failed(batch, &Trouble::Failed(failure)),
                    None => self.report_locked(batch),
                }
            }
        }
    }

    fn report_failed(&mut self, batch: Batch<NewJob>, trouble: &Trouble) {
        for (_, request_id, unknown) in batch.into_outcomes() {
            self.report(request_id, Err(trouble.clone().unknown_if(unknown)));
        }
    }

    fn report_locked(&mut self, batch: Batch<NewJob>) {
        for (job, request_id, unknown) in batch.into_outcomes() {
            self.report(request_id, Err(Trouble::Failed(job.locked()).unknown_if(unknown)));
        }
    }

    fn report(&mut self, request_id: RequestId, outcome: Result<Enqueued, Trouble>) {
        self.events.push_back(ProducerEvent::Enqueued { request_id, outcome });
    }
}

impl NewJob {
    /// Returns the failure of an enqueue that could not get a lock before its deadline.
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
        EnqueueSlot { kind, batcher, present: None, idle: BTreeMap::new(), in_follow_up: 0 }
    }

    fn len(&self) -> usize {
        self.batcher.len() + self.present.as_ref().map_or(0, |batch| batch.items.len()) + self.in_follow_up
    }

    fn poll_request(&mut self, now: Instant) -> Option<ProducerRequest> {
        if self.in_follow_up == 0
            && let Some(batch) = self.present.take()
        {
            return Some(self.follow_up(batch));
        }
        if self.present.is_some() {
            return None;
        }
        self.batcher.poll_batch(now).map(|batch| ProducerRequest::Enqueue(self.kind, batch))
    }

    /// Returns the follow-up of items whose jobs exist already: of those that replace them first.
    fn follow_up(&mut self, batch: Batch<NewJob>) -> ProducerRequest {
        let indexes: Vec<_> = (0..batch.items.len()).filter(|index| batch.items[*index].replaces()).collect();
        let (replacing, keeping) = batch.partition(&indexes);
        if replacing.items.is_empty() {
            self.in_follow_up = keeping.items.len();
            return ProducerRequest::KeyHolder(self.kind, keeping);
        }
        self.present = (!keeping.items.is_empty()).then_some(keeping);
        self.in_follow_up = replacing.items.len();
        ProducerRequest::Replace(self.kind, replacing)
    }

    /// Returns when to send or give up items next.
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

    fn handle_reply(&mut self, request: ProducerRequest, reply: Reply, now: Instant, entropy: &mut dyn Entropy) {
        match (request, reply) {
            (ProducerRequest::Enqueue(kind, batch), Ok(rows)) => {
                self.slot(kind).batcher.handle_done(&batch);
                match read_reply(kind, &batch, &rows) {
                    Ok(reply) => self.handle_enqueued(kind, batch, &reply, now, entropy),
                    Err(error) => self.report_failed(batch, &Trouble::Refused(error)),
                }
            }
            // An id exists already. The general statement inserts the other jobs.
            (ProducerRequest::Enqueue(EnqueueKind::Plain, batch), Err(failure))
                if batch.is_fresh() && failure.is_duplicate_id() =>
            {
                let batcher = &mut self.slot(EnqueueKind::Plain).batcher;
                batcher.handle_done(&batch);
                batcher.explain(batch);
            }
            (ProducerRequest::Enqueue(kind, batch), Err(failure)) => {
                let given_up = self.slot(kind).batcher.handle_failure(batch, &failure, now, entropy);
                self.report_failed(given_up, &Trouble::Failed(failure));
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
fn read_reply(kind: EnqueueKind, batch: &Batch<NewJob>, rows: &Rows) -> Result<EnqueueReply, Error> {
    let jobs = &batch.items;
    match kind {
        EnqueueKind::Plain if batch.is_fresh() => EnqueueFresh { jobs }.interpret(rows),
        EnqueueKind::Plain => Enqueue { jobs }.interpret(rows),
        EnqueueKind::Keyed if batch.passes => EnqueueEach { jobs }.interpret(rows),
        EnqueueKind::Keyed => EnqueueKeyed { jobs, in_transaction: false }.interpret(rows),
    }
}
