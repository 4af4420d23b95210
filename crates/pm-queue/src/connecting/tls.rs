//! The TLS parameters of a connection.

use super::parameters::Parameters;
use super::surroundings::Surroundings;
use crate::Error;
use std::path::PathBuf;

/// The TLS parameters: whether connections are encrypted, and which certificates are used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// The parameter `sslmode`.
    pub mode: SslMode,
    /// The trusted root certificates.
    pub roots: Roots,
    /// The paths of the client's certificate and its private key, both PEM files.
    pub client: Option<(PathBuf, PathBuf)>,
    /// Whether TLS starts at once, without asking the server first: `sslnegotiation=direct`.
    pub direct: bool,
    /// The parameter `channel_binding`.
    pub channel_binding: ChannelBinding,
}

/// Whether connections are encrypted, and what is verified: the parameter `sslmode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SslMode {
    /// Never encrypted.
    Disable,
    /// Encrypted only if the server refuses an unencrypted connection.
    Allow,
    /// Encrypted if the server supports it.
    Prefer,
    /// Always encrypted; the server's certificate is not verified.
    Require,
    /// Always encrypted; a trusted root must have signed the certificate.
    VerifyCa,
    /// Always encrypted; as `VerifyCa`, and the certificate must be for the host's name.
    VerifyFull,
}

/// The trusted root certificates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Roots {
    /// The system's trusted roots.
    System,
    /// The certificates in a PEM file.
    File(PathBuf),
}

/// Whether password authentication is bound to the TLS connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChannelBinding {
    /// Never.
    Disable,
    /// If the server supports it.
    Prefer,
    /// Always.
    Require,
}

impl SslMode {
    /// Returns the mode's name in a connection string.
    pub fn name(self) -> &'static str {
        let named = MODES.iter().find(|(_, mode)| *mode == self);
        named.map_or("", |(name, _)| name)
    }

    /// Returns whether unencrypted connections are refused.
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
        let is_system = found.filled("sslrootcert") == Some("system");
        let default = match found.filled("requiressl") {
            _ if is_system => SslMode::VerifyFull,
            Some("1") => SslMode::Require,
            _ => SslMode::Prefer,
        };
        let mut mode = found.one_of("sslmode", &MODES, default)?;
        if is_system && mode != SslMode::VerifyFull {
            return Err(Error::invalid(
                "sslrootcert=system requires sslmode=verify-full: anyone can get a certificate",
            ));
        }
        let in_home = |name: &str| surroundings.home().map(|home| home.join(".postgresql").join(name));
        let if_exists = |path: PathBuf| surroundings.exists(&path).then_some(path);
        let roots = match found.filled("sslrootcert").filter(|_| !is_system).map(PathBuf::from) {
            None if !is_system => in_home("root.crt").and_then(if_exists),
            named => named,
        };
        let missing = |parameter: &str, path: &PathBuf| {
            Error::invalid(format!("{}: the file {} does not exist", found.described(parameter), path.display()))
        };
        if let Some(path) = roots.as_ref().filter(|path| mode.is_strict() && !surroundings.exists(path)) {
            return Err(missing("sslrootcert", path));
        }
        // As in libpq, a root certificate implies verification.
        if mode == SslMode::Require && roots.is_some() {
            mode = SslMode::VerifyCa;
        }
        let direct = found.one_of("sslnegotiation", &[("postgres", false), ("direct", true)], false)?;
        if direct && !mode.is_strict() {
            return Err(Error::invalid("sslnegotiation=direct requires sslmode=require, verify-ca or verify-full"));
        }
        let choices = [
            ("disable", ChannelBinding::Disable),
            ("prefer", ChannelBinding::Prefer),
            ("require", ChannelBinding::Require),
        ];
        let certificate = found.filled("sslcert").map(PathBuf::from);
        let certificate = certificate.or_else(|| in_home("postgresql.crt").and_then(if_exists));
        let client = match (certificate, mode) {
            (None, _) | (_, SslMode::Disable) => None,
            (Some(certificate), _) => {
                let key = found.filled("sslkey").map(PathBuf::from).or_else(|| in_home("postgresql.key"));
                let no_key = || Error::invalid("sslcert is set without sslkey, the file of its private key");
                let key = key.ok_or_else(no_key)?;
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
            channel_binding: found.one_of("channel_binding", &choices, ChannelBinding::Prefer)?,
        })
    }
}
