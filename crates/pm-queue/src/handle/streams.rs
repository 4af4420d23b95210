//! Starting the workers of streams and of jobs fetched by id.

use crate::observe::Activity;
use crate::sending::{Shared, Task};
use crate::worker::{Listening, Worker, WorkerWaiters};
use crate::{Error, JobStream, Queue, QueueNames, StreamOptions};
use pm_core::op::Notification;
use pm_core::{QueueName, machine};
use serde::de::DeserializeOwned;
use std::sync::Arc;
use std::sync::atomic::Ordering;

impl Queue {
    /// Returns a stream of the jobs of one or more queues, with the default [`StreamOptions`].
    ///
    /// It starts claiming when first polled. See [`JobStream`] for how it behaves.
    pub fn try_stream_jobs<T: DeserializeOwned + 'static>(&self, queues: impl QueueNames) -> JobStream<T> {
        self.try_stream_jobs_with(queues, StreamOptions::default())
    }

    /// Returns a stream of the jobs of one or more queues, configured by `options`.
    ///
    /// An error in the arguments, a bad name for example, is the stream's only item.
    pub fn try_stream_jobs_with<T: DeserializeOwned + 'static>(
        &self,
        queues: impl QueueNames,
        options: StreamOptions,
    ) -> JobStream<T> {
        match self.start_worker(queues.into_names(), options) {
            Ok(worker) => JobStream::running(worker, self.inner.link.clone(), self.inner.workers.clone()),
            Err(error) => JobStream::refused(error),
        }
    }

    fn start_worker(&self, queues: Vec<String>, options: StreamOptions) -> Result<Arc<Worker>, Error> {
        self.check_open()?;
        let mut names = queues.iter().map(|name| QueueName::new(name)).collect::<Result<Vec<_>, _>>()?;
        names.sort_unstable();
        names.dedup();
        if names.is_empty() {
            return Err(Error::invalid("a stream needs the name of at least one queue"));
        }
        Ok(self.spawn_worker(names, options))
    }

    /// Returns the worker for jobs fetched by id, which the first call starts.
    pub(crate) fn fetching_worker(&self) -> Result<Arc<Worker>, Error> {
        self.check_open()?;
        let start = || self.spawn_worker(Vec::new(), StreamOptions::default().listen(false));
        Ok(self.inner.fetching.get_or_init(start).clone())
    }

    fn spawn_worker(&self, names: Vec<QueueName>, options: StreamOptions) -> Arc<Worker> {
        let link = &self.inner.link;
        let idle_poll = options.listen.then_some(options.idle_poll);
        let channel = Notification::channel(link.catalog.schema());
        let options = options.into_core(names, &self.inner.worker_name, channel, link.statement_timeout);
        let mut machine = machine::Worker::new(options, link.now());
        let activity = link.observing.is_on().then(Activity::default);
        if activity.is_some() {
            machine.report_activity();
        }
        let worker = Shared::new(machine, WorkerWaiters { idle_poll, activity, ..WorkerWaiters::default() });
        self.inner.workers.add(&worker);
        if self.inner.closed.load(Ordering::Acquire) {
            // The queue was closed after the caller's check, perhaps before this worker was in the list.
            self.inner.workers.close(link.now());
        }
        Task::spawn(&worker, link);
        if idle_poll.is_some() {
            Listening::ensure_started(&self.inner.listening, link, &self.inner.workers);
        }
        worker
    }
}
