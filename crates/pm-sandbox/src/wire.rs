//! The part of the Postgres protocol that a simple query needs, through a Unix socket and without
//! a password.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::ops::Range;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use bytes::BytesMut;
use fallible_iterator::FallibleIterator;
use postgres_protocol::message::backend::{DataRowBody, ErrorResponseBody, Header, Message};
use postgres_protocol::message::frontend;

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
        let mut message = BytesMut::new();
        let parameters = [("user", "postgres"), ("database", database)];
        frontend::startup_message(parameters, &mut message).map_err(failed())?;
        connection.ask(&message)?;
        Ok(connection)
    }

    /// Runs statements and returns the rows of all of them.
    pub(crate) fn query(&mut self, sql: &str) -> Result<Rows, Error> {
        let mut message = BytesMut::new();
        frontend::query(sql, &mut message).map_err(Error::io("cannot send the statement"))?;
        self.ask(&message)
    }

    /// Sends a message, and reads the reply until the server is ready for the next one.
    fn ask(&mut self, message: &[u8]) -> Result<Rows, Error> {
        let lost = || Error::io("the connection to the server was lost");
        self.stream.write_all(message).map_err(lost())?;
        let mut rows = Vec::new();
        let mut refusal = None;
        loop {
            match self.read_message().map_err(lost())? {
                Message::ReadyForQuery(_) => return refusal.map_or(Ok(rows), Err),
                Message::DataRow(body) => rows.push(row(&body).map_err(lost())?),
                Message::ErrorResponse(body) => {
                    let (error, is_fatal) = refused(&body).map_err(lost())?;
                    // If the connection is refused, the server is never ready.
                    if is_fatal {
                        return Err(error);
                    }
                    refusal = Some(error);
                }
                Message::AuthenticationCleartextPassword
                | Message::AuthenticationMd5Password(_)
                | Message::AuthenticationSasl(_) => return Err(unsupported("the server asks for a password")),
                Message::CopyInResponse(_) | Message::CopyOutResponse(_) => {
                    return Err(unsupported("COPY is not supported"));
                }
                _ => {}
            }
        }
    }

    fn read_message(&mut self) -> io::Result<Message> {
        let mut message = BytesMut::zeroed(5);
        self.stream.read_exact(&mut message)?;
        let length = Header::parse(&message)?.map_or(0, |header| header.len().unsigned_abs() as usize);
        if length > MESSAGE_LIMIT {
            return Err(io::Error::other("a message is longer than 64 MiB"));
        }
        message.resize(1 + length, 0);
        self.stream.read_exact(&mut message[5..])?;
        Message::parse(&mut message)?.ok_or_else(|| io::ErrorKind::InvalidData.into())
    }
}

impl Drop for Connection {
    /// Waits until the backend has ended, so that its database can be dropped or copied at once.
    fn drop(&mut self) {
        let mut message = BytesMut::new();
        frontend::terminate(&mut message);
        if self.stream.write_all(&message).is_ok() {
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
const MESSAGE_LIMIT: usize = 64 << 20;

fn row(body: &DataRowBody) -> io::Result<Vec<Option<String>>> {
    let text = |range: Range<usize>| String::from_utf8_lossy(&body.buffer()[range]).into_owned();
    body.ranges().map(|range| Ok(range.map(text))).collect()
}

/// Returns the server's error, and whether it closes the connection.
fn refused(body: &ErrorResponseBody) -> io::Result<(Error, bool)> {
    let fields =
        body.fields().map(|field| Ok((field.type_(), String::from_utf8_lossy(field.value_bytes()).into_owned())));
    let mut fields: BTreeMap<u8, String> = fields.collect()?;
    let mut field = |kind| fields.remove(&kind).unwrap_or_default();
    let (message, sqlstate) = (field(b'M'), field(b'C'));
    let message = match field(b'D') {
        detail if detail.is_empty() => message,
        detail => format!("{message}: {detail}"),
    };
    Ok((Error::Sql { sqlstate, message }, field(b'S') == "FATAL"))
}

fn unsupported(what: &str) -> Error {
    Error::Program { name: "communication with the server".into(), output: what.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_is_quoted() {
        assert_eq!(quoted("a\"b"), "\"a\"\"b\"");
    }
}
