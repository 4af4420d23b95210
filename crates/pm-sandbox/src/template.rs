//! Creating a data directory by copying a template that `initdb` made earlier.
//!
//! Templates are kept in a directory that belongs to the server's account and that no other
//! account may write to. A template's name contains the numbers of its files and bytes. If a
//! cleaner of temporary files has removed some of it, that is detected, and the template is made
//! again.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::OFlags;

use crate::Error;
use crate::account::run;
use crate::binaries::Binaries;
use crate::supervisor::Supervisor;

/// Creates a data directory that does not exist yet. Templates are kept beside the supervisor's
/// directory.
pub(crate) fn fill(data_dir: &Path, supervisor: &Supervisor, binaries: &Binaries) -> Result<(), Error> {
    let key = key(binaries)?;
    let Some(cache) = Cache::open(supervisor, key) else {
        return initdb(data_dir, supervisor, binaries, Sync::Off);
    };
    if cache.lock(File::try_lock_shared)? && cache.copy_to(data_dir)? {
        return Ok(());
    }
    if !cache.lock(File::try_lock)? {
        return initdb(data_dir, supervisor, binaries, Sync::Off);
    }
    // Another process may have made it during the wait.
    if cache.copy_to(data_dir)? {
        return Ok(());
    }
    cache.clear()?;
    initdb(data_dir, supervisor, binaries, Sync::Off)?;
    cache.store(data_dir)
}

/// Whether `initdb` syncs its files to disk.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sync {
    On,
    Off,
}

/// Creates a data directory with `initdb`, with the superuser `postgres` without a password.
pub(crate) fn initdb(data_dir: &Path, supervisor: &Supervisor, binaries: &Binaries, sync: Sync) -> Result<(), Error> {
    let mut command = supervisor.command(&binaries.bin_dir.join("initdb"))?;
    command.args(["-U", "postgres", "-A", "trust", "--encoding=UTF8", "--locale=C"]);
    command.arg("--no-instructions").arg("-D").arg(data_dir);
    if sync == Sync::Off {
        command.arg("--no-sync");
    }
    run(&mut command, "initdb", INITDB_SECONDS).map(drop)
}

struct Cache<'a> {
    supervisor: &'a Supervisor,
    dir: PathBuf,
    /// The directory, open for locking.
    handle: File,
    key: String,
}

impl<'a> Cache<'a> {
    /// Returns `None` if the directory cannot be created or cannot be trusted.
    fn open(supervisor: &'a Supervisor, key: String) -> Option<Self> {
        let account = &supervisor.account;
        let dir = supervisor.dir.parent()?.join(format!("pm-sandbox-{}", account.uid));
        let mut mkdir = account.command(Path::new("mkdir"));
        // It fails if the directory exists or cannot be created; opening it shows which.
        run(mkdir.args(["-m", "700"]).arg(&dir), "mkdir", COPY_SECONDS).ok();
        let flags = OFlags::NOFOLLOW | OFlags::DIRECTORY;
        let handle = OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(&dir).ok()?;
        let metadata = handle.metadata().ok()?;
        let trusted = metadata.uid() == account.uid && metadata.mode() & 0o022 == 0;
        trusted.then_some(Self { supervisor, dir, handle, key })
    }

    /// Locks the cache; returns `false` if other processes hold the lock for too long.
    fn lock(&self, attempt: fn(&File) -> Result<(), TryLockError>) -> Result<bool, Error> {
        let failed = || Error::io(format!("cannot lock {}", self.dir.display()));
        let deadline = Instant::now() + LOCK;
        self.handle.unlock().map_err(failed())?;
        loop {
            match attempt(&self.handle) {
                Ok(()) => return Ok(true),
                Err(TryLockError::Error(error)) => return Err(failed()(error)),
                Err(TryLockError::WouldBlock) if Instant::now() > deadline => return Ok(false),
                // File locks have no timeout.
                Err(TryLockError::WouldBlock) => thread::sleep(Duration::from_millis(10)),
            }
        }
    }

    /// Copies the template; returns `false` if there is none, or if it is damaged.
    fn copy_to(&self, data_dir: &Path) -> Result<bool, Error> {
        let entries = self.entries()?;
        let Some((template, name)) = entries.iter().find_map(|entry| {
            let name = entry.file_name()?.to_str()?.strip_prefix(&self.key)?;
            (!name.contains(UNFINISHED)).then_some((entry, name))
        }) else {
            return Ok(false);
        };
        let copied = self.copy(template, data_dir).is_ok();
        if copied && measure(data_dir).is_ok_and(|measure| measure == name) {
            return Ok(true);
        }
        remove(data_dir)?;
        Ok(false)
    }

    fn store(&self, data_dir: &Path) -> Result<(), Error> {
        let failed = || Error::io(format!("cannot write to {}", self.dir.display()));
        let measure = measure(data_dir).map_err(failed())?;
        let unfinished = self.dir.join(format!("{}{UNFINISHED}{}", self.key, std::process::id()));
        self.copy(data_dir, &unfinished)?;
        let finished = self.dir.join(format!("{}{measure}", self.key));
        fs::rename(unfinished, finished).map_err(failed())
    }

    /// Removes a damaged template, and the remains of an interrupted [`store`](Self::store).
    fn clear(&self) -> Result<(), Error> {
        self.entries()?.iter().try_for_each(|entry| remove(entry))
    }

    fn entries(&self) -> Result<Vec<PathBuf>, Error> {
        let failed = || Error::io(format!("cannot read {}", self.dir.display()));
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.dir).map_err(failed())? {
            let entry = entry.map_err(failed())?;
            if entry.file_name().as_encoded_bytes().starts_with(self.key.as_bytes()) {
                found.push(entry.path());
            }
        }
        Ok(found)
    }

    fn copy(&self, from: &Path, to: &Path) -> Result<(), Error> {
        let mut command = self.supervisor.command(Path::new("cp"))?;
        run(command.arg("-Rp").arg(from).arg(to), "cp", COPY_SECONDS).map(drop)
    }
}

/// Change this when [`initdb`] changes.
const FORMAT: u32 = 1;
const UNFINISHED: &str = "unfinished-";
const LOCK: Duration = Duration::from_secs(60);
const INITDB_SECONDS: u64 = 60;
const COPY_SECONDS: u64 = 30;

/// Returns the prefix of a template's name. It depends on the directory of the binaries too,
/// because builds of one version may differ in what their `initdb` writes.
fn key(binaries: &Binaries) -> Result<String, Error> {
    let mut hasher = DefaultHasher::new();
    binaries.bin_dir.hash(&mut hasher);
    Ok(format!("{}-{:016x}-{FORMAT}-", binaries.version()?, hasher.finish()))
}

fn measure(dir: &Path) -> io::Result<String> {
    let (mut files, mut bytes) = (0_u64, 0_u64);
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            files += 1;
            if entry.file_type()?.is_dir() {
                dirs.push(entry.path());
            } else {
                bytes += entry.metadata()?.len();
            }
        }
    }
    Ok(format!("{files}-{bytes}"))
}

fn remove(dir: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::io(format!("cannot remove {}", dir.display()))(error))
        }
        _ => Ok(()),
    }
}
