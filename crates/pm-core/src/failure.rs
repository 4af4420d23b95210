//! What went wrong between us and the database, and what may be done about it.

use crate::statement::SEARCH_PATH_SETTING;
use std::fmt;

/// Why a statement has no reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    class: Class,
    sqlstate: Option<String>,
    constraint: Option<String>,
    message: String,
}

/// What a failure allows. This is the only place that looks at SQLSTATE.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// It surely did not run; the same statement may succeed later.
    Retry,
    /// It surely did not run, because rows are locked or it took too long; a smaller batch may pass.
    Blocked,
    /// It may have run: the connection was lost, or no reply came in time.
    Unknown,
    /// It did not run and never will as it is.
    Permanent,
}

impl Failure {
    /// Returns the failure that the server reported with this SQLSTATE (Postgres manual, appendix A).
    pub fn reported(sqlstate: &str, constraint: Option<&str>, message: impl Into<String>) -> Self {
        Failure {
            class: classify(sqlstate),
            sqlstate: Some(sqlstate.to_owned()),
            constraint: constraint.map(str::to_owned),
            message: message.into(),
        }
    }

    /// Returns the failure of a statement that was never sent: no connection could be had.
    pub fn not_sent(message: impl Into<String>) -> Self {
        Failure { class: Class::Retry, sqlstate: None, constraint: None, message: message.into() }
    }

    /// Returns the failure of a statement that was sent and not answered.
    pub fn no_reply(message: impl Into<String>) -> Self {
        Failure { class: Class::Unknown, sqlstate: None, constraint: None, message: message.into() }
    }

    /// Returns the failure of a statement that cannot be sent at all: a value that the protocol cannot carry.
    pub fn unsendable(message: impl Into<String>) -> Self {
        Failure { class: Class::Permanent, sqlstate: None, constraint: None, message: message.into() }
    }

    /// Returns the failure of a word about a job that someone has locked: as the server reports a lock it cannot have.
    pub(crate) fn locked() -> Self {
        Failure::reported("55P03", None, "another transaction has locked the job")
    }

    /// Returns the failure to connect to a server: what that server told, if it told something clear, or else where it
    /// should be, and why nothing came of it. `place` must hold no password.
    ///
    /// Whatever went wrong: no statement was sent.
    pub fn unreachable(place: &str, told: Option<Failure>, why: impl fmt::Display) -> Self {
        let clear = |told: &Failure| told.class != Class::Unknown || told.is_pooler();
        told.filter(clear).unwrap_or_else(|| Failure::not_sent(format!("cannot connect to {place}: {why}")))
    }

    /// Returns the failure with what the server said in detail, if it did.
    pub fn with_detail(mut self, detail: Option<&str>) -> Self {
        if let Some(detail) = detail {
            self.message = format!("{} ({detail})", self.message);
        }
        self
    }

    /// Returns what the failure allows.
    pub fn class(&self) -> Class {
        self.class
    }

    /// Returns the server's code, if it was the server that spoke.
    pub fn sqlstate(&self) -> Option<&str> {
        self.sqlstate.as_deref()
    }

    /// Returns the constraint that refused, if one did.
    pub fn constraint(&self) -> Option<&str> {
        self.constraint.as_deref()
    }

    /// Returns the words of the server or the driver.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Returns whether pm's tables are missing or not as this version expects them.
    pub fn is_schema(&self) -> bool {
        // invalid_schema_name, undefined_table, undefined_column, undefined_function
        matches!(self.sqlstate(), Some("3F000" | "42P01" | "42703" | "42883"))
    }

    /// Returns whether the role lacks a privilege.
    pub fn is_forbidden(&self) -> bool {
        // insufficient_privilege
        self.sqlstate() == Some("42501")
    }

    /// Returns whether the encoding of the database cannot store a character of a text.
    pub fn is_unstorable(&self) -> bool {
        // character_not_in_repertoire, untranslatable_character
        matches!(self.sqlstate(), Some("22021" | "22P05"))
    }

    /// Returns whether the statement was refused because a schema stands before `pg_catalog` in the `search_path`:
    /// operators of that schema would have run in place of Postgres's own.
    pub fn is_search_path(&self) -> bool {
        // undefined_object
        self.sqlstate() == Some("42704") && self.message.contains(SEARCH_PATH_SETTING)
    }

    /// Returns whether a transaction pooler shows itself: what is said of a session is lost between two statements.
    pub fn is_pooler(&self) -> bool {
        match self.sqlstate() {
            // PgBouncer, when a connection starts with settings
            Some("08P01") => self.message.contains("unsupported startup parameter"),
            // Amazon's proxy, likewise
            Some("0A000") => self.message.contains("command-line options"),
            // invalid_sql_statement_name, duplicate_prepared_statement: other sessions prepared and forgot on our server
            Some(code) => matches!(code, POOLER_SQLSTATE | "26000" | "42P05"),
            None => false,
        }
    }

    /// Returns whether the server ended the statement because it took too long, for whatever reason.
    pub(crate) fn took_too_long(&self) -> bool {
        self.sqlstate() == Some("57014")
    }

    /// Returns whether the server takes no writes: a standby, or one told so.
    pub fn is_read_only(&self) -> bool {
        self.sqlstate() == Some("25006")
    }

    /// Returns whether the connection it happened on is good for further statements: the server itself has spoken.
    ///
    /// One that takes no writes may have been the primary until a moment ago: a new connection may lead elsewhere.
    pub fn spares_connection(&self) -> bool {
        // in_failed_sql_transaction: another user of the pool left it so.
        self.sqlstate.is_some() && !self.is_read_only() && !self.ends_session() && self.sqlstate() != Some("25P02")
    }

    /// Returns whether the server ended the session with it, so that a new connection is needed.
    pub fn ends_session(&self) -> bool {
        // idle_in_transaction_session_timeout, transaction_timeout, admin_shutdown, crash_shutdown, database_dropped,
        // idle_session_timeout
        matches!(self.sqlstate(), Some("25P03" | "25P04" | "57P01" | "57P02" | "57P04" | "57P05"))
    }

    /// Returns whether no server could be reached, or none answered.
    pub fn is_connection(&self) -> bool {
        match self.sqlstate() {
            _ if self.is_pooler() => false,
            None => self.class != Class::Permanent,
            Some(code) => code.starts_with("08") || code.starts_with("57P") || code == "53300" || self.ends_session(),
        }
    }
}

/// What a session that has lost its own settings is told; see [`Failure::is_pooler`].
pub const POOLER_SQLSTATE: &str = "PM001";

fn classify(sqlstate: &str) -> Class {
    match sqlstate {
        // lock_not_available, query_canceled (statement_timeout), transaction_timeout
        "55P03" | "57014" | "25P04" => Class::Blocked,
        // admin_shutdown, crash_shutdown: the backend went away, perhaps after the commit
        "57P01" | "57P02" => Class::Unknown,
        // sqlclient_unable_to_establish_sqlconnection, sqlserver_rejected_establishment_of_sqlconnection
        "08001" | "08004" => Class::Retry,
        // statement_completion_unknown
        "40003" => Class::Unknown,
        // object_in_use and its kind; read_only_sql_transaction (a standby after a failover); in_failed_sql_transaction and
        // idle_in_transaction_session_timeout (of a transaction that someone left open on a pool's connection);
        // snapshot_too_old
        "55006" | "25006" | "25P02" | "25P03" | "72000" => Class::Retry,
        _ => match sqlstate.get(..2) {
            // connection exceptions: PgBouncer says 08P01 when its server went away in the middle of a statement
            Some("08") => Class::Unknown,
            // transaction rollback, insufficient resources, operator intervention, system error
            Some("40" | "53" | "57" | "58") => Class::Retry,
            _ => Class::Permanent,
        },
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.sqlstate {
            Some(code) => write!(f, "{} (SQLSTATE {code})", self.message),
            None => f.write_str(&self.message),
        }
    }
}

impl std::error::Error for Failure {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_trouble_has_its_class() {
        for (code, class) in [
            ("40P01", Class::Retry),
            ("40001", Class::Retry),
            ("40003", Class::Unknown),
            ("55P03", Class::Blocked),
            ("57014", Class::Blocked),
            ("57P01", Class::Unknown),
            ("08P01", Class::Unknown),
            ("08006", Class::Unknown),
            ("08001", Class::Retry),
            ("57P03", Class::Retry),
            ("53300", Class::Retry),
            ("53100", Class::Retry),
            ("25006", Class::Retry),
            ("25P02", Class::Retry),
            ("25P03", Class::Retry),
            ("25P04", Class::Blocked),
            ("57000", Class::Retry),
            ("57P02", Class::Unknown),
            ("57P04", Class::Retry),
            ("57P05", Class::Retry),
            ("53000", Class::Retry),
            ("53200", Class::Retry),
            ("53400", Class::Retry),
            ("55006", Class::Retry),
            ("58000", Class::Retry),
            ("58030", Class::Retry),
            ("58P01", Class::Retry),
            ("72000", Class::Retry),
            ("25001", Class::Permanent),
            ("54000", Class::Permanent),
            ("55000", Class::Permanent),
            ("0A000", Class::Permanent),
            // Bugs and broken files must be seen.
            ("XX000", Class::Permanent),
            ("XX001", Class::Permanent),
            ("23505", Class::Permanent),
            ("22021", Class::Permanent),
            ("42501", Class::Permanent),
            ("42P01", Class::Permanent),
            ("", Class::Permanent),
            ("é", Class::Permanent),
        ] {
            assert_eq!(Failure::reported(code, None, "").class(), class, "{code}");
        }
    }

    #[test]
    fn what_the_server_ends_with_the_session_is_sent_again_on_a_new_connection() {
        for code in ["25P03", "25P04", "57P01", "57P02", "57P04", "57P05"] {
            let failure = Failure::reported(code, None, "terminating connection");
            assert!(failure.ends_session() && !failure.spares_connection() && failure.is_connection(), "{code}");
            assert_ne!(failure.class(), Class::Permanent, "{code}");
        }
        let left_open = Failure::reported("25P02", None, "current transaction is aborted");
        assert!(!left_open.spares_connection() && !left_open.ends_session());
        assert!(Failure::reported("57014", None, "canceled").spares_connection());
    }

    #[test]
    fn a_pooler_shows_itself() {
        for (code, message) in [
            ("08P01", "unsupported startup parameter: extra_float_digits"),
            ("08P01", "unsupported startup parameter in options: pm.session"),
            ("0A000", "Feature not supported: RDS Proxy currently doesn't support command-line options."),
            ("26000", "prepared statement \"s1\" does not exist"),
            ("42P05", "prepared statement \"s1\" already exists"),
            (POOLER_SQLSTATE, ""),
        ] {
            let failure = Failure::reported(code, None, message);
            assert!(failure.is_pooler() && !failure.is_connection(), "{code}");
            assert_eq!(Failure::unreachable("there:1", Some(failure.clone()), "why"), failure);
        }
        assert!(!Failure::reported("08P01", None, "server conn crashed?").is_pooler());
        assert!(!Failure::reported("0A000", None, "cross-database references are not implemented").is_pooler());
        let unclear = Failure::reported("08P01", None, "server conn crashed?");
        let unreachable = Failure::unreachable("there:1", Some(unclear), "server conn crashed?");
        assert_eq!(unreachable, Failure::not_sent("cannot connect to there:1: server conn crashed?"));
    }

    #[test]
    fn silence_after_sending_is_unknown() {
        assert_eq!(Failure::no_reply("cut").class(), Class::Unknown);
        assert_eq!(Failure::not_sent("refused").class(), Class::Retry);
        assert!(Failure::no_reply("cut").is_connection());
        assert!(!Failure::unsendable("too long").is_connection());
    }
}
