//! A file that exists while the process is ready, for probes that run a command.

use super::readiness::Readiness;
use crate::error::CommandError;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::AbortHandle;

/// How often the file is touched.
const TOUCH_INTERVAL: Duration = Duration::from_secs(1);

/// The file; dropping this removes it.
///
/// After a SIGKILL it stays: a probe should also check that it is not older than some seconds.
pub(super) struct HealthFile {
    path: PathBuf,
    readiness: Arc<Readiness>,
}

impl HealthFile {
    /// Writes the file if the process is ready, which it is at the start. Errors: exit code 3 when it cannot be
    /// written.
    pub(super) fn create(path: &Path, readiness: &Arc<Readiness>) -> Result<Self, CommandError> {
        let failed = |error| CommandError::trouble(format!("cannot write the health file {}: {error}", path.display()));
        update(path, readiness).map_err(failed)?;
        Ok(HealthFile { path: path.to_owned(), readiness: readiness.clone() })
    }

    /// Starts a task that keeps the file up to date.
    pub(super) fn keep(&self) -> AbortHandle {
        let (path, readiness) = (self.path.clone(), self.readiness.clone());
        let keep = async move {
            loop {
                tokio::time::sleep(TOUCH_INTERVAL).await;
                // A full disk, for example. The probe fails then; the work goes on.
                drop(update(&path, &readiness));
            }
        };
        tokio::spawn(keep).abort_handle()
    }
}

impl Drop for HealthFile {
    fn drop(&mut self) {
        drop(fs::remove_file(&self.path));
    }
}

/// Writes the file, which sets its time, or removes it.
fn update(path: &Path, readiness: &Readiness) -> io::Result<()> {
    match readiness.check() {
        Ok(()) => fs::write(path, "ready\n"),
        Err(_) if path.exists() => fs::remove_file(path),
        Err(_) => Ok(()),
    }
}
