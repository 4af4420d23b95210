//! The pure core with only the `postgres` crate, without `pm-queue` and without async. Build an operation, send the
//! statement of its plan, and pass the rows back to the operation.

use pm_core::op::{Claim, CreateQueue, Enqueue, LineCursor, Settle, SettleItem};
use pm_core::{
    Catalog, Codec, EnqueueOptions, NewJob, Operation, QueueName, SchemaName, State, Verdict, job_id, migration_script,
};
use pm_examples::bytes::{encoded, failure, rows_of};
use pm_examples::database_url;
use postgres::{Client, NoTls};
use std::error::Error;
use std::fs::File;
use std::io::Read;
use std::time::{SystemTime, UNIX_EPOCH};

struct Database {
    client: Client,
    catalog: Catalog,
}

impl Database {
    /// Runs one operation: one statement, in its own transaction.
    fn run<O: Operation>(&mut self, operation: O) -> Result<O::Output, Box<dyn Error>> {
        let plan = operation.plan();
        let statement = self.catalog.statement(plan.statement);
        let params = plan.params.iter().map(encoded).collect::<Result<Vec<_>, _>>()?;
        let rows = rows_of(&mut self.client, &statement.text, &params, statement.columns.len());
        // The database reports a refusal, for example of a name that is taken, as a failure too.
        let rows = rows.map_err(|error| {
            let failure = failure(&error);
            operation.refusal(&failure).map_or_else(|| Box::from(failure), Box::<dyn Error>::from)
        })?;
        drop(plan);
        Ok(operation.interpret(&rows)?)
    }
}

/// Returns random bytes; the core does not generate any itself.
fn random<const N: usize>() -> std::io::Result<[u8; N]> {
    let mut bytes = [0; N];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn main() -> Result<(), Box<dyn Error>> {
    let schema = SchemaName::default();
    let mut client = Client::connect(&database_url()?, NoTls)?;
    client.batch_execute(&migration_script(&schema))?;
    let mut database = Database { client, catalog: Catalog::new(&schema) };

    let queue = QueueName::new("mails")?;
    println!("created: {}", database.run(CreateQueue { name: queue.clone(), paused: false })?);

    // The client creates the id, so that sending the job twice enqueues it once.
    let now_ms = u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?;
    let options = EnqueueOptions::default().codec(Codec::Json);
    let job = NewJob { id: job_id(now_ms, random()?), queue, payload: br#"{"to":"ada"}"#.as_slice().into(), options };
    database.run(Enqueue { jobs: std::slice::from_ref(&job) })?;

    // A line is one queue and priority. The client also creates the lease number.
    let row = database.client.query_one("select id from pm.queue where name = 'mails'", &[])?;
    let line = LineCursor { queue_id: row.get(0), priority: 0, cursor: 0 };
    let lease = i64::from_be_bytes(random()?) & i64::MAX;
    let claim = Claim { lines: vec![line], limit: 10, lease, worker: "core_alone".to_owned(), due_bound: None };
    for claimed in database.run(claim)?.jobs {
        println!("{} to do: {}", claimed.lease.job, String::from_utf8_lossy(claimed.payload()));
        let item = SettleItem { lease: claimed.lease, verdict: Verdict::Commit, state: State::Finished, delay: None };
        // `missed` lists the jobs that another worker has leased or another transaction has locked.
        let unsettled = database.run(Settle { items: &[item], passes: false })?;
        println!("{}", if unsettled.missed.is_empty() { "done" } else { "lost" });
    }
    Ok(())
}
