//! Databases with other encodings than UTF-8: a settlement is always applied, human-readable texts are stored with
//! substitutes, names and keys are refused with a clear error, and no other job or transaction of the caller fails.

use futures_util::future::join_all;
use pm_driver_tokio_postgres::{
    ConnectOptions, EnqueueOptions, ErrorKind, InTransaction, OnConflict, Queue, State, StreamOptions,
};
use pm_sandbox::{Pooler, TestDatabase};
use pm_tests::{Direct, take};

/// Encodings, each with the stored form of [`TEXT`].
const ENCODINGS: [(&str, &str); 6] = [
    ("LATIN1", "é \\u{2192} \\u{1f980}"),
    ("LATIN2", "\\u{e9} \\u{2192} \\u{1f980}"),
    ("WIN1252", "\\u{e9} \\u{2192} \\u{1f980}"),
    ("EUC_JP", "\\u{e9} \\u{2192} \\u{1f980}"),
    ("SQL_ASCII", TEXT),
    ("UTF8", TEXT),
];
/// The crab exists only in UTF-8, the arrow in some encodings, the accent in more.
const TEXT: &str = "é → 🦀";

/// A database with some encoding, and handles on it by each driver, with and without a pooler.
struct Fixture {
    queues: Vec<Queue>,
    _pooler: Pooler,
    database: TestDatabase,
}

impl Fixture {
    async fn new(encoding: &str) -> Fixture {
        let database = TestDatabase::create_encoded(encoding).expect("the server supports the encoding");
        let pooler = Pooler::before(&database.url()).expect("a private PgBouncer starts");
        let pooled = ConnectOptions::default().pooler(true);
        let (direct, through) = (database.url(), pooler.url_of(database.name()));
        let queues = vec![
            pm_driver_tokio_postgres::connect(&direct).await.unwrap(),
            pm_driver_sqlx::connect(&direct).await.unwrap(),
            pm_driver_tokio_postgres::connect_with(&through, pooled.clone()).await.unwrap(),
            pm_driver_sqlx::connect_with(&through, pooled).await.unwrap(),
        ];
        assert!(queues[0].create_queue("tasks", false).await.unwrap());
        Fixture { queues, _pooler: pooler, database }
    }

    async fn close(self) {
        for queue in &self.queues {
            queue.close().await;
        }
    }
}

/// A hard failure whose reason the database cannot store is applied, and so are its neighbours.
#[tokio::test]
async fn a_settlement_is_applied_whatever_its_reason() {
    for (encoding, stored) in ENCODINGS {
        let fixture = Fixture::new(encoding).await;
        for queue in &fixture.queues {
            let jobs = (0..20u64).map(|n| (n, EnqueueOptions::default()));
            queue.enqueue_many("tasks", jobs).await.unwrap();
            let mut jobs = queue.try_stream_jobs_with::<u64>("tasks", StreamOptions::default().listen(false));
            let acks: Vec<_> = take(&mut jobs, 20).await.into_iter().map(|job| job.into_parts().1).collect();
            let ids: Vec<_> = acks.iter().map(|ack| ack.lease().job).collect();
            // Otherwise the stream would claim the retried job.
            drop(jobs);
            let settled = join_all(acks.into_iter().zip(0..).map(async |(ack, n)| match n {
                7 => ack.hard_fail(TEXT).await,
                8 => ack.soft_fail("plain").await,
                _ => ack.commit().await,
            }));
            for settled in settled.await {
                settled.unwrap_or_else(|error| panic!("{encoding}: {error}"));
            }
            for (n, id) in ids.iter().enumerate() {
                let state = queue.job(*id).await.unwrap().state;
                let expected =
                    [State::Finished, State::Failed, State::Pending][usize::from(n == 7) + 2 * usize::from(n == 8)];
                assert_eq!(state, expected, "{encoding}, job {n}");
            }
            assert_eq!(queue.job(ids[7]).await.unwrap().reason.unwrap(), stored, "{encoding}");
            assert_eq!(queue.job(ids[8]).await.unwrap().reason.unwrap(), "plain", "{encoding}");
            queue.delete_jobs(&ids).await.unwrap();
        }
        fixture.close().await;
    }
}

/// Human-readable texts are stored with substitutes: descriptions, worker names, operators' reasons.
#[tokio::test]
async fn human_readable_texts_are_stored_with_substitutes() {
    for (encoding, stored) in ENCODINGS {
        let fixture = Fixture::new(encoding).await;
        for queue in &fixture.queues {
            let described = || EnqueueOptions::default().description(TEXT);
            let id = queue.enqueue("tasks", 1u64, described().key("k")).await.unwrap();
            assert_eq!(queue.job(id).await.unwrap().description.unwrap(), stored, "{encoding}");
            let replacing = described().key("k").on_conflict(OnConflict::Replace);
            assert_eq!(queue.enqueue("tasks", 2u64, replacing).await.unwrap(), id);
            let copy = queue.copy_job(id, "tasks", described()).await.unwrap();
            assert_eq!(queue.job(copy).await.unwrap().description.unwrap(), stored, "{encoding}");
            queue.fail_jobs(&[copy], TEXT).await.unwrap();
            assert_eq!(queue.job(copy).await.unwrap().reason.unwrap(), stored, "{encoding}");
            let options = StreamOptions::default().worker_name(TEXT).listen(false);
            let mut jobs = queue.try_stream_jobs_with::<u64>("tasks", options);
            let job = take(&mut jobs, 1).await.remove(0);
            assert_eq!(queue.job(id).await.unwrap().worker.unwrap(), stored, "{encoding}");
            job.into_parts().1.commit().await.unwrap();
            drop(jobs);
            queue.delete_jobs(&[id, copy]).await.unwrap();
        }
        fixture.close().await;
    }
}

/// Identifiers are never changed: they are refused as bad input, and no neighbour fails.
#[tokio::test]
async fn names_and_keys_that_cannot_be_stored_are_refused_clearly() {
    for (encoding, _) in ENCODINGS.into_iter().take(4) {
        let fixture = Fixture::new(encoding).await;
        for queue in &fixture.queues {
            let refused = queue.create_queue(TEXT, false).await.unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::Invalid, "{encoding}: {refused}");
            assert!(refused.to_string().contains("cannot store"), "{refused}");
            let (bad, good) = tokio::join!(
                queue.enqueue("tasks", 1u64, EnqueueOptions::default().key(TEXT)),
                join_all((0..9u64).map(|n| queue.enqueue("tasks", n, EnqueueOptions::default().key(format!("{n}")))))
            );
            assert_eq!(bad.unwrap_err().kind(), ErrorKind::Invalid, "{encoding}");
            let ids: Vec<_> = good.into_iter().map(Result::unwrap).collect();
            queue.delete_jobs(&ids).await.unwrap();
        }
        fixture.close().await;
    }
}

/// An error would abort the caller's transaction: human-readable texts are converted before they are sent.
#[tokio::test]
async fn a_description_does_not_abort_the_callers_transaction() {
    for (encoding, stored) in ENCODINGS {
        let fixture = Fixture::new(encoding).await;
        let queue = &fixture.queues[0];
        let mut direct = Direct::to(&fixture.database.url()).await;
        for n in 0..2u64 {
            let transaction = direct.client.transaction().await.unwrap();
            let options = EnqueueOptions::default().description(TEXT);
            let id = queue.enqueue_in(&InTransaction(&transaction), "tasks", n, options).await;
            let id = id.unwrap_or_else(|error| panic!("{encoding}: {error}"));
            transaction.commit().await.unwrap();
            assert_eq!(queue.job(id).await.unwrap().description.unwrap(), stored, "{encoding}");
        }
        fixture.close().await;
    }
}

/// A pool whose connections use another client encoding is refused: names would change in transit.
#[tokio::test]
async fn a_pool_with_another_client_encoding_is_refused() {
    let fixture = Fixture::new("LATIN1").await;
    let in_latin1 = sqlx::postgres::PgPoolOptions::new().after_connect(|connection, _| {
        Box::pin(async move {
            sqlx::query("set client_encoding = 'LATIN1'").execute(connection).await?;
            Ok(())
        })
    });
    let pool = in_latin1.connect(&fixture.database.url()).await.unwrap();
    let refused = pm_driver_sqlx::from_pool(pool, ConnectOptions::default()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Invalid, "{refused}");
    assert!(refused.to_string().contains("client_encoding of the connections is LATIN1"), "{refused}");
    fixture.close().await;
}
