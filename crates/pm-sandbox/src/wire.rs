//! The part of the Postgres protocol that a simple query needs, through a Unix socket and without
//! a password.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use crate::{Error, Rows};

pub(crate) struct Connection {
    stream: UnixStream,
}

impl Connection {
    /// Connects as `postgres`. The timeout of each reply is 60 s.
    pub(crate) fn open(socket: &Path, database: &str) -> Result<Self, Error> {
        let failed = || Error::io(format!("cannot connect to {}", socket.display()));
        let stream = UnixStream::connect(socket).map_err(failed())?;
        stream.set_read_timeout(Some(REPLY)).map_err(failed())?;
        stream.set_write_timeout(Some(REPLY)).map_err(failed())?;
        let mut connection = Self { stream };

        let mut body = PROTOCOL.to_be_bytes().to_vec();
        for text in ["user", "postgres", "database", database] {
            body.extend_from_slice(text.as_bytes());
            body.push(0);
        }
        body.push(0);
        connection.send(None, &body)?;
        connection.read_reply()?;
        Ok(connection)
    }

    /// Runs statements and returns the rows of all of them.
    pub(crate) fn query(&mut self, sql: &str) -> Result<Rows, Error> {
        let mut body = sql.as_bytes().to_vec();
        body.push(0);
        self.send(Some(b'Q'), &body)?;
        self.read_reply()
    }

    fn send(&mut self, kind: Option<u8>, body: &[u8]) -> Result<(), Error> {
        let length =
            u32::try_from(body.len() + 4).map_err(|_| malformed("the statement is longer than the protocol allows"))?;
        let mut message: Vec<u8> = kind.into_iter().collect();
        message.extend_from_slice(&length.to_be_bytes());
        message.extend_from_slice(body);
        self.stream.write_all(&message).map_err(lost())
    }

    /// Reads messages until the server is ready for the next query.
    fn read_reply(&mut self) -> Result<Rows, Error> {
        let mut rows = Vec::new();
        let mut refusal = None;
        loop {
            let (kind, body) = self.read_message()?;
            match kind {
                b'Z' => return refusal.map_or(Ok(rows), Err),
                b'D' => rows.push(row(&body).ok_or_else(|| malformed("a row is truncated"))?),
                b'E' => {
                    let error = refused(&body);
                    // If the connection is refused, no 'Z' follows.
                    if error_field(&body, b'S').is_some_and(|severity| severity == "FATAL") {
                        return Err(error);
                    }
                    refusal = Some(error);
                }
                b'R' if body != [0; 4] => {
                    return Err(malformed("the server asks for a password"));
                }
                b'G' | b'H' | b'W' => return Err(malformed("COPY is not supported")),
                _ => {}
            }
        }
    }

    fn read_message(&mut self) -> Result<(u8, Vec<u8>), Error> {
        let mut head = [0; 5];
        self.stream.read_exact(&mut head).map_err(lost())?;
        let [kind, length @ ..] = head;
        let length = u32::from_be_bytes(length).saturating_sub(4) as usize;
        if length > MESSAGE_LIMIT {
            return Err(malformed("a message is longer than 64 MiB"));
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).map_err(lost())?;
        Ok((kind, body))
    }
}

impl Drop for Connection {
    /// Waits until the backend has ended, so that its database can be dropped or copied at once.
    fn drop(&mut self) {
        if self.send(Some(b'X'), &[]).is_ok() {
            // After an error the connection is closed as well.
            io::copy(&mut self.stream, &mut io::sink()).ok();
        }
    }
}

/// Quotes an SQL identifier.
pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

const REPLY: Duration = Duration::from_secs(60);
const PROTOCOL: u32 = 3 << 16;
const MESSAGE_LIMIT: usize = 64 << 20;

fn row(body: &[u8]) -> Option<Vec<Option<String>>> {
    let (count, mut rest) = body.split_first_chunk()?;
    let mut values = Vec::new();
    for _ in 0..u16::from_be_bytes(*count) {
        let (length, tail) = rest.split_first_chunk()?;
        match usize::try_from(i32::from_be_bytes(*length)) {
            Ok(length) => {
                let (value, tail) = tail.split_at_checked(length)?;
                values.push(Some(String::from_utf8_lossy(value).into_owned()));
                rest = tail;
            }
            Err(_) => {
                values.push(None);
                rest = tail;
            }
        }
    }
    Some(values)
}

fn refused(body: &[u8]) -> Error {
    let field = |kind| error_field(body, kind).unwrap_or_default();
    let (mut message, detail) = (field(b'M'), field(b'D'));
    if !detail.is_empty() {
        message = format!("{message}: {detail}");
    }
    Error::Sql { sqlstate: field(b'C'), message }
}

fn error_field(body: &[u8], kind: u8) -> Option<String> {
    let field = body.split(|byte| *byte == 0).find(|field| field.first() == Some(&kind))?;
    Some(String::from_utf8_lossy(&field[1..]).into_owned())
}

fn lost() -> impl FnOnce(io::Error) -> Error {
    Error::io("the connection to the server was lost")
}

fn malformed(what: &str) -> Error {
    Error::Program { name: "communication with the server".into(), output: what.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn row_holds_text_and_null() {
        let body = [0, 2, 0, 0, 0, 1, b'7', 255, 255, 255, 255];
        assert_eq!(row(&body), Some(vec![Some("7".to_owned()), None]));
    }

    #[test]
    fn truncated_row_is_none() {
        let body = [0, 2, 0, 0, 0, 1, b'7', 255, 255, 255, 255];
        for length in 0..body.len() {
            assert_eq!(row(&body[..length]), None, "at {length}");
        }
    }

    #[test]
    fn name_is_quoted() {
        assert_eq!(quoted("a\"b"), "\"a\"\"b\"");
    }
}
