use std::path::{Path, PathBuf};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use crate::Error;

/// The Unix socket of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) socket_dir: PathBuf,
    pub(crate) port: u16,
}

impl Address {
    /// Parses a URL that [`url_of`](Self::url_of) has made, and ignores its database.
    pub(crate) fn parse(url: &str) -> Result<Self, Error> {
        let parsed = || {
            let (host, _) = url.strip_prefix(PREFIX)?.split_once('/')?;
            let (socket_dir, port) = host.rsplit_once(':')?;
            let socket_dir = PathBuf::from(percent_decode_str(socket_dir).decode_utf8().ok()?.as_ref());
            Some(Self { socket_dir, port: port.parse().ok()? })
        };
        parsed().filter(|address| address.socket_dir.is_absolute()).ok_or_else(|| Error::ServerUrl(url.to_owned()))
    }

    pub(crate) fn url_of(&self, database: &str) -> String {
        let socket_dir = encode(&self.socket_dir.to_string_lossy());
        format!("{PREFIX}{socket_dir}:{}/{}", self.port, encode(database))
    }

    pub(crate) fn socket(&self) -> PathBuf {
        socket(&self.socket_dir, self.port)
    }
}

pub(crate) fn socket(socket_dir: &Path, port: u16) -> PathBuf {
    socket_dir.join(format!(".s.PGSQL.{port}"))
}

pub(crate) fn encode(text: &str) -> String {
    const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.');
    utf8_percent_encode(text, ESCAPED).to_string()
}

const PREFIX: &str = "postgres://postgres@";

#[cfg(test)]
mod tests {
    use tokio_postgres::config::{Config, Host};

    use super::*;

    #[test]
    fn url_is_parsed_by_us_and_by_tokio_postgres() {
        let address = Address { socket_dir: "/tmp/ä %?:/pm-x".into(), port: 5433 };
        let url = address.url_of("a/b @c");
        assert_eq!(url, "postgres://postgres@%2Ftmp%2F%C3%A4%20%25%3F%3A%2Fpm-x:5433/a%2Fb%20%40c");
        assert_eq!(Address::parse(&url).expect("the URL is ours"), address);

        let config: Config = url.parse().expect("it is a URL");
        assert_eq!(config.get_hosts(), [Host::Unix(address.socket_dir)]);
        assert_eq!(config.get_ports(), [5433]);
        assert_eq!(config.get_user(), Some("postgres"));
        assert_eq!(config.get_dbname(), Some("a/b @c"));
    }

    #[test]
    fn other_urls_are_refused() {
        for url in [
            "",
            "postgres://localhost/test",
            "postgres://postgres@localhost:5432/test",
            "postgres://postgres@%2Ftmp/test",
            "postgres://postgres@%2Ftmp:5432",
            "postgres://postgres@%2:5432/test",
        ] {
            let error = Address::parse(url).expect_err(url);
            assert!(error.to_string().contains("PM_TEST_SERVER"), "{error}");
        }
    }
}
