//! What a connection depends on besides its connection string: variables, files, the user.

use std::io;
use std::path::{Path, PathBuf};

/// The environment of a process, as data: the system's in programs, made up in tests.
pub trait Surroundings {
    /// Returns a variable; what is not UTF-8 counts as not set.
    fn variable(&self, name: &str) -> Option<String>;

    /// Returns the name of the operating system's user.
    fn user(&self) -> Option<String>;

    /// Returns the user's home directory.
    fn home(&self) -> Option<PathBuf>;

    /// Returns whether there is a file, or a socket.
    fn exists(&self, path: &Path) -> bool;

    /// Returns a file's text.
    ///
    /// # Errors
    ///
    /// When it cannot be read; a file that is not there is an error of kind `NotFound`.
    fn read(&self, path: &Path) -> io::Result<String>;

    /// Returns whether no other user but root can read a file, or write it.
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
        // A FIFO could be waited for without end.
        match std::fs::metadata(path)?.is_file() {
            true => Ok(String::from_utf8_lossy(&std::fs::read(path)?).into_owned()),
            false => Err(io::Error::other("it is no regular file")),
        }
    }

    fn is_private(&self, path: &Path) -> bool {
        #[cfg(unix)]
        {
            use std::os::unix::fs::MetadataExt;
            // As libpq: a file of root's may be readable for its group.
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
