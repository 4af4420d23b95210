//! Connection strings for programs that use libpq, such as `psql` and `pg_dump`.

use super::conninfo;
use super::parameters::{self, Parameters};
use crate::Error;
use std::fmt;

/// A connection string in a form that every libpq since Postgres 14 understands.
///
/// libpq completes it from the same environment variables and files as pm does.
#[derive(Clone, PartialEq, Eq)]
pub struct Libpq {
    /// The parameters as `key='value'` pairs. They contain no password, so they may be passed as a program's argument.
    pub pairs: String,
    /// Environment variables to set for the program: the password, the path of the service file.
    pub variables: Vec<(&'static str, String)>,
    /// What belongs in its environment unless it is there: pm takes the first of several hosts that accepts writes.
    pub defaults: Vec<(&'static str, &'static str)>,
}

impl fmt::Debug for Libpq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Libpq").field("pairs", &self.pairs).finish_non_exhaustive()
    }
}

impl Libpq {
    /// Parses a connection string, a URL or `key=value` pairs, in any spelling that pm accepts.
    ///
    /// # Errors
    ///
    /// `Invalid`, without a password in the message.
    pub fn read(text: &str) -> Result<Libpq, Error> {
        let found: Parameters = conninfo::parse(text)?;
        let (mut pairs, mut variables) = (Vec::new(), Vec::new());
        for (name, value) in found.all() {
            match name {
                "password" | "servicefile" if value.is_empty() => {}
                "password" => variables.push(("PGPASSWORD", value.to_owned())),
                "servicefile" => variables.push(("PGSERVICEFILE", value.to_owned())),
                name if parameters::is_known_to_every_libpq(name) => pairs.push(pair(name, value)),
                _ => {}
            }
        }
        let has_choice =
            ["host", "hostaddr"].iter().any(|name| found.value(name).is_some_and(|hosts| hosts.contains(',')));
        let is_open = has_choice && found.value("target_session_attrs").is_none();
        let defaults = is_open.then_some(("PGTARGETSESSIONATTRS", "read-write")).into_iter().collect();
        Ok(Libpq { pairs: pairs.join(" "), variables, defaults })
    }
}

fn pair(name: &str, value: &str) -> String {
    format!("{name}='{}'", value.replace('\\', r"\\").replace('\'', r"\'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pairs_never_contain_a_password() {
        for (text, pairs, password) in [
            ("postgres://ada:hunter2@db:5433/app", "dbname='app' host='db' port='5433' user='ada'", Some("hunter2")),
            ("postgres://ada:a%40b%3A@db/app", "dbname='app' host='db' user='ada'", Some("a@b:")),
            ("postgres://ada@%2Ftmp/app", "dbname='app' host='/tmp' user='ada'", None),
            ("postgres://ada:@db", "host='db' user='ada'", None),
            ("postgres://db/app?user=ada&password=x%26y", "dbname='app' host='db' user='ada'", Some("x&y")),
            ("postgres://db/app?pass%77ord=xyz", "dbname='app' host='db'", Some("xyz")),
            ("host=db password=hunter2 user=ada", "host='db' user='ada'", Some("hunter2")),
            (r"host = 'a b' password = 'hun\'ter 2'  user=a\'b\\", r"host='a b' user='a\'b\\'", Some("hun'ter 2")),
            ("", "", None),
        ] {
            let variables: Vec<_> = password.map(|password| ("PGPASSWORD", password.to_owned())).into_iter().collect();
            let read = Libpq::read(text).unwrap();
            assert_eq!((read.pairs.as_str(), &read.variables), (pairs, &variables), "{text}");
            assert!(!format!("{read:?}").contains(password.unwrap_or("no password")), "{text}");
        }
    }

    #[test]
    fn of_several_hosts_the_one_that_accepts_writes_is_used_unless_the_string_says_otherwise() {
        for (text, defaults) in [
            ("postgres://one,two/app", &[("PGTARGETSESSIONATTRS", "read-write")][..]),
            ("postgres://one,two/app?target_session_attrs=any", &[]),
            ("postgres://one/app", &[]),
            ("hostaddr=10.0.0.1,10.0.0.2 dbname=", &[("PGTARGETSESSIONATTRS", "read-write")]),
        ] {
            assert_eq!(Libpq::read(text).unwrap().defaults, defaults, "{text}");
        }
    }

    #[test]
    fn parameters_that_not_every_libpq_knows_are_translated_or_left_out() {
        for (parameter, pairs) in [
            ("ssl-mode=require", "sslmode='require'"),
            ("ssl-root-cert=/a", "sslrootcert='/a'"),
            ("ssl-ca=/a", "sslrootcert='/a'"),
            ("ssl-cert=/a", "sslcert='/a'"),
            ("ssl-key=/a", "sslkey='/a'"),
            ("keepalives_retries=3", "keepalives_count='3'"),
            ("statement-cache-capacity=5", ""),
            ("load_balance_hosts=random", ""),
            ("sslnegotiation=direct", ""),
            ("sslcertmode=allow", ""),
            ("gssdelegation=0", ""),
            ("max_protocol_version=3.2", ""),
            ("gssencmode=disable", "gssencmode='disable'"),
            ("options=", "options=''"),
        ] {
            let read = Libpq::read(&format!("postgres:///?{parameter}")).unwrap();
            assert_eq!((read.pairs.as_str(), read.variables.len()), (pairs, 0), "{parameter}");
        }
        let read = Libpq::read("service=jobs servicefile=/etc/services").unwrap();
        assert_eq!(read.pairs, "service='jobs'");
        assert_eq!(read.variables, [("PGSERVICEFILE", "/etc/services".to_owned())]);
    }
}
