//! The SQL with which drivers set up their own connections.

use crate::{ConnectOptions, Error};
use pm_core::op::advance_positions_script;
use pm_core::{POOLER_SQLSTATE, SchemaName};

/// The longest `application_name`, in bytes. The server keeps the first 63.
const MAX_NAME_BYTES: usize = 1_000;

/// Returns the `application_name` of the connections: the URL's if it has one, otherwise that of the options. For
/// driver authors.
///
/// # Errors
///
/// `Invalid` for a name over 1,000 bytes or with NUL, with which no server accepts a connection.
pub fn application_name(of_url: Option<&str>, options: &ConnectOptions) -> Result<String, Error> {
    let name = of_url.unwrap_or(&options.application_name);
    if name.len() > MAX_NAME_BYTES || name.contains('\0') {
        let rule = format!("at most {MAX_NAME_BYTES} bytes without NUL are allowed");
        return Err(Error::invalid(format!("the application_name of {} bytes cannot be sent: {rule}", name.len())));
    }
    Ok(name.to_owned())
}

/// A setting, name and value, that a driver puts into the start-up parameter `options` of its own connections. For
/// driver authors.
///
/// A transaction pooler refuses it or drops it. [`opening_script`] and [`listen_script`] detect that and change
/// nothing in the session, which other programs may share.
pub const SESSION_MARK: (&str, &str) = ("pm.session", "own");

/// Returns the SQL that sets up a driver's own connection: timeouts, and planner settings that keep plans on the
/// indexes, whatever the tables contained when a statement was prepared. For driver authors.
///
/// Send it as a simple query on a connection that was opened with [`SESSION_MARK`]. It is empty when
/// [`ConnectOptions::pooler`] is set. It fails with a [`Failure`](crate::Failure) whose
/// [`is_pooler`](crate::Failure::is_pooler) is true if there is a transaction pooler all the same.
pub fn opening_script(options: &ConnectOptions) -> String {
    match options.pooler {
        true => String::new(),
        false => {
            // A new connection may be to another server, after a failover that left sequences behind.
            let advance = SchemaName::new(&options.schema).map(|schema| advance_positions_script(&schema));
            format!("{}; {}; {}", session_guard(), options.session_script(), advance.unwrap_or_default())
        }
    }
}

/// Returns the SQL with which a connection that was opened with [`SESSION_MARK`] listens on a channel. Send it as a
/// simple query. For driver authors.
///
/// It fails as [`opening_script`] does, because no notification comes through a transaction pooler.
pub fn listen_script(channel: &str) -> String {
    format!("{}; set idle_session_timeout = 0; listen \"{}\"", session_guard(), channel.replace('"', "\"\""))
}

/// Returns the SQL that checks whether the session has the setting [`SESSION_MARK`]. Send it as a simple query. For
/// driver authors.
///
/// It fails as [`opening_script`] does.
pub fn session_guard() -> String {
    let (name, value) = SESSION_MARK;
    format!(
        "do $pm$ begin if coalesce(pg_catalog.current_setting('{name}', true), '') \
         operator(pg_catalog.<>) '{value}' then \
         raise exception using errcode = '{POOLER_SQLSTATE}', \
         message = 'the settings of the session are lost'; end if; end $pm$"
    )
}
