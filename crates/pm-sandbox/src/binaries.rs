use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::Error;

/// A directory that contains `initdb` and `postgres`.
#[derive(Debug)]
pub(crate) struct Binaries {
    pub(crate) bin_dir: PathBuf,
}

impl Binaries {
    /// Finds the binaries on this machine, as [`Server::start_with`](crate::Server::start_with)
    /// documents.
    pub(crate) fn find() -> Result<Self, Error> {
        if let Some(dir) = env::var_os("PM_PG_BINDIR") {
            return Self::at(dir.into());
        }
        let mut searched = Vec::new();
        for candidates in CANDIDATES {
            for dir in candidates() {
                match Self::at(dir.clone()) {
                    Ok(binaries) => return Ok(binaries),
                    Err(_) => searched.push(dir),
                }
            }
        }
        Err(Error::NotFound { searched })
    }

    /// Returns the binaries in this directory, if it contains `initdb` and `postgres`.
    fn at(bin_dir: PathBuf) -> Result<Self, Error> {
        let bin_dir = std::path::absolute(&bin_dir).unwrap_or(bin_dir);
        if bin_dir.join("initdb").is_file() && bin_dir.join("postgres").is_file() {
            Ok(Self { bin_dir })
        } else {
            Err(Error::NotABinaryDirectory(bin_dir))
        }
    }

    /// Returns the version that `postgres --version` prints, for example `17.2`.
    pub(crate) fn version(&self) -> Result<String, Error> {
        let account = crate::account::Account::for_server()?;
        let mut command = account.command(&self.bin_dir.join("postgres"));
        command.arg("--version");
        let output = match crate::account::run(&mut command, "postgres", VERSION_SECONDS) {
            Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::PermissionDenied => {
                let bin_dir = self.bin_dir.clone();
                return Err(Error::Inaccessible { bin_dir, account: account.name });
            }
            output => output?,
        };
        parse_version(&output).map(str::to_owned).ok_or(Error::Program { name: "postgres --version".into(), output })
    }

    /// Returns the path of a program that may only exist in the directory to which the symbolic
    /// link `postgres` points.
    pub(crate) fn tool(&self, name: &str) -> PathBuf {
        let beside = self.bin_dir.join(name);
        let server = self.bin_dir.join("postgres").canonicalize();
        match server.ok().and_then(|server| Some(server.parent()?.join(name))) {
            Some(target) if !beside.exists() => target,
            _ => beside,
        }
    }
}

const VERSION_SECONDS: u64 = 10;

const CANDIDATES: [fn() -> Vec<PathBuf>; 6] = [
    || env::var_os("PATH").map_or(Vec::new(), |path| env::split_paths(&path).collect()),
    pg_config,
    || versioned("/usr/lib/postgresql", ""),
    || versioned("/usr", "pgsql-"),
    || {
        ["/opt/homebrew", "/usr/local", "/home/linuxbrew/.linuxbrew"]
            .iter()
            .flat_map(|prefix| {
                let mut dirs = versioned(&format!("{prefix}/opt"), "postgresql@");
                dirs.push(format!("{prefix}/opt/postgresql/bin").into());
                dirs
            })
            .collect()
    },
    || {
        let versions = "/Applications/Postgres.app/Contents/Versions";
        let mut dirs = versioned(versions, "");
        dirs.push(format!("{versions}/latest/bin").into());
        dirs
    },
];

fn pg_config() -> Vec<PathBuf> {
    let command = Command::new("pg_config").arg("--bindir").stdin(Stdio::null()).output();
    let dir = command.map_or(String::new(), |output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    if dir.is_empty() { Vec::new() } else { vec![dir.into()] }
}

/// Returns `parent/prefix<version>/bin` for each existing version, the highest first.
fn versioned(parent: &str, prefix: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(parent) else { return Vec::new() };
    let mut found: Vec<(Vec<u32>, PathBuf)> = entries
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name();
            let version = name.to_str()?.strip_prefix(prefix)?;
            let numbers = version.split('.').map(|part| part.parse().ok()).collect::<Option<_>>()?;
            Some((numbers, entry.path().join("bin")))
        })
        .collect();
    found.sort_by(|one, other| other.cmp(one));
    found.into_iter().map(|(_, dir)| dir).collect()
}

fn parse_version(output: &str) -> Option<&str> {
    let (_, rest) = output.split_once("(PostgreSQL) ")?;
    rest.split_whitespace().next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_is_parsed_from_the_output_of_postgres() {
        let output = "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n";
        assert_eq!(parse_version(output), Some("15.18"));
        assert_eq!(parse_version("postgres (PostgreSQL) 18beta1\n"), Some("18beta1"));
        assert_eq!(parse_version("pg_ctl: no such thing"), None);
    }

    #[test]
    fn highest_version_comes_first() {
        let parent = env::temp_dir().join(format!("pm-binaries-{}", std::process::id()));
        for name in ["9.6", "14", "17", "pgsql-18", "common"] {
            fs::create_dir_all(parent.join(name)).expect("the directory is ours");
        }
        let found = versioned(parent.to_str().expect("it is UTF-8"), "");
        fs::remove_dir_all(&parent).expect("the directory is ours");
        let expected: Vec<_> = ["17", "14", "9.6"].iter().map(|name| parent.join(name).join("bin")).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn directory_without_binaries_is_refused() {
        let error = Binaries::at("/dev".into()).expect_err("there is no postgres in /dev");
        assert!(error.to_string().contains("PM_PG_BINDIR"), "{error}");
    }
}
