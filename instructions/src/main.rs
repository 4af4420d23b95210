//! Runs a hot path of the core a number of times, for `scripts/instructions`, which counts how many instructions it
//! takes.
//!
//! Everything is prepared as often as the path can be run at most, so that two runs of this program differ only by the
//! path. Nothing depends on time, randomness or the environment.

mod enqueue;
mod work;

use pm_core::machine::{Entropy, Request};
use std::process::ExitCode;

/// How often a path can be run.
const MOST: usize = 3;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (path, times) = match arguments[..] {
        [path, times] => (path, times.parse().unwrap_or(MOST + 1)),
        _ => ("", 0),
    };
    match path {
        _ if times > MOST => usage(),
        "claim-500" => run(times, work::before_claim, work::claim),
        "settle-500" => run(times, work::before_settle, work::settle),
        "enqueue-1" => run(times, || enqueue::before(1), enqueue::enqueue),
        "enqueue-1000" => run(times, || enqueue::before(1_000), enqueue::enqueue),
        _ => usage(),
    }
}

fn usage() -> ExitCode {
    eprintln!("usage: pm-instructions claim-500|settle-500|enqueue-1|enqueue-1000 TIMES, at most {MOST}");
    ExitCode::from(2)
}

fn run<T>(times: usize, prepare: impl Fn() -> T, path: impl Fn(&mut T)) -> ExitCode {
    let mut prepared: Vec<T> = (0..MOST).map(|_| prepare()).collect();
    for state in &mut prepared[..times] {
        path(state);
    }
    // Dropping a state takes another number of instructions after the path than before it.
    std::mem::forget(prepared);
    ExitCode::SUCCESS
}

/// Encodes the parameters of a request, as a driver does.
fn encode(request: &impl Request) {
    let mut encoded = bytes::BytesMut::new();
    for param in request.plan().params {
        param.encode(&mut encoded).expect("nothing here is too long");
    }
    std::hint::black_box(encoded);
}

/// Always the same bits.
struct Fixed;

impl Entropy for Fixed {
    fn next_u64(&mut self) -> u64 {
        0x9E37_79B9_7F4A_7C15
    }
}
