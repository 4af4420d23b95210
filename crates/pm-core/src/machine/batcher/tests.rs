use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

#[derive(Debug, Clone, PartialEq, Eq)]
struct Item {
    weight: usize,
    bad: bool,
}

impl Batched for Item {
    type Lock = ();

    fn locks(&self) -> [Option<()>; 2] {
        [Some(()), None]
    }

    fn weight(&self) -> usize {
        self.weight
    }
}

struct Counting(u64);

impl Entropy for Counting {
    fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        self.0
    }
}

fn second(n: u64) -> Instant {
    Instant::from_start(Duration::from_secs(n))
}

fn batcher_with(weights: &[usize]) -> Batcher<Item> {
    let mut batcher = Batcher::new(BatchLimits { items: 3, bytes: 100, alone_bytes: 50 });
    for (n, weight) in weights.iter().enumerate() {
        let deadlines = Batcher::<Item>::deadlines(second(0), Duration::from_secs(30));
        batcher.push(RequestId(n as u64), Item { weight: *weight, bad: false }, deadlines);
    }
    batcher
}

fn sizes(mut batcher: Batcher<Item>) -> Vec<usize> {
    std::iter::from_fn(|| {
        let batch = batcher.poll_batch(second(0))?;
        batcher.handle_done();
        Some(batch.items.len())
    })
    .collect()
}

#[test]
fn a_single_item_is_sent_at_once() {
    assert_eq!(sizes(batcher_with(&[1])), [1]);
}

#[test]
fn one_batch_is_in_flight_at_a_time() {
    let mut batcher = batcher_with(&[1, 1, 1, 1]);
    assert!(batcher.poll_batch(second(0)).is_some());
    assert!(batcher.poll_batch(second(0)).is_none());
    batcher.handle_done();
    assert!(batcher.poll_batch(second(0)).is_some());
}

#[test]
fn batches_are_bounded_in_items_and_bytes_and_large_items_are_sent_alone() {
    assert_eq!(sizes(batcher_with(&[1, 1, 1, 1])), [3, 1]);
    assert_eq!(sizes(batcher_with(&[40, 40, 40])), [2, 1]);
    assert_eq!(sizes(batcher_with(&[1, 60, 1, 1])), [1, 1, 2]);
    assert_eq!(sizes(batcher_with(&[500])), [1]);
}

#[test]
fn items_that_never_ran_are_given_up_sooner_than_those_that_may_have_run() {
    for (failure, last_retry) in [(Failure::not_sent("refused"), 4), (Failure::no_reply("cut"), 29)] {
        let mut batcher = batcher_with(&[1]);
        let batch = batcher.poll_batch(second(0)).unwrap();
        let given_up = batcher.handle_failure(batch, &failure, second(last_retry), &mut Counting(1));
        assert!(given_up.items.is_empty());
        let batch = batcher.poll_batch(batcher.retry_at().unwrap()).unwrap();
        let given_up = batcher.handle_failure(batch, &failure, second(last_retry + 1), &mut Counting(1));
        assert_eq!(given_up.items.len(), 1);
        assert!(batcher.is_empty());
    }
}

#[test]
fn an_item_is_not_sent_again_after_its_deadline() {
    let mut batcher = batcher_with(&[1]);
    let batch = batcher.poll_batch(second(0)).unwrap();
    assert!(batcher.handle_failure(batch, &Failure::not_sent(""), second(4), &mut Counting(1)).items.is_empty());
    assert!(batcher.poll_batch(second(6)).is_none());
    let (given_up, failure) = batcher.poll_given_up(second(6)).unwrap();
    assert!(given_up.items.len() == 1 && failure.is_some() && batcher.is_empty());
}

#[test]
fn a_failure_is_followed_by_a_pause() {
    let mut batcher = batcher_with(&[1]);
    let batch = batcher.poll_batch(second(0)).unwrap();
    let given_up = batcher.handle_failure(batch, &Failure::not_sent(""), second(0), &mut Counting(1));
    assert!(given_up.items.is_empty() && batcher.poll_batch(second(0)).is_none());
    let pause = batcher.retry_at().unwrap().since(second(0));
    assert!((Duration::from_millis(25)..=Duration::from_millis(50)).contains(&pause), "{pause:?}");
    assert!(batcher.poll_batch(batcher.retry_at().unwrap()).is_some());
}

proptest! {
    /// For any sequence of failures, each item has exactly one outcome, and a bad item fails no good one.
    #[test]
    fn no_item_is_lost_doubled_or_failed_by_another(
        items in prop::collection::vec((1usize..80, any::<bool>()), 0..40),
        failures in prop::collection::vec(0u8..4, 0..60),
    ) {
        let mut batcher = batcher_with(&[]);
        for (n, (weight, bad)) in items.iter().enumerate() {
            let deadlines = Batcher::<Item>::deadlines(second(0), Duration::from_secs(1 << 40));
            let deadlines = RetryDeadlines { unsent: deadlines.sent, ..deadlines };
            batcher.push(RequestId(n as u64), Item { weight: *weight, bad: *bad }, deadlines);
        }
        let mut outcomes = BTreeMap::new();
        let mut failures = failures.into_iter();
        let mut now = second(0);
        while !batcher.is_empty() {
            now = batcher.retry_at().unwrap_or(now);
            let batch = batcher.poll_batch(now).unwrap();
            let failure = match failures.next() {
                Some(0) => Some(Failure::no_reply("cut")),
                Some(1) => Some(Failure::reported("55P03", None, "locked")),
                Some(2) => Some(Failure::not_sent("refused")),
                _ if batch.items.iter().any(|item| item.bad) => Some(Failure::reported("22021", None, "bad")),
                _ => None,
            };
            let (done, ok) = match failure {
                None => { batcher.handle_done(); (batch, true) }
                Some(failure) => (batcher.handle_failure(batch, &failure, now, &mut Counting(9)), false),
            };
            for (request_id, item) in done.into_entries() {
                prop_assert_eq!(item.bad, !ok);
                prop_assert!(outcomes.insert(request_id, ok).is_none(), "two outcomes");
            }
        }
        prop_assert_eq!(outcomes.len(), items.len());
    }
}
