use std::io;
use std::path::PathBuf;

/// Why a server could not be found, started, queried or stopped.
///
/// Its `Display` output includes advice where there is some.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There are no Postgres server binaries on this machine.
    #[error(
        "no Postgres server found on this machine; install one:\n  \
         Debian, Ubuntu:  apt-get install -y postgresql\n  \
         Fedora:          dnf install postgresql-server\n  \
         macOS:           brew install postgresql@17\n\
         or set PM_PG_BINDIR to the directory that holds initdb and postgres{}",
        listed(searched)
    )]
    NotFound {
        /// The directories that were searched.
        searched: Vec<PathBuf>,
    },
    /// There is no PgBouncer on this machine.
    #[error(
        "no PgBouncer found on this machine; install it:\n  \
         Debian, Ubuntu:  apt-get install -y pgbouncer\n  \
         Fedora:          dnf install pgbouncer\n  \
         macOS:           brew install pgbouncer"
    )]
    NoPooler,
    /// The directory given by `PM_PG_BINDIR` does not contain `initdb` and `postgres`.
    #[error(
        "{} holds no initdb and postgres; set PM_PG_BINDIR to the directory that does, \
         or unset it to search the usual directories",
        .0.display()
    )]
    NotABinaryDirectory(PathBuf),
    /// The account that the server must run as cannot run the binaries.
    #[error(
        "Postgres refuses to run as root, and the account \"{account}\" cannot run the \
         binaries in {}; move them to a directory that every user can read, or run as a \
         user other than root",
        bin_dir.display()
    )]
    Inaccessible {
        /// The directory of the binaries.
        bin_dir: PathBuf,
        /// The name of the account.
        account: String,
    },
    /// The process runs as root, and there is no account `postgres` or `nobody` to run the server
    /// as.
    #[error(
        "Postgres refuses to run as root, and /etc/passwd has no account \"postgres\" or \
         \"nobody\" to run it as; run as a user other than root"
    )]
    NoAccount,
    /// No directory could be created for the server; contains the output of `mktemp`.
    #[error("cannot create a temporary directory; set TMPDIR to a writable directory: {0}")]
    NoDirectory(String),
    /// A program failed or printed something unexpected.
    #[error("{name} failed: {}", output.trim_end())]
    Program {
        /// The name of the program: `initdb`, `postgres`, …
        name: String,
        /// Its output, or the end of its log.
        output: String,
    },
    /// Something took longer than its time limit.
    #[error("{waiting_for} took longer than {seconds} s: {}", output.trim_end())]
    Deadline {
        /// What was waited for.
        waiting_for: &'static str,
        /// The time limit, in seconds.
        seconds: u64,
        /// The program's output so far, or the end of its log.
        output: String,
    },
    /// The server refused a statement or a connection.
    #[error("{message} (SQLSTATE {sqlstate})")]
    Sql {
        /// The five-character SQLSTATE.
        sqlstate: String,
        /// The server's message.
        message: String,
    },
    /// This URL is not one of a test server, which `pm-sandbox` prints.
    #[error(
        "\"{0}\" is not the URL of a test server; start one with `pm-sandbox` and set \
         PM_TEST_SERVER to the URL that it prints, or unset it"
    )]
    ServerUrl(String),
    /// The operating system reported an error.
    #[error("{doing}: {source}")]
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

fn listed(searched: &[PathBuf]) -> String {
    let dirs: Vec<_> = searched.iter().map(|dir| dir.display().to_string()).collect();
    if dirs.is_empty() { String::new() } else { format!("; searched {}", dirs.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn not_found_explains_how_to_install() {
        let text = Error::NotFound { searched: vec!["/a".into(), "/b".into()] }.to_string();
        for part in [
            "apt-get install -y postgresql",
            "dnf install postgresql-server",
            "brew install postgresql@17",
            "PM_PG_BINDIR",
            "searched /a, /b",
        ] {
            assert!(text.contains(part), "{part} is missing in: {text}");
        }
    }
}
