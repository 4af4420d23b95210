//! `pm work`

use crate::support::Place;
use rustix::process::Signal;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Lines};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

/// A `pm work` that runs, and tells what it does.
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

fn work(place: &Place, more: &[&str], script: &str) -> Working {
    let arguments = [&["work", "mail", "--ndjson"], more, &["--", "sh", "-c", script]].concat();
    Working::start(place.command().args(arguments))
}

/// Waits until the file is there.
pub(crate) fn await_file(path: &Path) {
    for _ in 0..1_000 {
        if path.exists() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("{} never came", path.display());
}

fn job(place: &Place, id: &str) -> Value {
    place.pm(&["job", "show", id, "--json"]).json()
}

#[test]
fn a_command_gets_the_payload_and_its_exit_code_decides() {
    let place = Place::with_queues(&["mail"]);
    assert_eq!(place.pm(&["queue", "set", "mail", "--backoff", "1h"]).status, 0);
    let script =
        r#"read code; echo "$PM_JOB_ID $PM_ATTEMPT $PM_QUEUE" >> "$HOME/seen"; echo "why $code" >&2; exit "$code""#;
    let mut working = work(&place, &["--hard-codes", "65,100-110"], script);
    for (code, result, status) in [
        ("0", "finished", "finished"),
        ("75", "soft_failed", "pending"),
        ("1", "soft_failed", "pending"),
        ("65", "hard_failed", "failed"),
        ("104", "hard_failed", "failed"),
    ] {
        let id = place.add(&["mail", code]);
        let worked = working.next();
        let reason = if code == "0" { json!(null) } else { json!(format!("exit code {code}: why {code}")) };
        let expected = json!({
            "id": id, "attempt": 1, "result": result, "code": code.parse::<i32>().unwrap(), "reason": reason,
        });
        assert_eq!(worked, expected);
        let job = job(&place, &id);
        assert_eq!((&job["status"], &job["reason"]), (&json!(status), &reason));
        let seen = std::fs::read_to_string(place.home.path().join("seen")).unwrap();
        assert_eq!(seen.lines().last().unwrap(), format!("{id} 1 mail"));
    }
    working.terminate();
    let (status, stderr) = working.end();
    assert_eq!((status, stderr.as_str()), (0, "why 0\nwhy 75\nwhy 1\nwhy 65\nwhy 104\n"));
}

#[test]
fn payloads_come_whole_and_need_not_be_read() {
    let place = Place::with_queues(&["mail"]);
    let mut working = work(&place, &["-c", "2"], "if [ \"$PM_ATTEMPT\" = 1 ]; then wc -c > \"$HOME/$PM_JOB_ID\"; fi");
    let bytes = vec![0; 3_000_000];
    let added = place.pm_reading(&["job", "add", "mail", "-", "--codec", "raw"], &bytes);
    let id = added.stdout.trim_end();
    assert_eq!(working.next()["result"], "finished");
    let count = std::fs::read_to_string(place.home.path().join(id)).unwrap();
    assert_eq!(count.trim(), "3000000");
    working.terminate();
    assert_eq!(working.end(), (0, String::new()));
    let mut working = work(&place, &[], "exit 0");
    place.pm(&["job", "restart", id]);
    assert_eq!(working.next()["result"], "finished");
    working.terminate();
    assert_eq!(working.end().0, 0);
}

#[test]
fn sigterm_lets_commands_finish_and_begins_none() {
    let place = Place::with_queues(&["mail"]);
    let script = "echo > \"$HOME/began\"; while [ ! -e \"$HOME/go\" ]; do sleep 0.02; done";
    let mut working = work(&place, &[], script);
    let first = place.add(&["mail", "1"]);
    await_file(&place.home.path().join("began"));
    let second = place.add(&["mail", "2"]);
    working.terminate();
    let mut stderr = BufReader::new(working.child.stderr.take().unwrap()).lines();
    assert!(stderr.next().unwrap().unwrap().starts_with("Waiting for 1 job"));
    std::fs::write(place.home.path().join("go"), "").unwrap();
    assert_eq!(working.next()["id"], json!(first));
    assert_eq!(working.end().0, 0);
    let states = [first, second].map(|id| job(&place, &id)["status"].clone());
    assert_eq!(states, ["finished", "pending"]);
}

#[test]
fn the_first_signal_lets_commands_finish_although_the_work_has_ended_with_an_error() {
    let place = Place::with_queues(&["mail"]);
    let script = "read n; [ $n = 1 ] && exit; echo > \"$HOME/began\"; while [ ! -e \"$HOME/go\" ]; do sleep 0.02; done";
    let mut command = place.command();
    let command = command.args(["work", "mail", "--ndjson", "-c", "2", "--", "sh", "-c", script]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    // Nobody reads what it tells: its first line is an error.
    drop(child.stdout.take());
    let slow = place.add(&["mail", "2"]);
    await_file(&place.home.path().join("began"));
    let quick = place.add(&["mail", "1"]);
    while job(&place, &quick)["status"] != "finished" {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    std::thread::sleep(std::time::Duration::from_millis(200));
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), Signal::INT).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(200));
    std::fs::write(place.home.path().join("go"), "").unwrap();
    child.wait().unwrap();
    assert_eq!(job(&place, &slow)["status"], "finished");
}

#[test]
fn a_hangup_is_no_death_that_leaves_commands_behind() {
    let place = Place::with_queues(&["mail"]);
    let mut working = work(&place, &[], "echo > \"$HOME/began\"; sleep 1000 & wait");
    let id = place.add(&["mail", "1"]);
    await_file(&place.home.path().join("began"));
    working.signal(Signal::HUP);
    let mut stderr = BufReader::new(working.child.stderr.take().unwrap()).lines();
    assert!(stderr.next().unwrap().unwrap().starts_with("Waiting for 1 job"));
    working.signal(Signal::HUP);
    assert_eq!(working.next()["result"], "released");
    assert_eq!(working.end().0, 0);
    assert_eq!(job(&place, &id)["status"], "pending");
}

#[test]
fn who_was_told_to_ignore_hangups_does() {
    let place = Place::with_queues(&["mail"]);
    let command = place.command();
    let pm = command.get_program().to_owned();
    let mut shell = Command::new("sh");
    shell.args(["-c", "trap '' HUP; exec \"$0\" work mail --ndjson -- true"]).arg(pm);
    shell.env_clear().envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let mut working = Working::start(&mut shell);
    place.add(&["mail", "1"]);
    assert_eq!(working.next()["result"], "finished");
    working.signal(Signal::HUP);
    place.add(&["mail", "2"]);
    assert_eq!(working.next()["result"], "finished");
    working.terminate();
    assert_eq!(working.end(), (0, String::new()));
}

#[test]
fn a_second_signal_kills_commands_and_gives_their_jobs_back() {
    let place = Place::with_queues(&["mail"]);
    let mut working = work(&place, &[], "echo > \"$HOME/began\"; sleep 1000 & wait");
    let id = place.add(&["mail", "1"]);
    await_file(&place.home.path().join("began"));
    working.terminate();
    let mut stderr = BufReader::new(working.child.stderr.take().unwrap()).lines();
    assert!(stderr.next().unwrap().unwrap().starts_with("Waiting for 1 job"));
    working.terminate();
    assert_eq!(working.next()["result"], "released");
    assert_eq!(working.end().0, 0);
    let job = job(&place, &id);
    assert_eq!((&job["status"], &job["retries"]), (&json!("pending"), &json!(0)));
}

#[test]
fn leases_are_kept_alive_and_a_lost_one_kills_the_command() {
    let place = Place::with_queues(&["mail"]);
    assert_eq!(place.pm(&["queue", "set", "mail", "--lease", "500ms", "--backoff", "1h"]).status, 0);
    let mut working = work(&place, &[], "sleep 1.5");
    let id = place.add(&["mail", "1"]);
    let worked = working.next();
    assert_eq!((&worked["result"], &worked["attempt"]), (&json!("finished"), &json!(1)), "{worked}");
    working.terminate();
    assert_eq!(working.end().0, 0);
    let mut working = work(&place, &[], "echo > \"$HOME/began\"; sleep 1000");
    place.pm(&["job", "restart", &id]);
    await_file(&place.home.path().join("began"));
    assert_eq!(place.pm(&["job", "fail", &id, "-m", "enough"]).status, 0);
    assert_eq!(working.next()["result"], "lost");
    working.terminate();
    assert_eq!(working.end().0, 0);
    assert_eq!(job(&place, &id)["reason"], "enough");
}

#[test]
fn what_cannot_work_is_refused() {
    let place = Place::with_queues(&["mail"]);
    place.pm(&["work", "male", "--", "true"]).assert_refused(1, &["queue \"male\" not found"]);
    place.pm(&["work", "mail"]).assert_refused(2, &["COMMAND"]);
    place.pm(&["work", "mail", "--concurrency", "0", "--", "true"]).assert_refused(2, &["1..=1000"]);
    place.pm(&["work", "mail", "--hard-codes", "x", "--", "true"]).assert_refused(2, &["65,100-110"]);
    let id = place.add(&["mail", "1"]);
    let ran = place.pm(&["work", "mail", "--", "./no/such/program"]);
    ran.assert_refused(2, &["cannot run ./no/such/program", "given back"]);
    let job = job(&place, &id);
    assert_eq!((&job["status"], &job["retries"]), (&json!("pending"), &json!(0)));
}

#[test]
fn people_are_told_of_failures_only() {
    let place = Place::with_queues(&["mail"]);
    let good = place.add(&["mail", "0"]);
    let bad = place.add(&["mail", "7"]);
    let script = "read code; if [ $code = 7 ]; then kill -TERM $PPID; kill -9 $$; fi; exit $code";
    let ran = place.pm(&["work", "mail", "--", "sh", "-c", script]);
    let expected =
        format!("Working on queue \"mail\"; Ctrl-C stops it.\nJob {bad}, attempt 1: soft failed: killed by signal 9\n");
    assert_eq!((ran.status, ran.stdout.as_str()), (0, ""), "{}", ran.stderr);
    let without_waiting: String =
        ran.stderr.lines().filter(|line| !line.starts_with("Waiting")).map(|line| format!("{line}\n")).collect();
    assert_eq!(without_waiting, expected);
    assert_eq!(job(&place, &good)["status"], "finished");
}

/// Waits until the process is gone, or a zombie that someone has yet to reap.
fn await_end(process: &str) {
    let stat = format!("/proc/{}/stat", process.trim());
    let is_gone =
        || std::fs::read_to_string(&stat).map_or(true, |stat| stat.rsplit(')').next().unwrap().starts_with(" Z"));
    for _ in 0..1_000 {
        if is_gone() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("process {process} never ended");
}

/// The job runs again when its lease has ended; a copy that went on would run beside it.
#[test]
fn commands_die_with_a_worker_that_is_killed() {
    let place = Place::with_queues(&["mail"]);
    let script = "sleep 1000 & echo $! > \"$HOME/child\"; echo $$ > \"$HOME/parent\"; trap '' TERM HUP INT; wait";
    let mut working = work(&place, &[], script);
    place.add(&["mail", "1"]);
    await_file(&place.home.path().join("parent"));
    working.signal(Signal::KILL);
    working.child.wait().unwrap();
    for name in ["child", "parent"] {
        await_end(&std::fs::read_to_string(place.home.path().join(name)).unwrap());
    }
}

#[test]
fn commands_die_with_a_worker_that_is_killed_after_its_guard() {
    let place = Place::with_queues(&["mail"]);
    let script = "read n; echo $$ > \"$HOME/new.$n\"; mv \"$HOME/new.$n\" \"$HOME/began.$n\"; trap '' TERM HUP INT; sleep 1000 & wait";
    let mut working = work(&place, &["--concurrency", "2"], script);
    let began = |n: u32| place.home.path().join(format!("began.{n}"));
    place.add(&["mail", "1"]);
    await_file(&began(1));
    let is_guard = |child: &u32| {
        std::fs::read_to_string(format!("/proc/{child}/cmdline")).is_ok_and(|line| line.contains("guard-commands"))
    };
    // Whichever thread started it.
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
    await_end(&guards[0].to_string());
    place.add(&["mail", "2"]);
    await_file(&began(2));
    working.signal(Signal::KILL);
    working.child.wait().unwrap();
    for n in 1..=2 {
        await_end(&std::fs::read_to_string(began(n)).unwrap());
    }
}

/// `timeout` moves what it runs to a group of its own, and so do `sudo` and `setsid`.
#[test]
fn processes_that_have_left_the_group_of_their_command_die_with_it() {
    let script = "timeout 1000 sh -c 'echo $$ > \"$HOME/inner.new\"; mv \"$HOME/inner.new\" \"$HOME/inner\"; exec sleep 1000'; true";
    for way in ["killed", "signalled twice", "after the grace"] {
        let place = Place::with_queues(&["mail"]);
        let grace: &[&str] = if way == "after the grace" { &["--grace", "0s"] } else { &[] };
        let mut working = work(&place, grace, script);
        place.add(&["mail", "1"]);
        await_file(&place.home.path().join("inner"));
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
        await_end(&std::fs::read_to_string(place.home.path().join("inner")).unwrap());
    }
}

#[test]
fn a_command_that_outlasts_the_grace_is_ended_and_its_job_given_back() {
    let place = Place::with_queues(&["mail"]);
    for (grace, script) in [
        ("100ms", "trap 'echo > \"$HOME/asked\"; exit 0' TERM; echo > \"$HOME/began\"; sleep 1000 & wait"),
        ("0s", "trap '' TERM; echo > \"$HOME/began\"; sleep 1000 & wait; wait"),
    ] {
        let began = place.home.path().join("began");
        let id = place.add(&["mail", "1"]);
        let mut working = work(&place, &["--grace", grace], script);
        await_file(&began);
        working.terminate();
        assert_eq!(working.next()["result"], "released");
        let (status, stderr) = working.end();
        assert_eq!(status, 0, "{stderr}");
        assert!(stderr.contains(&format!("for up to {grace}")), "{stderr}");
        let job = job(&place, &id);
        assert_eq!((&job["status"], &job["retries"]), (&json!("pending"), &json!(0)));
        std::fs::remove_file(began).unwrap();
        place.pm(&["job", "done", &id]);
    }
    assert!(place.home.path().join("asked").exists(), "SIGTERM comes first");
}

fn probe(address: &str, path: &str) -> String {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: pm\r\n\r\n").as_bytes()).unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    response.split(' ').nth(1).unwrap().to_owned()
}

#[test]
fn an_outage_shows_on_stderr_and_to_probes_and_does_not_keep_a_worker_from_stopping() {
    let mut server = pm_sandbox::Server::start_with(pm_sandbox::ServerOptions::default().durable(true)).unwrap();
    let home = crate::support::Home::new();
    let pm = |arguments: &[&str]| {
        let output = home.command().env("PM_DATABASE_URL", server.url()).args(arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    pm(&["db", "migrate"]);
    pm(&["queue", "create", "mail"]);
    // It is free a moment later still, unless someone is very fast.
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let mut command = home.command();
    command.env("PM_DATABASE_URL", server.url()).args(["work", "mail", "--ndjson", "--health", &address, "--"]);
    let mut working = Working::start(command.args(["sh", "-c", "echo > \"$HOME/began\"; sleep 1000"]));
    pm(&["job", "add", "mail", "1"]);
    await_file(&home.path().join("began"));
    assert_eq!(["/live", "/ready", "/else"].map(|path| probe(&address, path)), ["200", "200", "404"]);

    let mut stderr = BufReader::new(working.child.stderr.take().unwrap()).lines();
    let mut next_line = || {
        let line = stderr.next().unwrap().unwrap();
        println!("{line}");
        line
    };
    server.kill();
    assert!(next_line().starts_with("The database is away"));
    assert_eq!(["/live", "/ready"].map(|path| probe(&address, path)), ["200", "503"]);
    server.restart().unwrap();
    assert!(next_line().starts_with("The database is back after"));
    assert_eq!(probe(&address, "/ready"), "200");

    server.kill();
    working.terminate();
    while !next_line().starts_with("Waiting for 1 job") {}
    working.terminate();
    while !next_line().contains("1 job could not be given back") {}
    assert!(next_line().contains("run again when their leases have ended"));
    assert_eq!(working.child.wait().unwrap().code(), Some(3));
}

/// Guards: a worker that cannot claim says so at once, to people and to probes.
#[test]
fn a_worker_that_may_not_claim_any_more_tells_and_is_not_ready() {
    let place = Place::with_queues(&["mail"]);
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let mut working = work(&place, &["--health", &address], "exit 0");
    place.add(&["mail", "1"]);
    assert_eq!(working.next()["result"], "finished");
    assert_eq!(probe(&address, "/ready"), "200");
    let refuse = "create function public.refuse() returns trigger language plpgsql as
                  $$ begin raise exception 'no claims today'; end $$;
                  create trigger refuse before update on pm.job execute function public.refuse()";
    place.database.execute(refuse).unwrap();
    place.add(&["mail", "2"]);
    let mut stderr = BufReader::new(working.child.stderr.take().unwrap()).lines();
    let told = stderr.next().unwrap().unwrap();
    assert!(told.starts_with("Error: ") && told.contains("no claims today"), "{told}");
    while probe(&address, "/ready") != "503" {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    place.database.execute("drop trigger refuse on pm.job").unwrap();
    assert_eq!(working.next()["result"], "finished", "it goes on");
    while probe(&address, "/ready") != "200" {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    working.terminate();
    while let Some(Ok(_)) = stderr.next() {}
    assert_eq!(working.child.wait().unwrap().code(), Some(3), "what went wrong meanwhile");
}

#[test]
fn an_address_that_is_taken_is_refused() {
    let place = Place::with_queues(&["mail"]);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let ran = place.pm(&["work", "mail", "--health", &address, "--", "true"]);
    ran.assert_refused(3, &["cannot listen on", &address]);
}

/// As in a container without an init of its own.
#[test]
fn process_one_passes_signals_on_and_reaps_orphans() {
    let place = Place::with_queues(&["mail"]);
    let command = place.command();
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
    place.add(&["mail", "1"]);
    let output = unshare.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let stats = std::fs::read_to_string(place.home.path().join("stats")).unwrap();
    assert!(stats.lines().any(|line| line.starts_with("1 (pm)")), "{stats}");
    assert!(!stats.contains(") Z "), "{stats}");
    // What a terminal sends to the group of process 1 does not come twice: no other is in that group.
    let groups = stats.lines().filter_map(|line| line.split_once(") ")?.1.split(' ').nth(2));
    let (first, others): (Vec<_>, Vec<_>) = groups.enumerate().partition(|(place, _)| *place == 0);
    assert!(others.iter().all(|(_, group)| *group != first[0].1), "{stats}");
}
