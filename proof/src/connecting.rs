//! Fuzzes connection strings, password files and service files: any text is accepted or refused, and no password is
//! shown.

use pm_queue::ConnectOptions;
use pm_queue::connecting::{Surroundings, Target};
use std::io;
use std::path::{Path, PathBuf};

/// Reads bytes as a connection string and, after a NUL, the content of every file that it may refer to.
///
/// # Panics
///
/// If an error has no message, or a result shows its password.
pub fn connecting(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let (string, file) = text.split_once('\0').unwrap_or((&text, ""));
    let surroundings = SameFile(file.to_owned());
    match Target::resolve(string, &ConnectOptions::default(), &surroundings) {
        Err(error) => assert!(!error.to_string().is_empty()),
        Ok(target) => {
            assert!(!target.places.is_empty());
            for password in target.places.iter().filter_map(|place| place.password.as_ref()) {
                assert_eq!(format!("{password:?}"), "…");
                assert!(!password.reveal().is_empty());
            }
        }
    }
}

/// Surroundings in which every file has this content.
struct SameFile(String);

impl Surroundings for SameFile {
    fn variable(&self, name: &str) -> Option<String> {
        (name == "PGPASSFILE").then(|| "passwords".to_owned())
    }

    fn user(&self) -> Option<String> {
        Some("ada".to_owned())
    }

    fn home(&self) -> Option<PathBuf> {
        Some(PathBuf::from("home"))
    }

    fn exists(&self, path: &Path) -> bool {
        path.as_os_str().len().is_multiple_of(2)
    }

    fn read(&self, _path: &Path) -> io::Result<String> {
        Ok(self.0.clone())
    }

    fn is_private(&self, _path: &Path) -> bool {
        true
    }
}
