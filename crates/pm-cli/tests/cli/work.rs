//! `pm work`

use crate::serving::{free_address, probe};
use crate::support::Fixture;
use rustix::process::Signal;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Lines, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

/// A running `pm work` that prints JSON.
pub(crate) struct Working {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Working {
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Working { child, lines }
    }

    pub(crate) fn next(&mut self) -> Value {
        let Some(line) = self.lines.next() else {
            let mut stderr = String::new();
            std::io::Read::read_to_string(&mut self.child.stderr.take().unwrap(), &mut stderr).unwrap();
            panic!("it ended: {stderr}");
        };
        serde_json::from_str(&line.unwrap()).unwrap()
    }

    pub(crate) fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    fn signal(&self, signal: Signal) {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), signal).unwrap();
    }

    pub(crate) fn end(mut self) -> (i32, String) {
        let rest: Vec<_> = self.lines.by_ref().map(Result::unwrap).collect();
        assert_eq!(rest, Vec::<String>::new());
        let output = self.child.wait_with_output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    }
}

fn work(fixture: &Fixture, more: &[&str], script: &str) -> Working {
    let arguments = [&["work", "mail", "--ndjson"], more, &["--", "sh", "-c", script]].concat();
    Working::start(fixture.command().args(arguments))
}

/// Waits until the file exists.
pub(crate) fn await_file(path: &Path) {
    for _ in 0..1_000 {
        if path.exists() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("{} was never created", path.display());
}

fn job(fixture: &Fixture, id: &str) -> Value {
    fixture.pm(&["job", "show", id, "--json"]).json()
}

#[test]
fn a_command_gets_the_payload_and_its_exit_code_decides() {
    let fixture = Fixture::with_queues(&["mail"]);
    assert_eq!(fixture.pm(&["queue", "set", "mail", "--backoff", "1h"]).status, 0);
    let script =
        r#"read code; echo "$PM_JOB_ID $PM_ATTEMPT $PM_QUEUE" >> "$HOME/seen"; echo "why $code" >&2; exit "$code""#;
    let mut working = work(&fixture, &["--hard-codes", "65,100-110"], script);
    for (code, result, status) in [
        ("0", "finished", "finished"),
        ("75", "soft_failed", "pending"),
        ("1", "soft_failed", "pending"),
        ("65", "hard_failed", "failed"),
        ("104", "hard_failed", "failed"),
    ] {
        let id = fixture.add(&["mail", code]);
        let worked = working.next();
        let reason = if code == "0" { json!(null) } else { json!(format!("exit code {code}: why {code}")) };
        let expected = json!({
            "id": id, "attempt": 1, "result": result, "code": code.parse::<i32>().unwrap(), "reason": reason,
        });
        assert_eq!(worked, expected);
        let job = job(&fixture, &id);
        assert_eq!((&job["status"], &job["reason"]), (&json!(status), &reason));
        let seen = std::fs::read_to_string(fixture.home.path().join("seen")).unwrap();
        assert_eq!(seen.lines().last().unwrap(), format!("{id} 1 mail"));
    }
    working.terminate();
    let (status, stderr) = working.end();
    assert_eq!((status, stderr.as_str()), (0, "why 0\nwhy 75\nwhy 1\nwhy 65\nwhy 104\n"));
}

#[test]
fn payloads_are_complete_and_need_not_be_read() {
    let fixture = Fixture::with_queues(&["mail"]);
    let mut working = work(&fixture, &["-c", "2"], "if [ \"$PM_ATTEMPT\" = 1 ]; then wc -c > \"$HOME/$PM_JOB_ID\"; fi");
    let bytes = vec![0; 3_000_000];
    let added = fixture.pm_reading(&["job", "add", "mail", "-", "--codec", "raw"], &bytes);
    let id = added.stdout.trim_end();
    assert_eq!(working.next()["result"], "finished");
    let count = std::fs::read_to_string(fixture.home.path().join(id)).unwrap();
    assert_eq!(count.trim(), "3000000");
    working.terminate();
    assert_eq!(working.end(), (0, String::new()));
    let mut working = work(&fixture, &[], "exit 0");
    fixture.pm(&["job", "restart", id]);
    assert_eq!(working.next()["result"], "finished");
    working.terminate();
    assert_eq!(working.end().0, 0);
}

#[test]
fn sigterm_lets_commands_finish_and_starts_none() {
    let fixture = Fixture::with_queues(&["mail"]);
    let script = "echo > \"$HOME/began\"; while [ ! -e \"$HOME/go\" ]; do sleep 0.02; done";
    let mut working = work(&fixture, &[], script);
    let first = fixture.add(&["mail", "1"]);
    await_file(&fixture.home.path().join("began"));
    let second = fixture.add(&["mail", "2"]);
    working.terminate();
    let mut stderr = BufReader::new(working.child.stderr.take().unwrap()).lines();
    assert!(stderr.next().unwrap().unwrap().starts_with("Waiting for 1 job"));
    std::fs::write(fixture.home.path().join("go"), "").unwrap();
    assert_eq!(working.next()["id"], json!(first));
    assert_eq!(working.end().0, 0);
    let states = [first, second].map(|id| job(&fixture, &id)["status"].clone());
    assert_eq!(states, ["finished", "pending"]);
}

#[test]
fn the_first_signal_lets_commands_finish_even_after_an_error() {
    let fixture = Fixture::with_queues(&["mail"]);
    let script = "read n; [ $n = 1 ] && exit; echo > \"$HOME/began\"; while [ ! -e \"$HOME/go\" ]; do sleep 0.02; done";
    let mut command = fixture.command();
    let command = command.args(["work", "mail", "--ndjson", "-c", "2", "--", "sh", "-c", script]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    // The pipe is closed, so writing the first line is an error.
    drop(child.stdout.take());
    let slow = fixture.add(&["mail", "2"]);
    await_file(&fixture.home.path().join("began"));
    let quick = fixture.add(&["mail", "1"]);
    while job(&fixture, &quick)["status"] != "finished" {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    std::thread::sleep(std::time::Duration::from_millis(200));
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), Signal::INT).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(200));
    std::fs::write(fixture.home.path().join("go"), "").unwrap();
    child.wait().unwrap();
    assert_eq!(job(&fixture, &slow)["status"], "finished");
}

#[test]
fn a_hangup_leaves_no_commands_behind() {
    let fixture = Fixture::with_queues(&["mail"]);
    let mut working = work(&fixture, &[], "echo > \"$HOME/began\"; sleep 1000 & wait");
    let id = fixture.add(&["mail", "1"]);
    await_file(&fixture.home.path().join("began"));
    working.signal(Signal::HUP);
    let mut stderr = BufReader::new(working.child.stderr.take().unwrap()).lines();
    assert!(stderr.next().unwrap().unwrap().starts_with("Waiting for 1 job"));
    working.signal(Signal::HUP);
    assert_eq!(working.next()["result"], "released");
    assert_eq!(working.end().0, 0);
    assert_eq!(job(&fixture, &id)["status"], "pending");
}

#[test]
fn ignored_hangups_stay_ignored() {
    let fixture = Fixture::with_queues(&["mail"]);
    let command = fixture.command();
    let pm = command.get_program().to_owned();
    let mut shell = Command::new("sh");
    shell.args(["-c", "trap '' HUP; exec \"$0\" work mail --ndjson -- true"]).arg(pm);
    shell.env_clear().envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let mut working = Working::start(&mut shell);
    fixture.add(&["mail", "1"]);
    assert_eq!(working.next()["result"], "finished");
    working.signal(Signal::HUP);
    fixture.add(&["mail", "2"]);
    assert_eq!(working.next()["result"], "finished");
    working.terminate();
    assert_eq!(working.end(), (0, String::new()));
}

#[test]
fn a_second_signal_kills_commands_and_releases_their_jobs() {
    let fixture = Fixture::with_queues(&["mail"]);
    let mut working = work(&fixture, &[], "echo > \"$HOME/began\"; sleep 1000 & wait");
    let id = fixture.add(&["mail", "1"]);
    await_file(&fixture.home.path().join("began"));
    working.terminate();
    let mut stderr = BufReader::new(working.child.stderr.take().unwrap()).lines();
    assert!(stderr.next().unwrap().unwrap().starts_with("Waiting for 1 job"));
    working.terminate();
    assert_eq!(working.next()["result"], "released");
    assert_eq!(working.end().0, 0);
    let job = job(&fixture, &id);
    assert_eq!((&job["status"], &job["retries"]), (&json!("pending"), &json!(0)));
}

#[test]
fn leases_are_extended_and_a_lost_lease_kills_the_command() {
    let fixture = Fixture::with_queues(&["mail"]);
    assert_eq!(fixture.pm(&["queue", "set", "mail", "--lease", "500ms", "--backoff", "1h"]).status, 0);
    let mut working = work(&fixture, &[], "sleep 1.5");
    let id = fixture.add(&["mail", "1"]);
    let worked = working.next();
    assert_eq!((&worked["result"], &worked["attempt"]), (&json!("finished"), &json!(1)), "{worked}");
    working.terminate();
    assert_eq!(working.end().0, 0);
    let mut working = work(&fixture, &[], "echo > \"$HOME/began\"; sleep 1000");
    fixture.pm(&["job", "restart", &id]);
    await_file(&fixture.home.path().join("began"));
    assert_eq!(fixture.pm(&["job", "fail", &id, "-m", "enough"]).status, 0);
    assert_eq!(working.next()["result"], "lost");
    working.terminate();
    assert_eq!(working.end().0, 0);
    assert_eq!(job(&fixture, &id)["reason"], "enough");
}

#[test]
fn invalid_arguments_are_refused() {
    let fixture = Fixture::with_queues(&["mail"]);
    fixture.pm(&["work", "male", "--", "true"]).assert_refused(1, &["queue \"male\" not found"]);
    fixture.pm(&["work", "mail"]).assert_refused(2, &["COMMAND"]);
    fixture.pm(&["work", "mail", "--concurrency", "0", "--", "true"]).assert_refused(2, &["1..=1000"]);
    fixture.pm(&["work", "mail", "--hard-codes", "x", "--", "true"]).assert_refused(2, &["65,100-110"]);
    let id = fixture.add(&["mail", "1"]);
    let ran = fixture.pm(&["work", "mail", "--", "./no/such/program"]);
    ran.assert_refused(2, &["cannot run ./no/such/program", "released"]);
    let job = job(&fixture, &id);
    assert_eq!((&job["status"], &job["retries"]), (&json!("pending"), &json!(0)));
}

#[test]
fn the_readable_output_reports_only_failures() {
    let fixture = Fixture::with_queues(&["mail"]);
    let good = fixture.add(&["mail", "0"]);
    let bad = fixture.add(&["mail", "7"]);
    let script = "read code; if [ $code = 7 ]; then kill -TERM $PPID; kill -9 $$; fi; exit $code";
    let ran = fixture.pm(&["work", "mail", "--", "sh", "-c", script]);
    let expected =
        format!("Working on queue \"mail\"; Ctrl-C stops it.\nJob {bad}, attempt 1: soft failed: killed by signal 9\n");
    assert_eq!((ran.status, ran.stdout.as_str()), (0, ""), "{}", ran.stderr);
    let without_waiting: String =
        ran.stderr.lines().filter(|line| !line.starts_with("Waiting")).map(|line| format!("{line}\n")).collect();
    assert_eq!(without_waiting, expected);
    assert_eq!(job(&fixture, &good)["status"], "finished");
}

/// Waits until the process has exited; it may still be a zombie.
fn await_exit(process: &str) {
    let stat = format!("/proc/{}/stat", process.trim());
    let has_exited =
        || std::fs::read_to_string(&stat).map_or(true, |stat| stat.rsplit(')').next().unwrap().starts_with(" Z"));
    for _ in 0..1_000 {
        if has_exited() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("process {process} never exited");
}

/// The job runs again when its lease has expired; a surviving command would run at the same time.
#[test]
fn commands_die_with_a_worker_that_is_killed() {
    kill_worker(|worker| rustix::process::kill_process(worker, Signal::KILL).unwrap());
}

/// As a shell or a supervisor may do it.
#[test]
fn commands_die_with_a_worker_that_is_killed_with_its_process_group() {
    kill_worker(|worker| rustix::process::kill_process_group(worker, Signal::KILL).unwrap());
}

/// Runs a command that ignores signals, kills its worker, the leader of a process group, and waits for the end of the
/// command and its child.
fn kill_worker(kill: impl FnOnce(rustix::process::Pid)) {
    let fixture = Fixture::with_queues(&["mail"]);
    let script = "sleep 1000 & echo $! > \"$HOME/child\"; echo $$ > \"$HOME/parent\"; trap '' TERM HUP INT; wait";
    let mut command = fixture.command();
    command.args(["work", "mail", "--ndjson", "--", "sh", "-c", script]).process_group(0);
    let mut working = Working::start(&mut command);
    fixture.add(&["mail", "1"]);
    await_file(&fixture.home.path().join("parent"));
    kill(rustix::process::Pid::from_child(&working.child));
    working.child.wait().unwrap();
    for name in ["child", "parent"] {
        await_exit(&std::fs::read_to_string(fixture.home.path().join(name)).unwrap());
    }
}

/// The worker may be killed after it has started a command and before it has sent the guard its process id. The guard
/// runs alone here, so that it stays in that state.
#[test]
fn a_command_that_was_being_started_dies_with_its_worker() {
    let starting = "?PM_JOB_ID=a\tPM_ATTEMPT=3\n";
    for (lines, dies) in [
        (starting.to_owned(), true),
        (starting.replace('3', "2"), false),
        (starting.replace("=a", "=b"), false),
        (format!("{starting}!\n"), false),
        (format!("{starting}+2147483647\n"), false),
    ] {
        let mut command = Command::new("sleep");
        command.arg("1000").envs([("PM_JOB_ID", "a"), ("PM_ATTEMPT", "3")]).process_group(0);
        let mut command = command.spawn().unwrap();
        let mut guard = Command::new(env!("CARGO_BIN_EXE_pm"));
        let mut guard = guard.arg("guard-commands").stdin(Stdio::piped()).spawn().unwrap();
        guard.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
        let guarded = guard.wait().unwrap();
        let has_ended = dies.then(|| command.wait().unwrap().signal());
        command.kill().unwrap();
        let ended = command.wait().unwrap();
        assert!(guarded.success());
        assert_eq!(has_ended, dies.then_some(Some(9)), "{lines}: {ended}");
    }
}

#[test]
fn commands_die_with_a_worker_that_is_killed_after_its_guard() {
    kill_guard_and_worker(false);
}

#[test]
fn the_guard_restarts_although_the_file_of_the_program_has_been_deleted() {
    kill_guard_and_worker(true);
}

fn kill_guard_and_worker(is_file_deleted: bool) {
    let fixture = Fixture::with_queues(&["mail"]);
    let script = "read n; echo $$ > \"$HOME/new.$n\"; mv \"$HOME/new.$n\" \"$HOME/began.$n\"; trap '' TERM HUP INT; sleep 1000 & wait";
    let program = fixture.home.path().join("pm");
    std::fs::copy(env!("CARGO_BIN_EXE_pm"), &program).unwrap();
    let mut command = Command::new(&program);
    command.env_clear().envs(fixture.command().get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.args(["work", "mail", "--ndjson", "--concurrency", "2", "--", "sh", "-c", script]);
    let mut working = Working::start(&mut command);
    let began = |n: u32| fixture.home.path().join(format!("began.{n}"));
    fixture.add(&["mail", "1"]);
    await_file(&began(1));
    let is_guard = |child: &u32| {
        std::fs::read_to_string(format!("/proc/{child}/cmdline")).is_ok_and(|line| line.contains("guard-commands"))
    };
    // Any thread may have started it.
    let tasks = std::fs::read_dir(format!("/proc/{}/task", working.child.id())).unwrap();
    let threads = tasks.map(|task| task.unwrap().file_name().into_string().unwrap());
    let of_thread = |thread: String| {
        let path = format!("/proc/{}/task/{thread}/children", working.child.id());
        let all = std::fs::read_to_string(path).unwrap_or_default();
        all.split_whitespace().map(|child| child.parse().unwrap()).collect::<Vec<u32>>()
    };
    let guards: Vec<u32> = threads.flat_map(of_thread).filter(is_guard).collect();
    assert_eq!(guards.len(), 1, "{guards:?}");
    rustix::process::kill_process(rustix::process::Pid::from_raw(guards[0] as i32).unwrap(), Signal::KILL).unwrap();
    await_exit(&guards[0].to_string());
    if is_file_deleted {
        std::fs::remove_file(&program).unwrap();
    }
    fixture.add(&["mail", "2"]);
    await_file(&began(2));
    working.signal(Signal::KILL);
    working.child.wait().unwrap();
    for n in 1..=2 {
        await_exit(&std::fs::read_to_string(began(n)).unwrap());
    }
}

/// `timeout` moves its command to a new process group, as do `sudo` and `setsid`.
#[test]
fn processes_that_left_the_group_of_their_command_die_with_it() {
    let script = "timeout 1000 sh -c 'echo $$ > \"$HOME/inner.new\"; mv \"$HOME/inner.new\" \"$HOME/inner\"; exec sleep 1000'; true";
    for way in ["killed", "signalled twice", "after the grace"] {
        let fixture = Fixture::with_queues(&["mail"]);
        let grace: &[&str] = if way == "after the grace" { &["--grace", "0s"] } else { &[] };
        let mut working = work(&fixture, grace, script);
        fixture.add(&["mail", "1"]);
        await_file(&fixture.home.path().join("inner"));
        match way {
            "killed" => working.signal(Signal::KILL),
            "signalled twice" => {
                working.terminate();
                let mut stderr = BufReader::new(working.child.stderr.take().unwrap()).lines();
                assert!(stderr.next().unwrap().unwrap().starts_with("Waiting for 1 job"));
                working.terminate();
            }
            _ => working.terminate(),
        }
        working.child.wait().unwrap();
        await_exit(&std::fs::read_to_string(fixture.home.path().join("inner")).unwrap());
    }
}

#[test]
fn a_command_that_outlasts_the_grace_is_ended_and_its_job_released() {
    let fixture = Fixture::with_queues(&["mail"]);
    for (grace, script) in [
        ("100ms", "trap 'echo > \"$HOME/asked\"; exit 0' TERM; echo > \"$HOME/began\"; sleep 1000 & wait"),
        ("0s", "trap '' TERM; echo > \"$HOME/began\"; sleep 1000 & wait; wait"),
    ] {
        let began = fixture.home.path().join("began");
        let id = fixture.add(&["mail", "1"]);
        let mut working = work(&fixture, &["--grace", grace], script);
        await_file(&began);
        working.terminate();
        assert_eq!(working.next()["result"], "released");
        let (status, stderr) = working.end();
        assert_eq!(status, 0, "{stderr}");
        assert!(stderr.contains(&format!("for up to {grace}")), "{stderr}");
        let job = job(&fixture, &id);
        assert_eq!((&job["status"], &job["retries"]), (&json!("pending"), &json!(0)));
        std::fs::remove_file(began).unwrap();
        fixture.pm(&["job", "done", &id]);
    }
    assert!(fixture.home.path().join("asked").exists(), "SIGTERM comes first");
}

/// SIGTERM reaches the command of a cancelled job, and SIGKILL one that ignores it. The job has failed.
#[test]
fn the_command_of_a_cancelled_job_is_ended() {
    let fixture = Fixture::with_queues(&["mail"]);
    for script in [
        "trap 'exit 0' TERM; echo > \"$HOME/began\"; sleep 1000 & wait",
        "trap '' TERM; echo > \"$HOME/began\"; sleep 1000 & wait; wait",
    ] {
        let began = fixture.home.path().join("began");
        let id = fixture.add(&["mail", "1"]);
        let mut working = work(&fixture, &[], script);
        await_file(&began);
        let cancelled = fixture.pm(&["job", "cancel", &id, "-m", "no longer wanted"]);
        assert_eq!(cancelled.status, 0, "{}", cancelled.stderr);
        assert!(cancelled.stderr.contains("asked to stop"), "{}", cancelled.stderr);
        assert_eq!(working.next()["result"], "cancelled");
        working.terminate();
        assert_eq!(working.end().0, 0);
        let job = job(&fixture, &id);
        assert_eq!((&job["status"], &job["reason"]), (&json!("failed"), &json!("no longer wanted")));
        std::fs::remove_file(began).unwrap();
    }
}

#[test]
fn a_command_that_takes_longer_than_its_timeout_is_ended_and_its_job_soft_fails() {
    let fixture = Fixture::with_queues(&["mail"]);
    fixture.pm(&["queue", "set", "mail", "--retries", "0"]);
    let id = fixture.add(&["mail", "1"]);
    let mut working = work(&fixture, &["--timeout", "300ms"], "sleep 1000");
    let worked = working.next();
    assert_eq!((&worked["result"], &worked["reason"]), (&json!("soft_failed"), &json!("timed out after 300ms")));
    working.terminate();
    assert_eq!(working.end().0, 0);
    let job = job(&fixture, &id);
    assert_eq!((&job["status"], &job["reason"]), (&json!("failed"), &json!("timed out after 300ms")));
    let refused = fixture.pm(&["work", "mail", "--timeout", "0s", "--", "true"]);
    assert!(refused.status == 2 && refused.stderr.contains("longer than zero"), "{}", refused.stderr);
}

#[test]
fn an_outage_is_reported_and_does_not_prevent_a_worker_from_stopping() {
    let mut server = pm_sandbox::Server::start_with(pm_sandbox::ServerOptions::default().durable(true)).unwrap();
    let home = crate::support::Home::new();
    let pm = |arguments: &[&str]| {
        let output = home.command().env("PM_DATABASE_URL", server.url()).args(arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    pm(&["db", "migrate"]);
    pm(&["queue", "create", "mail"]);
    let address = free_address();
    let mut command = home.command();
    command.env("PM_DATABASE_URL", server.url()).args(["work", "mail", "--ndjson", "--health", &address, "--"]);
    let mut working = Working::start(command.args(["sh", "-c", "echo > \"$HOME/began\"; sleep 1000"]));
    pm(&["job", "add", "mail", "1"]);
    await_file(&home.path().join("began"));
    assert_eq!(["/healthz", "/readyz", "/else"].map(|path| probe(&address, path)), ["200", "200", "404"]);

    let mut stderr = BufReader::new(working.child.stderr.take().unwrap()).lines();
    let mut next_line = || {
        let line = stderr.next().unwrap().unwrap();
        println!("{line}");
        line
    };
    server.kill();
    assert!(next_line().starts_with("The database is unreachable"));
    assert_eq!(["/healthz", "/readyz"].map(|path| probe(&address, path)), ["200", "503"]);
    server.restart().unwrap();
    assert!(next_line().starts_with("The database is reachable again after"));
    assert_eq!(probe(&address, "/readyz"), "200");

    server.kill();
    working.terminate();
    while !next_line().starts_with("Waiting for 1 job") {}
    working.terminate();
    while !next_line().contains("1 job could not be released") {}
    assert!(next_line().contains("run again when their leases have expired"));
    assert_eq!(working.child.wait().unwrap().code(), Some(3));
}

/// A worker that cannot claim reports that immediately, on stderr and to health checks.
#[test]
fn a_worker_that_can_no_longer_claim_reports_it_and_is_not_ready() {
    let fixture = Fixture::with_queues(&["mail"]);
    let address = free_address();
    let mut working = work(&fixture, &["--health", &address], "exit 0");
    fixture.add(&["mail", "1"]);
    assert_eq!(working.next()["result"], "finished");
    assert_eq!(probe(&address, "/readyz"), "200");
    let refuse = "create function public.refuse() returns trigger language plpgsql as
                  $$ begin raise exception 'no claims today'; end $$;
                  create trigger refuse before update on pm.job execute function public.refuse()";
    fixture.database.execute(refuse).unwrap();
    fixture.add(&["mail", "2"]);
    let mut stderr = BufReader::new(working.child.stderr.take().unwrap()).lines();
    let line = stderr.next().unwrap().unwrap();
    assert!(line.starts_with("Error: ") && line.contains("no claims today"), "{line}");
    while probe(&address, "/readyz") != "503" {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    fixture.database.execute("drop trigger refuse on pm.job").unwrap();
    assert_eq!(working.next()["result"], "finished", "it claims again");
    while probe(&address, "/readyz") != "200" {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    working.terminate();
    while let Some(Ok(_)) = stderr.next() {}
    assert_eq!(working.child.wait().unwrap().code(), Some(3), "the exit code reports the earlier error");
}

/// As in a container without an init process.
#[test]
fn process_one_forwards_signals_and_reaps_orphans() {
    let fixture = Fixture::with_queues(&["mail"]);
    let command = fixture.command();
    let mut unshare = Command::new("unshare");
    if !rustix::process::geteuid().is_root() {
        unshare.args(["--user", "--map-root-user"]);
    }
    unshare.args(["--pid", "--fork", "--mount-proc", "--kill-child"]);
    unshare.arg(command.get_program());
    unshare.env_clear().envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let script = "(sleep 0.05 & echo > \"$HOME/orphan\") & wait; kill -TERM 1; cat /proc/[0-9]*/stat; sleep 0.5; \
                  for stat in /proc/[0-9]*/stat; do read -r line < $stat && echo \"$line\" >> \"$HOME/stats\"; done";
    unshare.args(["work", "mail", "--ndjson", "--", "sh", "-c", script]);
    fixture.add(&["mail", "1"]);
    let output = unshare.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let stats = std::fs::read_to_string(fixture.home.path().join("stats")).unwrap();
    assert!(stats.lines().any(|line| line.starts_with("1 (pm)")), "{stats}");
    assert!(!stats.contains(") Z "), "{stats}");
    // A terminal's signals to the group of process 1 reach no other process: they would receive them twice.
    let groups = stats.lines().filter_map(|line| line.split_once(") ")?.1.split(' ').nth(2));
    let (first, others): (Vec<_>, Vec<_>) = groups.enumerate().partition(|(index, _)| *index == 0);
    assert!(others.iter().all(|(_, group)| *group != first[0].1), "{stats}");
}
