//! Every case on every driver and runtime. The cases are in `tests/src/cases`.

use libtest_mimic::{Arguments, Trial};
use pm_tests::cases::{self, Memory, OnAsyncStd, OnSmol, OnTokio, Sqlx, Stack, TokioPostgres};

/// The stacks under test: each driver on each runtime, and behind a PgBouncer.
fn stacks() -> Vec<Stack> {
    vec![
        Stack::of::<TokioPostgres, OnTokio>(),
        Stack::of::<TokioPostgres, OnSmol>(),
        Stack::of::<TokioPostgres, OnAsyncStd>(),
        Stack::of::<Sqlx, OnTokio>(),
        Stack::of::<Sqlx, OnSmol>(),
        Stack::of::<Sqlx, OnAsyncStd>(),
        Stack::of::<Memory, OnTokio>(),
        Stack::of::<TokioPostgres, OnTokio>().behind_pooler(),
        Stack::of::<Sqlx, OnTokio>().behind_pooler(),
    ]
}

fn main() {
    let outages = stacks().into_iter().filter(|stack| stack.has_server() && !stack.is_pooled()).map(|stack| {
        let name = format!("a_killed_server_costs_no_job_and_ends_no_stream::{}", stack.name());
        Trial::test(name, move || {
            cases::a_killed_server_costs_no_job_and_ends_no_stream(stack);
            Ok(())
        })
    });
    let trials = stacks().into_iter().flat_map(|stack| {
        cases::all().into_iter().filter(move |case| case.fits(stack)).map(move |case| {
            let name = format!("{}::{}", case.name, stack.name());
            Trial::test(name, move || {
                case.run(stack);
                Ok(())
            })
        })
    });
    libtest_mimic::run(&Arguments::from_args(), trials.chain(outages).collect()).exit();
}
