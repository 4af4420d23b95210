use std::fmt;
use std::io;
use std::path::PathBuf;

/// Why a server could not be found, started, asked or stopped.
///
/// The `Display` text says what to do about it.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// No Postgres server binaries are on this machine.
    NotFound {
        /// The directories that were looked into.
        searched: Vec<PathBuf>,
    },
    /// PgBouncer is not on this machine.
    NoPooler,
    /// The directory that the caller or `PM_PG_BINDIR` names holds no `initdb` and `postgres`.
    NotABinaryDirectory(PathBuf),
    /// The account that the server must run as can not run the binaries.
    Inaccessible {
        /// The directory of the binaries.
        bin_dir: PathBuf,
        /// The name of the account.
        account: String,
    },
    /// We are root, and there is no account `postgres` or `nobody` to run the server as.
    NoAccount,
    /// No directory for the server could be made; holds the words of `mktemp`.
    NoDirectory(String),
    /// A program failed or said something unexpected.
    Program {
        /// The program: `initdb`, `postgres`, …
        name: String,
        /// What it printed, or the end of its log.
        output: String,
    },
    /// Something took longer than its bound.
    Deadline {
        /// What was waited for.
        waiting_for: &'static str,
        /// The bound, in seconds.
        seconds: u64,
        /// What the program printed so far, or the end of its log.
        output: String,
    },
    /// The server refused a statement or a connection.
    Sql {
        /// The five-character SQLSTATE.
        sqlstate: String,
        /// The server's message.
        message: String,
    },
    /// The URL of a test server is not one that this crate prints.
    ServerUrl(String),
    /// The operating system refused something.
    Io {
        /// What was being done.
        doing: String,
        /// The system's error.
        source: io::Error,
    },
}

impl Error {
    pub(crate) fn io(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Io { doing, source }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound { searched } => {
                f.write_str(
                    "no Postgres server found on this machine; install one:\n  \
                     Debian, Ubuntu:  apt-get install -y postgresql\n  \
                     Fedora:          dnf install postgresql-server\n  \
                     macOS:           brew install postgresql@17\n\
                     or set PM_PG_BINDIR to the directory that holds initdb and postgres",
                )?;
                if !searched.is_empty() {
                    f.write_str("; looked into")?;
                }
                for (index, dir) in searched.iter().enumerate() {
                    let separator = if index == 0 { " " } else { ", " };
                    write!(f, "{separator}{}", dir.display())?;
                }
                Ok(())
            }
            Self::NoPooler => f.write_str(
                "no PgBouncer found on this machine; install it:\n  \
                 Debian, Ubuntu:  apt-get install -y pgbouncer\n  \
                 Fedora:          dnf install pgbouncer\n  \
                 macOS:           brew install pgbouncer",
            ),
            Self::NotABinaryDirectory(dir) => write!(
                f,
                "{} holds no initdb and postgres; set PM_PG_BINDIR to the directory that does, \
                 or unset it to look in the usual places",
                dir.display()
            ),
            Self::Inaccessible { bin_dir, account } => write!(
                f,
                "Postgres refuses to run as root, and the account \"{account}\" can not run the \
                 binaries in {}; move them to a directory that every user may read, or run as \
                 another user than root",
                bin_dir.display()
            ),
            Self::NoAccount => f.write_str(
                "Postgres refuses to run as root, and /etc/passwd has no account \"postgres\" or \
                 \"nobody\" to run it as; run as another user than root",
            ),
            Self::NoDirectory(output) => write!(
                f,
                "no temporary directory can be made; set TMPDIR to a directory that may be \
                 written to: {output}"
            ),
            Self::Program { name, output } => write!(f, "{name} failed: {}", output.trim_end()),
            Self::Deadline { waiting_for, seconds, output } => {
                write!(f, "{waiting_for} took longer than {seconds} s: {}", output.trim_end())
            }
            Self::Sql { sqlstate, message } => write!(f, "{message} (SQLSTATE {sqlstate})"),
            Self::ServerUrl(url) => write!(
                f,
                "\"{url}\" is no URL of a test server; start one with `pm-sandbox` and set \
                 PM_TEST_SERVER to the URL that it prints, or unset it"
            ),
            Self::Io { doing, source } => write!(f, "{doing}: {source}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn not_found_says_how_to_install() {
        let text = Error::NotFound { searched: vec!["/a".into(), "/b".into()] }.to_string();
        for part in [
            "apt-get install -y postgresql",
            "dnf install postgresql-server",
            "brew install postgresql@17",
            "PM_PG_BINDIR",
            "looked into /a, /b",
        ] {
            assert!(text.contains(part), "{part} is missing in: {text}");
        }
    }
}
