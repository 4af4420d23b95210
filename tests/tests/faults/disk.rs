//! The disk is full. These tests mount a small file system, which takes root on Linux.

use crate::ledger::now_us;
use crate::scenario::{DATABASE, SECOND, Scenario, TIMEOUT, durable};
use pm_sandbox::Server;
use pm_tests::eventually;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// A small file system in a file.
struct SmallDisk {
    image: PathBuf,
    mount_point: PathBuf,
}

impl SmallDisk {
    fn of_megabytes(size: u64) -> SmallDisk {
        let name = format!("pm-disk-{}", std::process::id());
        let mount_point = std::env::temp_dir().join(name);
        let image = mount_point.with_extension("image");
        File::create(&image).and_then(|file| file.set_len(size << 20)).expect("the file is created");
        fs::create_dir(&mount_point).expect("it is a new directory");
        let disk = SmallDisk { image, mount_point };
        // No blocks are reserved for root: full means full for every user.
        run(Command::new("mkfs.ext4").args(["-q", "-m", "0"]).arg(&disk.image));
        run(Command::new("mount").args(["-o", "loop"]).arg(&disk.image).arg(&disk.mount_point));
        fs::set_permissions(&disk.mount_point, fs::Permissions::from_mode(0o755)).expect("we are root");
        disk
    }

    /// Writes until there is no room left.
    fn fill(&self) {
        let mut ballast = File::create(self.ballast()).expect("the file is created");
        for size in [1 << 20, 4 << 10, 1] {
            while ballast.write_all(&vec![7; size]).is_ok() {}
        }
        // The last error may come from the disk.
        ballast.sync_all().ok();
    }

    fn free(&self) {
        fs::remove_file(self.ballast()).expect("it exists");
    }

    fn ballast(&self) -> PathBuf {
        self.mount_point.join("ballast")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // A failed test should report its own failure, not one of the clean-up.
        Command::new("umount").arg("--lazy").arg(&self.mount_point).status().ok();
        fs::remove_dir(&self.mount_point).ok();
        fs::remove_file(&self.image).ok();
    }
}

fn run(command: &mut Command) {
    let status = command.status().expect("the command exists");
    assert!(status.success(), "{command:?} failed; it takes root on Linux");
}

fn refusals(scenario: &Scenario, code: &str) -> usize {
    let entries = scenario.ledger.lock();
    entries.refusals.iter().filter(|(message, _)| message.contains(code)).map(|(_, times)| times).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_of_the_tables_costs_time_only() {
    let disk = SmallDisk::of_megabytes(48);
    let server = Server::start_with(durable()).expect("a private Postgres starts");
    let owner = fs::metadata(server.data_dir()).expect("it exists");
    chown(&disk.mount_point, Some(owner.uid()), Some(owner.gid())).expect("we are root");
    let small = format!("create tablespace small location '{}'", disk.mount_point.join("").display());
    fs::remove_dir(disk.mount_point.join("lost+found")).expect("a new file system has one");
    server.execute("postgres", &small).expect("it is an empty directory");
    server
        .execute("postgres", &format!("create database {DATABASE} tablespace small"))
        .expect("the database is created");
    let url = server.url_of(DATABASE);
    let mut scenario = Scenario::at(server, &url, SECOND * 4).await;
    scenario.produce(4, Duration::from_millis(2));
    (0..2).for_each(|_| scenario.work(&["handlers=32"]));
    scenario.under_way().await;

    disk.fill();
    let full = now_us();
    let refused = async || refusals(&scenario, "53100") > 0;
    eventually("there is no room for a job", TIMEOUT, refused).await;
    scenario.go_on(SECOND * 8).await;
    let (endings, refused) = (scenario.ledger.endings_since(full), refusals(&scenario, "53100"));
    disk.free();
    let recovery = format!(
        "{:.1} s; while full {endings} endings, {refused} enqueues refused (53100)",
        scenario.recovered(now_us()).await.as_secs_f64()
    );
    scenario.finish("disk of the tables full", &recovery).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_of_the_log_that_ends_the_server_costs_no_job() {
    let disk = SmallDisk::of_megabytes(200);
    let options = durable().data_dir(disk.mount_point.join("server")).setting("min_wal_size", "32MB");
    let server = Server::start_with(options.setting("max_wal_size", "48MB")).expect("a private Postgres starts");
    let mut scenario = Scenario::on(server, SECOND * 30).await;
    scenario.produce(4, Duration::from_millis(5));
    (0..2).for_each(|_| scenario.work(&[]));
    scenario.under_way().await;

    disk.fill();
    // Each switch needs another file of 16 MB, until there is no room and the server panics.
    let panicked = async || scenario.server.execute(DATABASE, "select pg_switch_wal()").is_err();
    eventually("the server has no room for its log", TIMEOUT, panicked).await;
    let full = now_us();
    scenario.go_on(SECOND * 4).await;
    assert!(scenario.server.execute(DATABASE, "select 1").is_err(), "it cannot restart while the disk is full");
    let endings = scenario.ledger.endings_since(full);
    disk.free();
    tokio::task::block_in_place(|| scenario.server.restart().expect("it restarts"));
    let recovery = format!(
        "{:.1} s after its restart; {endings} endings during the outage",
        scenario.recovered(now_us()).await.as_secs_f64()
    );
    scenario.finish("disk of everything full: the server panics and stays down for 4 s", &recovery).await;
}
