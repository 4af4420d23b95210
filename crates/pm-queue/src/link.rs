//! What every part of a queue needs to reach the database: driver, statements, runtime, randomness.

use crate::gate::Gates;
use crate::{ConnectOptions, Driver, Error, Executor, Randomness, Runtime};
use futures_util::future::{Either, select};
use pm_core::machine::Entropy;
use pm_core::op::{Encoding, Privileges};
use pm_core::{Catalog, Class, Failure, Instant, Operation, Plan, Rows, SchemaName, Statement, StatementId, Value};
use std::pin::pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

/// How much longer than the server we wait for its answer.
const ANSWER_SLACK: Duration = Duration::from_secs(5);
/// Payloads on a link of less than 1 Mbit/s may be given up on their way.
const SLOWEST_BYTES_A_SECOND: u64 = 128 << 10;
/// How often an operation is tried when the server says that it may pass later.
const TRIES: u32 = 3;
/// How soon the connection must be lost for a statement that only looks to be sent again.
const RESEND_WITHIN: Duration = Duration::from_secs(1);

pub(crate) struct Link {
    pub(crate) driver: Arc<dyn Driver>,
    pub(crate) runtime: Arc<dyn Runtime>,
    pub(crate) randomness: Arc<dyn Randomness>,
    pub(crate) catalog: Catalog,
    pub(crate) statement_timeout: Duration,
    pub(crate) lock_timeout: Duration,
    /// The encoding of the database, once it had to be asked for.
    encoding: OnceLock<String>,
    gates: Gates,
    trouble: Trouble,
}

/// What is known of the way to the database.
#[derive(Default)]
struct Trouble {
    in_a_row: AtomicU32,
    /// How many claims in a row the server has refused, or not done because of a lock.
    claims_in_a_row: AtomicU32,
    /// How many replies were lost or came from a server without writes, ever.
    lost_servers: AtomicU32,
    last: Mutex<Option<String>>,
}

impl Link {
    pub(crate) fn new(
        driver: Arc<dyn Driver>,
        runtime: Arc<dyn Runtime>,
        randomness: Arc<dyn Randomness>,
        options: &ConnectOptions,
    ) -> Result<Self, Error> {
        let catalog = Catalog::new(&SchemaName::new(&options.schema)?);
        Ok(Link {
            gates: Gates::new(driver.room()),
            driver,
            runtime,
            randomness,
            catalog,
            statement_timeout: options.statement_timeout,
            lock_timeout: options.lock_timeout,
            encoding: OnceLock::new(),
            trouble: Trouble::default(),
        })
    }

    pub(crate) fn now(&self) -> Instant {
        self.runtime.now()
    }

    /// Sends a plan and waits for the rows, no longer than the server works on it and a little.
    pub(crate) async fn send(&self, plan: &Plan<'_>) -> Result<Rows, Failure> {
        let class = plan.statement.class();
        let entered =
            self.gates.enter(class, self.answer_timeout(), |answer_timeout| self.runtime.sleep(answer_timeout)).await;
        let _permit = entered?;
        let mut answer = self.send_by(&*self.driver, plan).await;
        if answer.as_ref().is_err_and(Failure::is_unstorable) && plan.has_uncommon_text() {
            let encoding = self.encoding(&*self.driver).await;
            if let Some(fitted) = plan.fitted_texts(encoding.unwrap_or_default()) {
                answer = self.send_by(&*self.driver, &fitted.plan(plan)).await;
            }
        }
        if let Err(failure) = &answer
            && failure.is_forbidden()
        {
            let explanation = self.explain(plan.statement).await;
            answer = Err(failure.clone().with_detail(explanation.as_deref()));
        }
        self.note(plan.statement, &answer);
        answer
    }

    /// Returns which privileges the role lacks for a statement that was refused, if that can be found out.
    async fn explain(&self, statement: StatementId) -> Option<String> {
        let privileges = Privileges::of_current_role();
        let rows = self.send_by(&*self.driver, &privileges.plan()).await.ok()?;
        privileges.interpret(&rows).ok()?.explanation(statement)
    }

    /// Returns the encoding of the database, which is asked for once.
    async fn encoding(&self, executor: &dyn Executor) -> Result<&str, Error> {
        if self.encoding.get().is_none() {
            let rows = self.send_by(executor, &Encoding.plan()).await?;
            // Should another task have been faster, it got the same answer.
            drop(self.encoding.set(Encoding.interpret(&rows)?));
        }
        Ok(self.encoding.get().map(String::as_str).unwrap_or_default())
    }

    async fn send_by(&self, executor: &dyn Executor, plan: &Plan<'_>) -> Result<Rows, Failure> {
        self.send_as(executor, self.catalog.statement(plan.statement), plan).await
    }

    async fn send_as(&self, executor: &dyn Executor, statement: &Statement, plan: &Plan<'_>) -> Result<Rows, Failure> {
        let answer_timeout = self.answer_timeout().saturating_add(sending_time(&plan.params));
        let answer = pin!(executor.run(statement, &plan.params));
        match select(answer, self.runtime.sleep(answer_timeout)).await {
            Either::Left((answer, _)) => answer,
            Either::Right(_) => Err(Failure::no_reply(format!("no answer within {answer_timeout:?}"))),
        }
    }

    /// Returns how long an answer is waited for.
    fn answer_timeout(&self) -> Duration {
        self.statement_timeout.saturating_add(ANSWER_SLACK)
    }

    fn note(&self, statement: StatementId, answer: &Result<Rows, Failure>) {
        // A claim that failed is sent again soon, so that this number does not stay when the reason has gone.
        if statement == StatementId::Claim {
            match answer {
                Ok(_) => self.trouble.claims_in_a_row.store(0, Ordering::Relaxed),
                // Of others, whatever is sent next tells when they are over.
                Err(failure)
                    if !failure.is_read_only() && !matches!(failure.class(), Class::Permanent | Class::Blocked) => {}
                Err(failure) => {
                    self.trouble.claims_in_a_row.fetch_add(1, Ordering::Relaxed);
                    *self.trouble.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(failure.to_string());
                }
            }
        }
        let is_lost = |failure: &Failure| failure.class() == Class::Unknown || failure.is_read_only();
        if answer.as_ref().is_err_and(is_lost) {
            self.trouble.lost_servers.fetch_add(1, Ordering::Relaxed);
        }
        match answer {
            Err(failure) if failure.is_connection() => {
                self.trouble.in_a_row.fetch_add(1, Ordering::Relaxed);
                *self.trouble.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(failure.to_string());
            }
            _ => self.trouble.in_a_row.store(0, Ordering::Relaxed),
        }
    }

    /// Returns a number that changes when a server stops answering, or stops taking writes.
    pub(crate) fn lost_servers(&self) -> u32 {
        self.trouble.lost_servers.load(Ordering::Relaxed)
    }

    /// Returns how many statements in a row found no database, or how many claims in a row were refused, and what the last
    /// such failure said.
    pub(crate) fn trouble(&self) -> (u32, Option<String>) {
        let last = self.trouble.last.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let claims = self.trouble.claims_in_a_row.load(Ordering::Relaxed);
        (self.trouble.in_a_row.load(Ordering::Relaxed).max(claims), last)
    }

    /// Does one operation inside a transaction of the caller's, once.
    pub(crate) async fn run_in<O: Operation>(&self, executor: &dyn Executor, operation: O) -> Result<O::Output, Error> {
        let plan = operation.plan();
        let fitted = match plan.has_uncommon_text() {
            // A refusal would abort the transaction. It is asked on the same connection: there may be no other.
            true => plan.fitted_texts(self.encoding(executor).await?),
            false => None,
        };
        let statement = self.catalog.statement_in_transaction(plan.statement);
        let answer = match &fitted {
            Some(fitted) => self.send_as(executor, statement, &fitted.plan(&plan)).await,
            None => self.send_as(executor, statement, &plan).await,
        };
        drop(plan);
        match answer {
            Ok(rows) => Ok(operation.interpret(&rows)?),
            Err(failure) => Err(operation.refusal(&failure).map_or_else(|| failure.into(), Error::from)),
        }
    }

    /// Does one operation, more than once when the server says that it may pass later, or when a connection is lost at
    /// once and repeating it does no harm.
    pub(crate) async fn run<O: Operation + Clone>(&self, operation: O) -> Result<O::Output, Error> {
        let (mut tries, begin) = (1, self.now());
        loop {
            match self.send(&operation.plan()).await {
                Ok(rows) => return Ok(operation.interpret(&rows)?),
                Err(failure) if tries < TRIES && passes_later(&failure) => tries += 1,
                // A session that had ended already, as a rule. What was waited for in vain is not waited for again.
                Err(failure)
                    if tries < TRIES
                        && failure.class() == Class::Unknown
                        && O::STATEMENT.is_repeatable()
                        && self.now().since(begin) < RESEND_WITHIN =>
                {
                    tries += 1;
                }
                Err(failure) => return Err(operation.refusal(&failure).map_or_else(|| failure.into(), Error::from)),
            }
            self.runtime.sleep(Duration::from_millis(20) * tries).await;
        }
    }
}

/// Returns how long payloads may be on their way to the server, before its statement timeout begins.
fn sending_time(params: &[Value<'_>]) -> Duration {
    let bytes: usize = (params.iter())
        .map(|param| match param {
            Value::Bytes(bytes) => bytes.len(),
            Value::BytesArray(values) => values.iter().flatten().map(|bytes| bytes.len()).sum(),
            _ => 0,
        })
        .sum();
    Duration::from_secs(bytes as u64 / SLOWEST_BYTES_A_SECOND)
}

/// Returns whether the server surely did not run it and it may pass a moment later: a deadlock, for example, or two
/// jobs that took one key at the same moment.
fn passes_later(failure: &Failure) -> bool {
    failure.constraint() == Some("job_key")
        || failure.class() == Class::Retry
            && failure.sqlstate().is_some()
            && (!failure.is_connection() || failure.ends_session())
}

/// Lends a queue's randomness to a machine.
pub(crate) struct CoreEntropy<'a>(pub(crate) &'a dyn Randomness);

impl Entropy for CoreEntropy<'_> {
    fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }
}
