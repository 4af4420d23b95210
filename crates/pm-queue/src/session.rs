//! What drivers say on connections of our own before the first statement.

use crate::{ConnectOptions, Error};
use pm_core::op::advance_positions_script;
use pm_core::{POOLER_SQLSTATE, SchemaName};

/// The longest name of an application, in bytes. The server shows the first 63.
const MOST_NAME_BYTES: usize = 1_000;

/// Returns the name that connections show the server: the URL's own, or else that of the options.
///
/// # Errors
///
/// `Invalid` for one over 1,000 bytes or with NUL: with that, no server would let anyone in.
pub fn application_name(of_url: Option<&str>, options: &ConnectOptions) -> Result<String, Error> {
    let name = of_url.unwrap_or(&options.application_name);
    if name.len() > MOST_NAME_BYTES || name.contains('\0') {
        let rule = format!("it may have at most {MOST_NAME_BYTES} bytes, and no NUL");
        return Err(Error::invalid(format!("the application_name of {} bytes cannot be sent: {rule}", name.len())));
    }
    Ok(name.to_owned())
}

/// A setting, name and value, that a connection of our own starts with, as the start-up parameter `options` carries it.
///
/// A transaction pooler refuses it or swallows it. [`opening_script`] and [`listen_script`] notification, and set nothing then:
/// what is set on a pooler's session would befall other programs.
pub const SESSION_MARK: (&str, &str) = ("pm.session", "own");

/// Returns the SQL that sets up a connection of our own: timeouts, and plans that stay on the indexes whatever the
/// tables held when the statements were prepared. Send it as a simple query; the connection bears [`SESSION_MARK`].
/// It is empty when the options speak of a transaction pooler.
///
/// It fails with a [`Failure`](crate::Failure) that [shows the pooler](crate::Failure::is_pooler) if one stands between.
pub fn opening_script(options: &ConnectOptions) -> String {
    match options.pooler {
        true => String::new(),
        false => {
            // A connection that opens may have been led to another server, by a failover that left sequences behind.
            let advance = SchemaName::new(&options.schema).map(|schema| advance_positions_script(&schema));
            format!("{}; {}; {}", session_guard(), options.session_script(), advance.unwrap_or_default())
        }
    }
}

/// Returns the SQL with which a connection that bears [`SESSION_MARK`] listens on a channel. Send it as a simple query.
///
/// It fails as [`opening_script`] does: through a transaction pooler nothing is ever heard.
pub fn listen_script(channel: &str) -> String {
    format!("{}; set idle_session_timeout = 0; listen \"{}\"", session_guard(), channel.replace('"', "\"\""))
}

/// Returns the SQL that looks whether the connection still bears [`SESSION_MARK`]. Send it as a simple query.
///
/// It fails as [`opening_script`] does.
pub fn session_guard() -> String {
    let (name, value) = SESSION_MARK;
    format!(
        "do $pm$ begin if coalesce(pg_catalog.current_setting('{name}', true), '') operator(pg_catalog.<>) '{value}' then \
         raise exception using errcode = '{POOLER_SQLSTATE}', message = 'the session is not kept'; end if; end $pm$"
    )
}
