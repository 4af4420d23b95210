//! What a connection depends on besides its connection string: environment variables, files, the user.

use std::io;
use std::path::{Path, PathBuf};

/// The environment of a process: [`System`] in programs, a fake one in tests.
pub trait Surroundings {
    /// Returns an environment variable. One that is not UTF-8 counts as not set.
    fn variable(&self, name: &str) -> Option<String>;

    /// Returns the name of the operating system's user.
    fn user(&self) -> Option<String>;

    /// Returns the user's home directory.
    fn home(&self) -> Option<PathBuf>;

    /// Returns whether a file or socket exists at this path.
    fn exists(&self, path: &Path) -> bool;

    /// Returns the text of a file.
    ///
    /// # Errors
    ///
    /// When the file cannot be read; of kind `NotFound` when it does not exist.
    fn read(&self, path: &Path) -> io::Result<String>;

    /// Returns whether no other user but root can read or write a file.
    fn is_private(&self, path: &Path) -> bool;
}

/// The environment of this process.
#[derive(Debug, Clone, Copy, Default)]
pub struct System;

impl Surroundings for System {
    fn variable(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    fn user(&self) -> Option<String> {
        whoami::username().ok()
    }

    fn home(&self) -> Option<PathBuf> {
        std::env::home_dir().filter(|home| !home.as_os_str().is_empty())
    }

    fn exists(&self, path: &Path) -> bool {
        path.exists()
    }

    fn read(&self, path: &Path) -> io::Result<String> {
        // Reading a FIFO could block for ever.
        match std::fs::metadata(path)?.is_file() {
            true => Ok(String::from_utf8_lossy(&std::fs::read(path)?).into_owned()),
            false => Err(io::Error::other("it is not a regular file")),
        }
    }

    fn is_private(&self, path: &Path) -> bool {
        #[cfg(unix)]
        {
            use std::os::unix::fs::MetadataExt;
            // As in libpq, a file that root owns may be readable by its group.
            let shared = |file: std::fs::Metadata| file.mode() & if file.uid() == 0 { 0o027 } else { 0o077 };
            std::fs::metadata(path).is_ok_and(|file| shared(file) == 0)
        }
        #[cfg(not(unix))]
        {
            let _ = path;
            true
        }
    }
}
