//! The runner: what becomes of a job by what its handler returns or does, and how the runner stops.

use super::Harness;
use futures_channel::{mpsc, oneshot};
use futures_util::future::{join, pending};
use futures_util::{FutureExt, StreamExt};
use pm_queue::{
    Ending, EnqueueOptions, Error, ErrorKind, JobContext, JobMetadata, Outcome, RunOptions, SettingsChange, State,
    StopReason, Uuid,
};
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3_600);

type BoxError = Box<dyn std::error::Error + Send + Sync>;

impl Harness {
    /// Runs a handler until `is_over` returns true, and then until the runner has ended.
    async fn run_until<Running>(
        &self,
        options: RunOptions,
        handler: impl Fn(u64, JobContext) -> Running + Send + Sync + 'static,
        is_over: impl AsyncFnMut() -> bool,
    ) where
        Running: Future<Output = Result<Outcome, BoxError>> + Send + 'static,
    {
        let (stop, stopped) = oneshot::channel::<()>();
        let run = self.queue.run("tasks", options.stop_when(stopped.map(|_| ())), handler);
        let wait = async {
            self.eventually("the jobs are handled", is_over).await;
            drop(stop);
        };
        let (result, ()) = self.within("the end of the runner", join(run, wait)).await;
        result.expect("the runner ends as asked");
    }

    /// Returns whether none of these jobs is in progress or ready.
    async fn are_settled(&self, ids: &[Uuid]) -> bool {
        for id in ids {
            let job = self.job(*id).await;
            let is_settled = job.state.is_ended() || (job.state == State::Pending && job.run_at.is_some());
            if !is_settled {
                return false;
            }
        }
        true
    }
}

fn seen(job: &JobMetadata) -> (State, u32, Option<&str>) {
    (job.state, job.retry_count, job.reason.as_deref())
}

#[derive(Debug)]
struct Outer(std::num::ParseIntError);

impl fmt::Display for Outer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the answer is no number")
    }
}

impl std::error::Error for Outer {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0)
    }
}

pub(super) async fn what_a_handler_returns_settles_its_job(harness: Harness) {
    let mut ids = Vec::new();
    for n in 0..9 {
        ids.push(harness.put_with(n, EnqueueOptions::default().backoff(vec![HOUR])).await);
    }
    let handler = |n: u64, job: JobContext| async move {
        job.set_progress(n)?;
        Ok(match n {
            0 => Outcome::Done,
            1 => Outcome::Retry("again".to_owned()),
            2 => Outcome::RetryAfter(HOUR * 3, "busy".to_owned()),
            3 => Outcome::Snooze(HOUR * 5),
            4 => Outcome::Fail("never".to_owned()),
            5 => Err(Outer("seven".parse::<u8>().unwrap_err()))?,
            7 => Outcome::DoneWith("done".into()),
            8 => Outcome::DoneWith("a".repeat(1 << 20).into()),
            _ => panic!("job {n} has a bug"),
        })
    };
    harness.run_until(RunOptions::new(), handler, async || harness.are_settled(&ids).await).await;
    let mut jobs = Vec::new();
    for id in &ids {
        jobs.push(harness.job(*id).await);
    }
    let hours =
        |job: &JobMetadata| job.run_at.map(|at| (at.unix_us() - job.read_at.unix_us() + 1_800_000_000) / 3_600_000_000);
    assert_eq!((seen(&jobs[0]), hours(&jobs[0])), ((State::Finished, 0, None), None));
    assert_eq!((seen(&jobs[1]), hours(&jobs[1])), ((State::Pending, 1, Some("again")), Some(1)));
    assert_eq!((seen(&jobs[2]), hours(&jobs[2])), ((State::Pending, 1, Some("busy")), Some(3)));
    assert_eq!((seen(&jobs[3]), hours(&jobs[3])), ((State::Pending, 0, None), Some(5)));
    assert_eq!((seen(&jobs[4]), hours(&jobs[4])), ((State::Failed, 0, Some("never")), None));
    let reason = "the answer is no number: invalid digit found in string";
    assert_eq!(seen(&jobs[5]), (State::Pending, 1, Some(reason)), "an error comes with its causes");
    assert_eq!(seen(&jobs[6]), (State::Pending, 1, Some("panicked: job 6 has a bug")));
    assert_eq!(seen(&jobs[7]), (State::Finished, 0, None));
    assert_eq!(harness.queue.result(ids[7]).await.unwrap(), Some("done".to_owned()));
    let too_large = "the result is 1048578 bytes long; at most 1048576 are allowed";
    assert_eq!(seen(&jobs[8]).1, 1);
    assert!(jobs[8].reason.as_deref().unwrap().contains(too_large), "{:?}", jobs[8].reason);
}

/// Handlers that hang, ignore that they should stop, or block their threads cost their own jobs only.
pub(super) async fn a_handler_that_does_not_return_costs_its_job_only(harness: Harness) {
    let mut ids = Vec::new();
    for n in 0..20 {
        ids.push(harness.put_with(n, EnqueueOptions::default().backoff(vec![HOUR])).await);
    }
    // A thread that is blocked stays so until the test is over.
    let has_threads = harness.has_threads();
    let (unblock, blocked) = std::sync::mpsc::channel::<()>();
    let blocked = Arc::new(Mutex::new(blocked));
    let asked = Arc::new(Mutex::new(None));
    let handler = {
        let (blocked, asked) = (blocked.clone(), asked.clone());
        move |n: u64, job: JobContext| {
            let (blocked, asked) = (blocked.clone(), asked.clone());
            async move {
                match n {
                    3 => pending().await,
                    4 => {
                        let reason = job.stopped().await;
                        *asked.lock().unwrap() = Some(reason);
                        Err("cleaned up")?
                    }
                    5 => {
                        job.stopped().await;
                        Ok(Outcome::Done)
                    }
                    // Without a second thread nothing else would run.
                    6 if !has_threads => pending().await,
                    6 => {
                        let _disconnected = blocked.lock().unwrap().recv();
                        Ok(Outcome::Done)
                    }
                    _ => Ok(Outcome::Done),
                }
            }
        }
    };
    let options = RunOptions::new().concurrency(4).timeout(SECOND / 2).grace(SECOND / 10);
    harness.run_until(options, handler, async || harness.are_settled(&ids).await).await;
    drop(unblock);
    for (n, id) in ids.iter().enumerate() {
        let job = harness.job(*id).await;
        let expected = match n {
            3 | 6 => (State::Pending, 1, Some("timed out after 500ms")),
            4 => (State::Pending, 1, Some("timed out after 500ms: cleaned up")),
            _ => (State::Finished, 0, None),
        };
        assert_eq!(seen(&job), expected, "job {n}");
    }
    assert_eq!(*asked.lock().unwrap(), Some(StopReason::TimedOut));
}

pub(super) async fn a_stopped_runner_waits_for_its_handlers_and_releases_the_rest(harness: Harness) {
    let ids = harness.put_many(6).await;
    let started = Arc::new(AtomicUsize::new(0));
    let handler = {
        let started = started.clone();
        move |n: u64, job: JobContext| {
            let started = started.clone();
            async move {
                started.fetch_add(1, Ordering::Relaxed);
                match n {
                    0 => drop(job.stopped().await),
                    1 => return pending().await,
                    2 => Err(format!("stopped: {:?}", job.stopped().await))?,
                    _ => {}
                }
                Ok(Outcome::Done)
            }
        }
    };
    let options = RunOptions::new().concurrency(3).grace(SECOND / 5).drain(SECOND / 10);
    harness.run_until(options, handler, async || started.load(Ordering::Relaxed) == 3).await;
    let mut found = Vec::new();
    for id in &ids {
        let job = harness.job(*id).await;
        found.push((job.state, job.retry_count, job.reason));
    }
    assert_eq!(found[0], (State::Finished, 0, None), "it ended within the grace");
    // Dropped, stopped with an error, and never started: no retry is counted.
    harness
        .eventually("the others are pending", async || {
            let mut pending = 0;
            for id in &ids[1..] {
                pending += usize::from(harness.state(*id).await == State::Pending);
            }
            pending == 5
        })
        .await;
    assert!(found[1..].iter().all(|(_, retries, reason)| (*retries, reason.is_none()) == (0, true)), "{found:?}");
}

pub(super) async fn a_handler_learns_of_its_last_attempt_and_of_a_lost_lease(harness: Harness) {
    let settings = SettingsChange::new().backoff(vec![Duration::ZERO]).jitter_percent(0);
    harness.queue.set_queue_settings("tasks", settings).await.unwrap();
    let (retried, taken) = (harness.put_with(1, EnqueueOptions::default().max_retries(2)).await, harness.put(2).await);
    let lasts = Arc::new(Mutex::new(Vec::new()));
    let reason = Arc::new(Mutex::new(None));
    let handler = {
        let (lasts, reason) = (lasts.clone(), reason.clone());
        let queue = harness.queue.clone();
        move |n: u64, job: JobContext| {
            let (lasts, reason, queue) = (lasts.clone(), reason.clone(), queue.clone());
            async move {
                if n == 1 {
                    lasts.lock().unwrap().push(job.is_last_attempt());
                    return Ok(Outcome::Retry("no".to_owned()));
                }
                queue.finish_jobs(&[job.metadata().id]).await?;
                *reason.lock().unwrap() = Some(job.stopped().await);
                Ok(Outcome::Fail("too late".to_owned()))
            }
        }
    };
    let is_over = async || harness.state(retried).await == State::Failed && reason.lock().unwrap().is_some();
    harness.run_until(RunOptions::new(), handler, is_over).await;
    assert_eq!(*lasts.lock().unwrap(), [false, false, true]);
    assert_eq!(*reason.lock().unwrap(), Some(StopReason::LeaseLost));
    assert_eq!(harness.state(taken).await, State::Finished);
}

/// What a handler settles in its own transaction stays settled, whatever it returns.
pub(super) async fn a_handler_settles_its_job_in_its_own_transaction(harness: Harness) {
    let (committed, rolled_back) =
        (harness.put(1).await, harness.put_with(2, EnqueueOptions::default().backoff(vec![HOUR])).await);
    let harness = Arc::new(harness);
    let (went_on, mut stop_reasons) = mpsc::unbounded();
    let handler = {
        let harness = harness.clone();
        move |n: u64, job: JobContext| {
            let (harness, went_on) = (harness.clone(), went_on.clone());
            async move {
                let mut ack = job.ack().await?;
                let mut transaction = harness.begin().await;
                let settlement = ack.commit_in(&*transaction.inside()).await?;
                transaction.end(n == 1).await;
                if n == 1 {
                    settlement.committed();
                    drop(ack);
                    harness.sleep(SECOND / 10).await;
                    let _test_has_failed = went_on.unbounded_send(job.stop_reason());
                    return Err("after the commit")?;
                }
                drop(settlement);
                Err("rolled back")?
            }
        }
    };
    let ids = [committed, rolled_back];
    let options = RunOptions::new().grace(Duration::ZERO);
    harness.run_until(options, handler, async || harness.are_settled(&ids).await).await;
    assert_eq!(seen(&harness.job(committed).await), (State::Finished, 0, None));
    assert_eq!(stop_reasons.next().await, Some(None), "a handler that has settled its job may go on");
    assert_eq!(seen(&harness.job(rolled_back).await), (State::Pending, 1, Some("rolled back")));
}

/// On a quiet queue nothing else comes that would make the runner let go of the job.
pub(super) async fn a_job_that_a_runner_cannot_read_is_left_to_another_worker_at_once(harness: Harness) {
    let id = harness.queue.enqueue("tasks", "no number", EnqueueOptions::default()).await.unwrap();
    let handler = |_, _| async { Ok(Outcome::Done) };
    harness.run_until(RunOptions::new(), handler, async || harness.job(id).await.run_at.is_some()).await;
    let attempts = harness.queue.attempts(id).await.unwrap();
    assert_eq!(attempts.iter().map(|attempt| attempt.ending).collect::<Vec<_>>(), [Ending::Unreadable]);
}

/// A task of the handler's outlives it, and uses the ack when the handler returns.
pub(super) async fn a_job_whose_ack_is_in_use_is_settled_all_the_same(harness: Harness) {
    let id = harness.put(1).await;
    let (took, taken) = std::sync::mpsc::channel();
    let taken = Arc::new(Mutex::new(taken));
    let handler = move |_, job: JobContext| {
        let (took, taken) = (took.clone(), taken.clone());
        async move {
            std::thread::spawn(move || {
                let ack = smol::block_on(job.ack()).expect("the job is not settled");
                took.send(()).unwrap();
                std::thread::sleep(SECOND / 10);
                drop(ack);
                assert!(smol::block_on(job.ack()).is_err(), "the job is settled");
            });
            taken.lock().unwrap().recv().unwrap();
            Ok(Outcome::Done)
        }
    };
    harness.run_until(RunOptions::new(), handler, async || harness.state(id).await == State::Finished).await;
}

pub(super) async fn a_runner_refuses_bad_input_and_ends_without_a_queue(harness: Harness) {
    async fn handle(_: u64, _: JobContext) -> Result<(), BoxError> {
        Ok(())
    }
    let kind = |result: Result<(), Error>| result.map_err(|error| error.kind());
    let harness = &harness;
    let run = async |names: &'static [&'static str], options| {
        kind(harness.within("the end of the runner", harness.queue.run(names, options, handle)).await)
    };
    assert_eq!(run(&["tasks"], RunOptions::new().timeout(Duration::ZERO)).await, Err(ErrorKind::Invalid));
    assert_eq!(run(&[], RunOptions::new()).await, Err(ErrorKind::Invalid));
    assert_eq!(run(&["no\0name"], RunOptions::new()).await, Err(ErrorKind::Invalid));
    assert_eq!(run(&["missing"], RunOptions::new()).await, Err(ErrorKind::QueueNotFound));
    // A payload that cannot be read, and one of two queues that is missing, end nothing; closing the handle does.
    let text = harness.queue.enqueue("tasks", "no number", EnqueueOptions::default()).await.unwrap();
    let number = harness.put(7).await;
    let waits = async {
        harness.eventually("the other job is done", async || harness.state(number).await == State::Finished).await;
        assert!(harness.job(text).await.run_at.is_some(), "the unreadable job waits for another worker");
        harness.queue.close().await;
    };
    let (result, ()) = join(run(&["tasks", "missing"], RunOptions::new()), waits).await;
    assert_eq!(result, Ok(()));
}
