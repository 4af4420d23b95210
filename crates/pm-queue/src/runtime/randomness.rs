//! Random bits for job ids, lease numbers and jitter.

use std::cell::RefCell;

/// A source of random bits for job ids, lease numbers and jitter.
pub trait Randomness: Send + Sync + 'static {
    /// Returns 64 random bits. They must be unpredictable enough that no two processes draw the same lease number.
    fn next_u64(&self) -> u64;
}

/// The operating system's randomness, of which each thread keeps up to 256 bytes: asking for every number would take a
/// fifth of the client's time in bulk enqueues.
///
/// A process that was forked asks again. A snapshot of a whole machine that is resumed twice does not.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemRandomness;

impl Randomness for SystemRandomness {
    fn next_u64(&self) -> u64 {
        BATCH.with_borrow_mut(RandomBatch::next)
    }
}

thread_local! {
    static BATCH: RefCell<RandomBatch> = const { RefCell::new(RandomBatch { numbers: [0; 32], left: 0, process: 0 }) };
}

/// Random numbers that were drawn together, each of which is used once.
struct RandomBatch {
    numbers: [u64; 32],
    left: usize,
    /// The process that has drawn them. One that was forked from it must not use them too.
    process: u32,
}

impl RandomBatch {
    fn next(&mut self) -> u64 {
        let process = std::process::id();
        if self.left == 0 || self.process != process {
            let mut bytes = [0; size_of::<[u64; 32]>()];
            getrandom::fill(&mut bytes).expect("every supported system provides random bytes");
            let (numbers, _) = bytes.as_chunks();
            self.numbers = std::array::from_fn(|n| u64::from_ne_bytes(numbers[n]));
            (self.left, self.process) = (self.numbers.len(), process);
        }
        self.left -= 1;
        self.numbers[self.left]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_is_used_once() {
        let draw = || (0..100).map(|_| SystemRandomness.next_u64()).collect::<Vec<_>>();
        let mut numbers = draw();
        numbers.extend(std::thread::spawn(draw).join().unwrap());
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), 200);
    }

    #[test]
    fn a_forked_process_draws_numbers_of_its_own() {
        let mut parent = RandomBatch { numbers: [0; 32], left: 0, process: 0 };
        parent.next();
        let mut child = RandomBatch { process: parent.process.wrapping_add(1), ..parent };
        assert_ne!(parent.next(), child.next());
    }
}
