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
        batcher.handle_done(&batch);
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
    let mut batcher = batcher_with(&[1, 1, 1, 1, 1, 1]);
    let batch = batcher.poll_batch(second(0)).unwrap();
    assert!(batcher.poll_batch(second(0)).is_none());
    batcher.handle_done(&batch);
    assert!(batcher.poll_batch(second(0)).is_some());
}

#[test]
fn pipelined_two_full_batches_are_in_flight_at_a_time() {
    // By items, and by bytes. A batch that is not full, or alone for its size, is not sent with another.
    for (weights, most) in [
        (&[1; 9][..], 2),
        (&[1; 6], 2),
        (&[40; 6], 2),
        (&[1; 5], 1),
        (&[1; 2], 1),
        (&[60; 9], 1),
        (&[1, 1, 1, 60, 1, 1, 1], 1),
    ] {
        let mut batcher = batcher_with(weights).pipelined();
        let flights: Vec<_> = std::iter::from_fn(|| batcher.poll_batch(second(0))).collect();
        assert_eq!(flights.len(), most, "{weights:?}");
        assert_eq!(batcher.len(), weights.len());
        assert!(!batcher.is_gathering() && batcher.retry_at().is_none());
        batcher.handle_done(flights.last().unwrap());
        assert_eq!(batcher.len(), weights.len() - flights.last().unwrap().items.len());
    }
}

#[test]
fn of_two_batches_that_fail_the_first_is_sent_again_first() {
    let bad = Failure::reported("22021", None, "bad");
    for (failures, is_second_first) in [
        ([Failure::no_reply("cut"), Failure::not_sent("refused")], false),
        ([Failure::no_reply("cut"), Failure::not_sent("refused")], true),
        ([bad.clone(), Failure::no_reply("cut")], false),
        ([Failure::no_reply("cut"), bad.clone()], true),
        ([bad.clone(), bad], true),
    ] {
        let mut batcher = batcher_with(&[1; 9]).pipelined();
        let flights = [(); 2].map(|()| batcher.poll_batch(second(0)).unwrap()).into_iter().zip(failures);
        let flights: Vec<_> = match is_second_first {
            true => flights.rev().collect(),
            false => flights.collect(),
        };
        for (batch, failure) in flights {
            assert_eq!(batcher.handle_failure(batch, &failure, second(0), &mut Counting(1)).items, []);
            assert_eq!(batcher.len(), 9);
        }
        assert!(batcher.failures() <= 1, "it is one outage");
        let now = batcher.retry_at().unwrap_or(second(0));
        let mut sent = Vec::new();
        while let Some(batch) = batcher.poll_batch(now) {
            assert!(batcher.poll_batch(now).is_none() || sent.len() >= 6, "what is sent again is sent alone");
            batcher.handle_done(&batch);
            sent.extend(batch.into_entries().map(|(request_id, _)| request_id.0));
        }
        assert_eq!(sent, (0..9).collect::<Vec<_>>());
    }
}

#[test]
fn after_the_failure_of_one_batch_the_other_one_is_not_followed() {
    for is_first in [true, false] {
        let mut batcher = batcher_with(&[1; 12]).pipelined();
        let [first, other] = [(); 2].map(|()| batcher.poll_batch(second(0)).unwrap());
        let (failed, done) = if is_first { (first, other) } else { (other, first) };
        let given_up = batcher.handle_failure(failed, &Failure::no_reply("cut"), second(0), &mut Counting(1));
        assert!(given_up.items.is_empty() && batcher.retry_at().is_none(), "one is still in flight");
        assert!(batcher.poll_batch(second(1)).is_none());
        batcher.handle_done(&done);
        assert!(batcher.failures() == 0 && batcher.poll_batch(second(0)).is_none(), "the pause has not ended");
        let again = batcher.poll_batch(batcher.retry_at().unwrap()).unwrap();
        assert_eq!(again.items.len(), 3);
        assert!(batcher.poll_batch(second(9)).is_none());
        batcher.handle_done(&again);
        assert!(batcher.poll_batch(second(9)).is_some() && batcher.poll_batch(second(9)).is_some());
    }
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
        failures in prop::collection::vec((0u8..4, any::<bool>()), 0..60),
        pipelines: bool,
    ) {
        let mut batcher = batcher_with(&[]);
        if pipelines {
            batcher = batcher.pipelined();
        }
        for (n, (weight, bad)) in items.iter().enumerate() {
            let deadlines = Batcher::<Item>::deadlines(second(0), Duration::from_secs(1 << 40));
            let deadlines = RetryDeadlines { unsent: deadlines.sent, ..deadlines };
            batcher.push(RequestId(n as u64), Item { weight: *weight, bad: *bad }, deadlines);
        }
        let mut outcomes = BTreeMap::new();
        let mut failures = failures.into_iter();
        let (mut now, mut flights) = (second(0), Vec::new());
        while !batcher.is_empty() {
            now = batcher.retry_at().unwrap_or(now);
            flights.extend(std::iter::from_fn(|| batcher.poll_batch(now)));
            let most = if pipelines { 2 } else { 1 };
            prop_assert!((1..=most).contains(&flights.len()));
            let (failure, is_second) = failures.next().unwrap_or((3, false));
            let batch = if is_second { flights.pop().unwrap() } else { flights.remove(0) };
            let failure = match failure {
                0 => Some(Failure::no_reply("cut")),
                1 => Some(Failure::reported("55P03", None, "locked")),
                2 => Some(Failure::not_sent("refused")),
                _ if batch.items.iter().any(|item| item.bad) => Some(Failure::reported("22021", None, "bad")),
                _ => None,
            };
            let (done, ok) = match failure {
                None => { batcher.handle_done(&batch); (batch, true) }
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
