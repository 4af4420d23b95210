//! Failures between the program and the database, classified by what can be done about them.

use crate::grants::RoleKind;
use crate::render::SEARCH_PATH_SETTING;
use std::fmt;

/// Why a statement did not return rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    class: Class,
    sqlstate: Option<String>,
    constraint: Option<String>,
    message: String,
    granting: Option<Advice>,
}

/// What would prevent a failure, if that is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Advice {
    /// Create or migrate pm's tables.
    Migrate,
    /// Connect to the server itself, or use the mode for transaction poolers.
    Pooler,
    /// Give the role the privileges of this kind; see [`grant_script`](crate::grants::grant_script).
    Grant {
        /// The name of the role.
        role: String,
        /// What the role is meant for.
        kind: RoleKind,
    },
}

/// What a failure means for the statement. Only this module interprets SQLSTATEs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// The statement did not take effect; the same statement may succeed later.
    Retry,
    /// The statement did not take effect, because rows are locked or it took too long; a smaller batch may succeed.
    Blocked,
    /// The statement may have taken effect: the connection was lost, or no reply came in time.
    Unknown,
    /// The statement did not take effect, and the same statement never will.
    Permanent,
}

impl Failure {
    /// Returns the failure that a server reported with this SQLSTATE (PostgreSQL manual, appendix A).
    pub fn reported(sqlstate: &str, constraint: Option<&str>, message: impl Into<String>) -> Self {
        Failure {
            sqlstate: Some(sqlstate.to_owned()),
            constraint: constraint.map(str::to_owned),
            ..Failure::unreported(classify(sqlstate), message)
        }
    }

    /// Returns the failure of a statement that was never sent, because there was no connection.
    pub fn not_sent(message: impl Into<String>) -> Self {
        Failure::unreported(Class::Retry, message)
    }

    /// Returns the failure of a statement that was sent and got no reply.
    pub fn no_reply(message: impl Into<String>) -> Self {
        Failure::unreported(Class::Unknown, message)
    }

    /// Returns the failure of a statement that cannot be sent, because the protocol cannot encode one of its values.
    pub fn unsendable(message: impl Into<String>) -> Self {
        Failure::unreported(Class::Permanent, message)
    }

    fn unreported(class: Class, message: impl Into<String>) -> Self {
        Failure { class, sqlstate: None, constraint: None, message: message.into(), granting: None }
    }

    /// Returns the failure to settle a job that another transaction has locked, as the server reports a lock timeout.
    pub(crate) fn locked() -> Self {
        Failure::reported("55P03", None, "another transaction has locked the job")
    }

    /// Returns the failure to connect to a server: the error that the server `reported`, if it is conclusive, or else
    /// one of class [`Class::Retry`] that names the `address` and the cause. The address must not contain a password.
    pub fn unreachable(address: &str, reported: Option<Failure>, cause: impl fmt::Display) -> Self {
        let is_conclusive = |failure: &Failure| failure.class != Class::Unknown || failure.is_pooler();
        reported
            .filter(is_conclusive)
            .unwrap_or_else(|| Failure::not_sent(format!("cannot connect to {address}: {cause}")))
    }

    /// Returns the failure with the detail that the server reported, if any, appended to its message in parentheses.
    pub fn with_detail(mut self, detail: Option<&str>) -> Self {
        if let Some(detail) = detail {
            self.message = format!("{} ({detail})", self.message);
        }
        self
    }

    /// Returns the failure with the advice to give the role the privileges of a kind.
    pub(crate) fn with_grant(self, role: String, kind: RoleKind) -> Self {
        Failure { granting: Some(Advice::Grant { role, kind }), ..self }
    }

    /// Returns what would prevent the failure, if that is known.
    pub fn advice(&self) -> Option<Advice> {
        match self {
            _ if self.is_schema() => Some(Advice::Migrate),
            _ if self.is_pooler() => Some(Advice::Pooler),
            _ => self.granting.clone(),
        }
    }

    /// Returns the class of the failure.
    pub fn class(&self) -> Class {
        self.class
    }

    /// Returns the SQLSTATE, or `None` if the failure was not reported by a server.
    pub fn sqlstate(&self) -> Option<&str> {
        self.sqlstate.as_deref()
    }

    /// Returns the name of the violated constraint, if any.
    pub fn constraint(&self) -> Option<&str> {
        self.constraint.as_deref()
    }

    /// Returns the message of the server or the driver.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Returns whether pm's tables or functions are missing, or differ from what this version expects.
    pub fn is_schema(&self) -> bool {
        // invalid_schema_name, undefined_table, undefined_column, undefined_function
        matches!(self.sqlstate(), Some("3F000" | "42P01" | "42703" | "42883"))
    }

    /// Returns whether the role lacks a privilege.
    pub fn is_forbidden(&self) -> bool {
        // insufficient_privilege
        self.sqlstate() == Some("42501")
    }

    /// Returns whether another job has reserved the key.
    pub fn is_key_conflict(&self) -> bool {
        self.constraint() == Some("job_key")
    }

    /// Returns whether a job with the id of a new one exists.
    pub(crate) fn is_duplicate_id(&self) -> bool {
        self.constraint() == Some("job_pkey")
    }

    /// Returns whether the database's encoding cannot store a character of a text.
    pub fn is_unstorable(&self) -> bool {
        // character_not_in_repertoire, untranslatable_character
        matches!(self.sqlstate(), Some("22021" | "22P05"))
    }

    /// Returns whether the statement was refused because another schema precedes `pg_catalog` in the `search_path`: the
    /// operators of that schema could have replaced Postgres's own.
    pub fn is_search_path(&self) -> bool {
        // undefined_object
        self.sqlstate() == Some("42704") && self.message.contains(SEARCH_PATH_SETTING)
    }

    /// Returns whether the failure reveals a transaction pooler, which loses the state of a session between statements.
    pub fn is_pooler(&self) -> bool {
        match self.sqlstate() {
            // PgBouncer, when a connection starts with settings
            Some("08P01") => self.message.contains("unsupported startup parameter"),
            // Amazon RDS Proxy, likewise
            Some("0A000") => self.message.contains("command-line options"),
            // invalid_sql_statement_name, duplicate_prepared_statement: another client shares the server connection
            Some(code) => matches!(code, POOLER_SQLSTATE | "26000" | "42P05"),
            None => false,
        }
    }

    /// Returns whether the server canceled the statement, as it does after `statement_timeout`.
    pub(crate) fn took_too_long(&self) -> bool {
        self.sqlstate() == Some("57014")
    }

    /// Returns whether the server refuses writes: it is a standby, or is set to read-only.
    pub fn is_read_only(&self) -> bool {
        self.sqlstate() == Some("25006")
    }

    /// Returns whether the connection can still be used: the server itself reported the failure.
    ///
    /// Not after a refused write: the server may have been the primary until now, and a new connection may reach the
    /// current one.
    pub fn spares_connection(&self) -> bool {
        // in_failed_sql_transaction: another user of the pool left the transaction open.
        self.sqlstate.is_some() && !self.is_read_only() && !self.ends_session() && self.sqlstate() != Some("25P02")
    }

    /// Returns whether the server ended the session, so that a new connection is needed.
    pub fn ends_session(&self) -> bool {
        // idle_in_transaction_session_timeout, transaction_timeout, admin_shutdown, crash_shutdown, database_dropped,
        // idle_session_timeout
        matches!(self.sqlstate(), Some("25P03" | "25P04" | "57P01" | "57P02" | "57P04" | "57P05"))
    }

    /// Returns whether no server could be reached, or it did not reply.
    pub fn is_connection(&self) -> bool {
        match self.sqlstate() {
            _ if self.is_pooler() => false,
            None => self.class != Class::Permanent,
            Some(code) => code.starts_with("08") || code.starts_with("57P") || code == "53300" || self.ends_session(),
        }
    }
}

/// The SQLSTATE that pm raises in a session that has lost its settings; see [`Failure::is_pooler`].
pub const POOLER_SQLSTATE: &str = "PM001";

fn classify(sqlstate: &str) -> Class {
    match sqlstate {
        // lock_not_available, query_canceled (statement_timeout), transaction_timeout
        "55P03" | "57014" | "25P04" => Class::Blocked,
        // admin_shutdown, crash_shutdown: the backend exited, perhaps after the commit
        "57P01" | "57P02" => Class::Unknown,
        // sqlclient_unable_to_establish_sqlconnection, sqlserver_rejected_establishment_of_sqlconnection
        "08001" | "08004" => Class::Retry,
        // statement_completion_unknown
        "40003" => Class::Unknown,
        // object_in_use; read_only_sql_transaction (a standby after a failover); in_failed_sql_transaction and
        // idle_in_transaction_session_timeout (of a transaction that another user left open on a pooled connection);
        // snapshot_too_old
        "55006" | "25006" | "25P02" | "25P03" | "72000" => Class::Retry,
        _ => match sqlstate.get(..2) {
            // connection exceptions: PgBouncer reports 08P01 when its server disappears during a statement
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
    fn each_sqlstate_has_its_class() {
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
            // internal_error, data_corrupted: not retried, so that they are seen.
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
    fn a_statement_is_sent_again_on_a_new_connection_when_the_session_ends() {
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
    fn poolers_are_recognised() {
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
            assert_eq!(Failure::unreachable("host:1", Some(failure.clone()), "cause"), failure);
        }
        assert!(!Failure::reported("08P01", None, "server conn crashed?").is_pooler());
        assert!(!Failure::reported("0A000", None, "cross-database references are not implemented").is_pooler());
        let inconclusive = Failure::reported("08P01", None, "server conn crashed?");
        let unreachable = Failure::unreachable("host:1", Some(inconclusive), "server conn crashed?");
        assert_eq!(unreachable, Failure::not_sent("cannot connect to host:1: server conn crashed?"));
    }

    #[test]
    fn a_missing_reply_leaves_the_outcome_unknown() {
        assert_eq!(Failure::no_reply("cut").class(), Class::Unknown);
        assert_eq!(Failure::not_sent("refused").class(), Class::Retry);
        assert!(Failure::no_reply("cut").is_connection());
        assert!(!Failure::unsendable("too long").is_connection());
    }
}
