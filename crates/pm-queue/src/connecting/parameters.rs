//! The connection parameters: their names, their environment variables, and how pm supports them.

use crate::Error;
use std::collections::BTreeMap;

/// How pm supports a parameter of libpq.
enum Use {
    /// It has the same effect as in libpq.
    Full,
    /// It is accepted and ignored, because it makes no difference.
    None,
    /// Only these values are accepted, which make no difference; others are refused.
    Only(&'static [&'static str]),
}

/// Every parameter of libpq, its environment variable, and how pm supports it.
const KNOWN: [(&str, &str, Use); 47] = [
    ("host", "PGHOST", Use::Full),
    ("hostaddr", "PGHOSTADDR", Use::Full),
    ("port", "PGPORT", Use::Full),
    ("dbname", "PGDATABASE", Use::Full),
    ("user", "PGUSER", Use::Full),
    ("password", "PGPASSWORD", Use::Full),
    ("passfile", "PGPASSFILE", Use::Full),
    ("service", "PGSERVICE", Use::Full),
    ("servicefile", "PGSERVICEFILE", Use::Full),
    ("options", "PGOPTIONS", Use::Full),
    ("application_name", "PGAPPNAME", Use::Full),
    ("fallback_application_name", "", Use::Full),
    ("connect_timeout", "PGCONNECT_TIMEOUT", Use::Full),
    ("target_session_attrs", "PGTARGETSESSIONATTRS", Use::Full),
    ("load_balance_hosts", "PGLOADBALANCEHOSTS", Use::Full),
    ("keepalives", "", Use::Full),
    ("keepalives_idle", "", Use::Full),
    ("keepalives_interval", "", Use::Full),
    ("keepalives_count", "", Use::Full),
    ("tcp_user_timeout", "", Use::Full),
    ("sslmode", "PGSSLMODE", Use::Full),
    ("requiressl", "PGREQUIRESSL", Use::Full),
    ("sslnegotiation", "PGSSLNEGOTIATION", Use::Full),
    ("sslcert", "PGSSLCERT", Use::Full),
    ("sslkey", "PGSSLKEY", Use::Full),
    ("sslrootcert", "PGSSLROOTCERT", Use::Full),
    ("channel_binding", "PGCHANNELBINDING", Use::Full),
    ("sslcompression", "PGSSLCOMPRESSION", Use::None),
    ("sslsni", "PGSSLSNI", Use::Only(&["1"])),
    ("sslcertmode", "PGSSLCERTMODE", Use::Only(&["allow"])),
    ("sslcrl", "PGSSLCRL", Use::Only(&[])),
    ("sslcrldir", "PGSSLCRLDIR", Use::Only(&[])),
    ("sslpassword", "", Use::Only(&[])),
    ("sslkeylogfile", "", Use::Only(&[])),
    ("ssl_min_protocol_version", "PGSSLMINPROTOCOLVERSION", Use::Only(&["TLSv1", "TLSv1.1", "TLSv1.2"])),
    ("ssl_max_protocol_version", "PGSSLMAXPROTOCOLVERSION", Use::Only(&["TLSv1.3"])),
    ("require_auth", "PGREQUIREAUTH", Use::Only(&[])),
    ("requirepeer", "PGREQUIREPEER", Use::Only(&[])),
    ("gssencmode", "PGGSSENCMODE", Use::Only(&["disable", "prefer"])),
    ("krbsrvname", "PGKRBSRVNAME", Use::None),
    ("gsslib", "PGGSSLIB", Use::None),
    ("gssdelegation", "PGGSSDELEGATION", Use::Only(&["0"])),
    ("replication", "", Use::Only(&["false", "off", "no", "0"])),
    ("client_encoding", "", Use::Only(&["UTF8", "utf8", "UTF-8", "utf-8", "auto"])),
    ("min_protocol_version", "PGMINPROTOCOLVERSION", Use::Only(&["3.0"])),
    ("max_protocol_version", "PGMAXPROTOCOLVERSION", Use::Only(&["3.0", "3.2", "latest"])),
    // A parameter of sqlx: how many statements it keeps prepared.
    ("statement-cache-capacity", "", Use::None),
];

/// Other names of parameters, used by tokio-postgres and sqlx.
const ALIASES: [(&str, &str); 6] = [
    ("keepalives_retries", "keepalives_count"),
    ("ssl-mode", "sslmode"),
    ("ssl-root-cert", "sslrootcert"),
    ("ssl-ca", "sslrootcert"),
    ("ssl-cert", "sslcert"),
    ("ssl-key", "sslkey"),
];

/// Returns a parameter's name in libpq, if it exists.
pub(super) fn known(name: &str) -> Option<&'static str> {
    let alias = ALIASES.iter().find(|(alias, _)| *alias == name).map(|(_, name)| *name);
    let name = alias.unwrap_or(name);
    KNOWN.iter().find(|(known, _, _)| *known == name).map(|(known, _, _)| *known)
}

/// Returns the error for a parameter that does not exist. The message contains the name only if it looks like one:
/// other text may be part of a password.
pub(super) fn unknown(name: &str, source: &str) -> Error {
    let plain = |c: char| c.is_ascii_lowercase() || matches!(c, '_' | '-');
    let named = match !name.is_empty() && name.len() <= 40 && name.chars().all(plain) {
        true => format!("an unknown parameter \"{name}\""),
        false => "a parameter with an unknown name".to_owned(),
    };
    Error::invalid(format!("{source} has {named}; docs/connecting.md lists the known ones"))
}

/// Where a parameter was set, if not in the connection string.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Origin {
    Variable(&'static str),
    Service(String),
}

/// Parameters by name, each with its value, and where it was set if not in the connection string.
#[derive(Default)]
pub(super) struct Parameters(BTreeMap<&'static str, (String, Option<Origin>)>);

impl Parameters {
    /// Sets a parameter of the connection string.
    pub(super) fn set(&mut self, name: &'static str, value: String) {
        self.0.insert(name, (value, None));
    }

    /// Sets a parameter unless it is set already.
    pub(super) fn set_default(&mut self, name: &'static str, value: String, origin: Origin) {
        self.0.entry(name).or_insert((value, Some(origin)));
    }

    /// Returns a value, which may be empty.
    pub(super) fn value(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(|(value, _)| value.as_str())
    }

    /// Returns a value that is not empty.
    pub(super) fn filled(&self, name: &str) -> Option<&str> {
        self.value(name).filter(|value| !value.is_empty())
    }

    /// Returns a parameter's name for an error message, with where it was set.
    pub(super) fn described(&self, name: &str) -> String {
        match self.0.get(name).and_then(|(_, origin)| origin.as_ref()) {
            None => format!("{name} in the connection string"),
            Some(Origin::Variable(variable)) => format!("the variable {variable}"),
            Some(Origin::Service(service)) => format!("{name} in the service \"{service}\""),
        }
    }

    /// Returns every parameter with its value.
    pub(super) fn all(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.0.iter().map(|(name, (value, _))| (*name, value.as_str()))
    }

    /// Returns the integer that a parameter is set to.
    pub(super) fn number(&self, name: &str) -> Result<Option<i32>, Error> {
        let Some(text) = self.filled(name) else { return Ok(None) };
        let wrong = || Error::invalid(format!("{} is not an integer", self.described(name)));
        text.trim().parse().map(Some).map_err(|_| wrong())
    }

    /// Returns the choice that a parameter is set to, or the default.
    pub(super) fn one_of<T: Copy>(&self, name: &str, choices: &[(&str, T)], default: T) -> Result<T, Error> {
        let Some(text) = self.filled(name) else { return Ok(default) };
        let chosen = choices.iter().find(|(choice, _)| *choice == text).map(|(_, value)| *value);
        chosen.ok_or_else(|| {
            let all: Vec<_> = choices.iter().map(|(choice, _)| *choice).collect();
            Error::invalid(format!("{} is not one of {}", self.described(name), all.join(", ")))
        })
    }

    /// Refuses parameters that pm does not support. Errors: `Invalid`, naming the parameter and where it was set.
    pub(super) fn check_supported(&self) -> Result<(), Error> {
        for (name, _, support) in &KNOWN {
            let Use::Only(allowed) = support else { continue };
            let Some(value) = self.filled(name) else { continue };
            if !allowed.contains(&value) {
                let but = if allowed.is_empty() { String::new() } else { format!(" except as {}", allowed.join(", ")) };
                return Err(Error::invalid(format!("{} is not supported{but}: remove it", self.described(name))));
            }
        }
        Ok(())
    }
}

/// Returns whether a parameter has an effect on libpq, and every libpq since Postgres 14 knows it.
pub(super) fn is_known_to_every_libpq(name: &str) -> bool {
    const NEWER: [&str; 3] = ["load_balance_hosts", "sslnegotiation", "servicefile"];
    // They make no difference to pm, but to libpq.
    const OF_LIBPQ: [&str; 4] = ["gssencmode", "ssl_min_protocol_version", "ssl_max_protocol_version", "sslsni"];
    let has_effect = KNOWN.iter().any(|(known, _, usage)| *known == name && matches!(usage, Use::Full));
    (has_effect && !NEWER.contains(&name)) || OF_LIBPQ.contains(&name)
}

/// Returns every environment variable with the name of its parameter.
pub(super) fn variables() -> impl Iterator<Item = (&'static str, &'static str)> {
    KNOWN.iter().filter(|(_, variable, _)| !variable.is_empty()).map(|(name, variable, _)| (*variable, *name))
}
