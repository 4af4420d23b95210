//! Whether and how a connection is encrypted.

use super::parameters::Parameters;
use super::surroundings::Surroundings;
use super::target::Reader;
use crate::Error;
use std::path::PathBuf;

/// Whether and how connections are encrypted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// `sslmode`.
    pub mode: SslMode,
    /// Which certificates are trusted.
    pub roots: Roots,
    /// The client's certificate and its key, both PEM files.
    pub client: Option<(PathBuf, PathBuf)>,
    /// Whether TLS begins at once, without asking the server: `sslnegotiation=direct`.
    pub direct: bool,
    /// `channel_binding`.
    pub channel_binding: ChannelBinding,
}

/// Whether connections are encrypted, and what is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SslMode {
    /// Never.
    Disable,
    /// Only when the server refuses otherwise.
    Allow,
    /// When the server can.
    Prefer,
    /// Always; the certificate is not looked at.
    Require,
    /// Always; the certificate has to be signed by one that is trusted.
    VerifyCa,
    /// Always; it also has to bear the host's name.
    VerifyFull,
}

/// Which certificates are trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Roots {
    /// Those that the system trusts.
    System,
    /// Those in a PEM file.
    File(PathBuf),
}

/// Whether the password's proof is bound to the TLS connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChannelBinding {
    /// Never.
    Disable,
    /// When the server can.
    Prefer,
    /// Always.
    Require,
}

impl SslMode {
    /// Returns the name that the mode has in a connection string.
    pub fn name(self) -> &'static str {
        let named = MODES.iter().find(|(_, mode)| *mode == self);
        named.map_or("", |(name, _)| name)
    }

    /// Returns whether a connection without TLS is out of the question.
    pub fn is_strict(self) -> bool {
        matches!(self, SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull)
    }
}

const MODES: [(&str, SslMode); 6] = [
    ("disable", SslMode::Disable),
    ("allow", SslMode::Allow),
    ("prefer", SslMode::Prefer),
    ("require", SslMode::Require),
    ("verify-ca", SslMode::VerifyCa),
    ("verify-full", SslMode::VerifyFull),
];

impl Tls {
    pub(super) fn read(found: &Parameters, surroundings: &dyn Surroundings) -> Result<Tls, Error> {
        let reader = Reader { found, surroundings };
        let is_system = found.filled("sslrootcert") == Some("system");
        let default = match found.filled("requiressl") {
            _ if is_system => SslMode::VerifyFull,
            Some("1") => SslMode::Require,
            _ => SslMode::Prefer,
        };
        let mut mode = reader.one_of("sslmode", &MODES, default)?;
        if is_system && mode != SslMode::VerifyFull {
            return Err(Error::invalid("sslrootcert=system wants sslmode=verify-full: anyone can have a certificate"));
        }
        let in_home = |name: &str| surroundings.home().map(|home| home.join(".postgresql").join(name));
        let there = |path: PathBuf| surroundings.exists(&path).then_some(path);
        let roots = match found.filled("sslrootcert").filter(|_| !is_system).map(PathBuf::from) {
            None if !is_system => in_home("root.crt").and_then(there),
            named => named,
        };
        let missing = |parameter: &str, path: &PathBuf| {
            Error::invalid(format!("{}: there is no file {}", found.described(parameter), path.display()))
        };
        if let Some(path) = roots.as_ref().filter(|path| mode.is_strict() && !surroundings.exists(path)) {
            return Err(missing("sslrootcert", path));
        }
        // As libpq: who has named a root wants it looked at.
        if mode == SslMode::Require && roots.is_some() {
            mode = SslMode::VerifyCa;
        }
        let direct = reader.one_of("sslnegotiation", &[("postgres", false), ("direct", true)], false)?;
        if direct && !mode.is_strict() {
            return Err(Error::invalid("sslnegotiation=direct wants sslmode=require, verify-ca or verify-full"));
        }
        let choices = [
            ("disable", ChannelBinding::Disable),
            ("prefer", ChannelBinding::Prefer),
            ("require", ChannelBinding::Require),
        ];
        let certificate = found.filled("sslcert").map(PathBuf::from);
        let certificate = certificate.or_else(|| in_home("postgresql.crt").and_then(there));
        let client = match (certificate, mode) {
            (None, _) | (_, SslMode::Disable) => None,
            (Some(certificate), _) => {
                let key = found.filled("sslkey").map(PathBuf::from).or_else(|| in_home("postgresql.key"));
                let unnamed = || Error::invalid("sslcert is given without sslkey, the file of its private key");
                let key = key.ok_or_else(unnamed)?;
                if let Some(path) = [&certificate, &key].into_iter().find(|path| !surroundings.exists(path)) {
                    return Err(missing(if *path == key { "sslkey" } else { "sslcert" }, path));
                }
                if !surroundings.is_private(&key) {
                    let key = key.display();
                    return Err(Error::invalid(format!("other users can read the private key {key}: chmod 600 {key}")));
                }
                Some((certificate, key))
            }
        };
        Ok(Tls {
            mode,
            roots: roots.map_or(Roots::System, Roots::File),
            client,
            direct,
            channel_binding: reader.one_of("channel_binding", &choices, ChannelBinding::Prefer)?,
        })
    }
}
