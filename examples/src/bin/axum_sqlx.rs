//! A web service with axum and sqlx. `POST /signups` inserts a row and enqueues a mail in one transaction; the same
//! process sends the mails. On SIGTERM it finishes its requests and running jobs, then exits. A panic in a handler
//! soft-fails only its own job. If the worker itself ends, the service exits with an error.

use axum::extract::{Json, State};
use axum::http::StatusCode;
use axum::routing::{Router, get, post};
use pm_driver_sqlx::{ConnectOptions, EnqueueOptions, InTransaction, JobContext, Queue, RunOptions};
use pm_examples::{Mail, database_url};
use sqlx::PgPool;
use std::convert::Infallible;
use tokio::signal::unix::{SignalKind, signal};

#[derive(Clone)]
struct App {
    pool: PgPool,
    queue: Queue,
}

type Refusal = (StatusCode, String);

fn refused(error: impl std::fmt::Display) -> Refusal {
    (StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
}

async fn sign_up(State(app): State<App>, Json(mail): Json<Mail>) -> Result<String, Refusal> {
    let mut transaction = app.pool.begin().await.map_err(refused)?;
    let insert = sqlx::query("insert into signup (address) values ($1)").bind(&mail.to);
    insert.execute(&mut *transaction).await.map_err(refused)?;
    let inside = InTransaction::new(&mut transaction);
    let id = app.queue.enqueue_in(&inside, "mails", mail, EnqueueOptions::default()).await.map_err(refused)?;
    transaction.commit().await.map_err(refused)?; // the row and the job, or neither
    Ok(id.to_string())
}

async fn count(State(app): State<App>) -> Result<String, Refusal> {
    let count = sqlx::query_scalar::<_, i64>("select count(*) from signup").fetch_one(&app.pool).await;
    count.map(|count| count.to_string()).map_err(refused)
}

/// Sends a mail. If it panics, only this job soft-fails, with the panic's message as the reason.
async fn send(mail: Mail, _job: JobContext) -> Result<(), Infallible> {
    println!("mail to {} by way of {}", mail.to, mail.domain());
    tokio::time::sleep(mail.takes()).await;
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let pool = PgPool::connect(&database_url()?).await?;
    sqlx::query("create table if not exists signup (address text primary key)").execute(&pool).await?;
    let queue = pm_driver_sqlx::from_pool(pool.clone(), ConnectOptions::default()).await?;
    queue.create_queue("mails", false).await?;
    let worker = queue.clone();
    let mut mails = tokio::spawn(async move { worker.run("mails", RunOptions::new().concurrency(8), send).await });

    let app = App { pool, queue: queue.clone() };
    let routes = Router::new().route("/signups", post(sign_up)).route("/signups", get(count)).with_state(app);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    println!("listening on {}", listener.local_addr()?);
    let mut terminate = signal(SignalKind::terminate())?;
    let terminated = async move {
        terminate.recv().await;
    };
    let serving = axum::serve(listener, routes).with_graceful_shutdown(terminated);
    tokio::select! {
        served = serving.into_future() => served?,
        // A service that accepts mails but sends none must not look healthy: exit, and be restarted.
        ended = &mut mails => return Err(format!("the worker has ended unexpectedly: {ended:?}").into()),
    }

    queue.close().await;
    mails.await??;
    println!("done");
    Ok(())
}
