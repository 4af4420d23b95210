//! The server on which all contenders are measured, and the meters.

use crate::Result;
use pm_sandbox::{Server, ServerOptions};
use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio_postgres::{Client, NoTls};

/// Without these the results would be meaningless.
const ON: [&str; 3] = ["fsync", "synchronous_commit", "full_page_writes"];
/// What is printed with the results.
const SETTINGS: [&str; 8] =
    ["server_version", ON[0], ON[1], ON[2], "wal_sync_method", "shared_buffers", "max_wal_size", "checkpoint_timeout"];

/// A durable private server.
pub(crate) struct Testbed {
    control: Client,
    server: Server,
    databases: AtomicUsize,
    statements: Statements,
}

/// Of which databases the server counts the statements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Statements {
    /// Of none, not even where [`Database::count_statements`] asks for it.
    Uncounted,
    /// Of those where it asks for it.
    WhereAsked,
    /// Of all, which are printed.
    Printed,
}

/// The database of one measurement.
pub(crate) struct Database<'a> {
    testbed: &'a Testbed,
    pub(crate) name: String,
    pub(crate) url: String,
}

/// The values of the meters at one time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reading {
    at: Instant,
    wal_bytes: i64,
    client_cpu: Duration,
    server_cpu: Duration,
}

/// The difference between two readings.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spent {
    pub(crate) time: Duration,
    pub(crate) wal_bytes: i64,
    pub(crate) client_cpu: Duration,
    pub(crate) server_cpu: Duration,
}

/// When checkpoints run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Checkpoints {
    /// Between measurements, and not during them.
    Between,
    /// As Postgres runs them by default.
    ByDefault,
}

impl Testbed {
    /// Starts the server, with full durability.
    pub(crate) async fn start(statements: Statements, checkpoints: Checkpoints) -> Result<Self> {
        let mut options = ServerOptions::default().durable(true).setting("dynamic_shared_memory_type", "posix");
        if checkpoints == Checkpoints::Between {
            options = options.setting("max_wal_size", "8GB").setting("checkpoint_timeout", "1h");
        }
        if statements != Statements::Uncounted {
            let track = if statements == Statements::Printed { "top" } else { "none" };
            options = options
                .setting("shared_preload_libraries", "pg_stat_statements")
                .setting("pg_stat_statements.track", track);
        }
        let server = Server::start_with(options)?;
        let control = connect(&server.url()).await?;
        for setting in ON {
            let value: String = control.query_one(&format!("show {setting}"), &[]).await?.get(0);
            if value != "on" {
                return Err(format!("{setting} is {value}: the results would be meaningless").into());
            }
        }
        if statements != Statements::Uncounted {
            control.batch_execute("create extension pg_stat_statements").await?;
        }
        Ok(Testbed { control, server, databases: AtomicUsize::new(0), statements })
    }

    /// Creates a database, then runs a checkpoint, so that earlier writes are not measured.
    pub(crate) async fn database(&self) -> Result<Database<'_>> {
        let name = format!("bench_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.control.batch_execute(&format!("create database {name}")).await?;
        self.control.batch_execute("checkpoint").await?;
        let url = self.server.url_of(&name);
        Ok(Database { testbed: self, name, url })
    }

    pub(crate) async fn read(&self) -> Result<Reading> {
        let wal_bytes = self.wal_bytes().await?;
        let server_cpu = cpu_of_tree(self.server.pid())?;
        Ok(Reading { wal_bytes, server_cpu, client_cpu: own_cpu()?, at: Instant::now() })
    }

    /// Returns what was used since a reading. Waits until closed connections have ended and been counted by the
    /// server.
    pub(crate) async fn spent_since(&self, before: Reading) -> Result<Spent> {
        let time = before.at.elapsed();
        let client_cpu = own_cpu()?.saturating_sub(before.client_cpu);
        tokio::time::sleep(Duration::from_millis(50)).await;
        let wal_bytes = self.wal_bytes().await? - before.wal_bytes;
        let server_cpu = cpu_of_tree(self.server.pid())?.saturating_sub(before.server_cpu);
        Ok(Spent { time, wal_bytes, client_cpu, server_cpu })
    }

    async fn wal_bytes(&self) -> Result<i64> {
        let sql = "select pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::int8";
        Ok(self.control.query_one(sql, &[]).await?.get(0))
    }

    /// Returns the settings of the server that matter most: name and value.
    pub(crate) async fn settings(&self) -> Result<Vec<(&'static str, String)>> {
        let mut settings = Vec::new();
        for name in SETTINGS {
            settings.push((name, self.control.query_one(&format!("show {name}"), &[]).await?.get(0)));
        }
        Ok(settings)
    }

    /// Resets the statistics of statements.
    pub(crate) async fn reset_statements(&self) -> Result<()> {
        if self.statements != Statements::Uncounted {
            self.control.query("select pg_stat_statements_reset()", &[]).await?;
        }
        Ok(())
    }

    /// Prints the calls, rows and time of each statement in a database.
    pub(crate) async fn print_statements(&self, contender: &str, database: &str) -> Result<()> {
        if self.statements != Statements::Printed {
            return Ok(());
        }
        let sql = "select calls, rows, total_exec_time, regexp_replace(query, '\\s+', ' ', 'g')
                   from pg_stat_statements join pg_database on pg_database.oid = dbid
                   where datname = $1 order by total_exec_time desc limit 8";
        for row in self.control.query(sql, &[&database]).await? {
            let (calls, rows, ms): (i64, i64, f64) = (row.get(0), row.get(1), row.get(2));
            let text: String = row.get(3);
            let text: String = text.chars().filter(|letter| *letter != '\n').take(90).collect();
            let each = ms / calls as f64;
            eprintln!("  {contender:>6} {calls:>7} calls {rows:>7} rows {ms:>8.0} ms {each:>7.3} ms each  {text}");
        }
        Ok(())
    }

    /// Returns how many transactions a database has run; each statement is one.
    pub(crate) async fn transactions(&self, database: &str) -> Result<i64> {
        let sql = "select xact_commit + xact_rollback from pg_stat_database where datname = $1";
        Ok(self.control.query_one(sql, &[&database]).await?.get(0))
    }
}

impl Reading {
    /// Returns the server's CPU time between two readings.
    pub(crate) fn server_cpu_since(&self, before: &Reading) -> Duration {
        self.server_cpu.saturating_sub(before.server_cpu)
    }
}

impl Database<'_> {
    /// Returns the single number that a query returns.
    pub(crate) async fn number(&self, sql: &str) -> Result<i64> {
        Ok(connect(&self.url).await?.query_one(sql, &[]).await?.get(0))
    }

    /// Counts the statements of new connections.
    pub(crate) async fn count_statements(&self) -> Result<()> {
        let sql = format!("alter database {} set pg_stat_statements.track = 'top'", self.name);
        Ok(self.testbed.control.batch_execute(&sql).await?)
    }

    /// Returns how many statements of each kind have run, of others, and of all. A statement is of the first kind of
    /// whose text it has a part.
    pub(crate) async fn statements<'a>(&self, kinds: &[(&'a str, &str)]) -> Result<Vec<(&'a str, i64)>> {
        let sql = "select calls, regexp_replace(query, '\\s+', ' ', 'g')
                   from pg_stat_statements join pg_database on pg_database.oid = dbid where datname = $1";
        let mut counts: Vec<_> = kinds.iter().map(|(kind, _)| *kind).chain(["others"]).map(|kind| (kind, 0)).collect();
        for row in self.testbed.control.query(sql, &[&self.name]).await? {
            let (calls, text): (i64, String) = (row.get(0), row.get(1));
            let kind = kinds.iter().position(|(_, part)| text.contains(part)).unwrap_or(kinds.len());
            counts[kind].1 += calls;
        }
        counts.push(("statements", counts.iter().map(|(_, calls)| calls).sum()));
        Ok(counts)
    }

    pub(crate) async fn drop(self) -> Result<()> {
        let sql = format!("drop database {} with (force)", self.name);
        Ok(self.testbed.control.batch_execute(&sql).await?)
    }
}

/// Connects; the connection closes when the client is dropped.
pub(crate) async fn connect(url: &str) -> Result<Client> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(async move {
        // The client reports an error of the connection.
        drop(connection.await);
    });
    Ok(client)
}

/// Returns the CPU time that this process has used.
pub(crate) fn own_cpu() -> Result<Duration> {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Ok(Duration::new(time.tv_sec.try_into()?, time.tv_nsec.try_into()?))
}

/// Returns the CPU time of a postmaster and its children, including those that have ended.
fn cpu_of_tree(postmaster: u32) -> Result<Duration> {
    let mut ticks = 0;
    for entry in fs::read_dir("/proc")? {
        let entry = entry?;
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        // A process may end in the meantime; then it counts among the postmaster's ended children.
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        // After the name in parentheses: state, parent, …; user and system time are the 12th and 13th, those of
        // ended children the 14th and 15th.
        let Some((_, fields)) = stat.rsplit_once(')') else { continue };
        let fields: Vec<&str> = fields.split_whitespace().collect();
        let number = |index: usize| fields.get(index).and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
        if pid == postmaster {
            ticks += number(11) + number(12) + number(13) + number(14);
        } else if number(1) == u64::from(postmaster) {
            ticks += number(11) + number(12);
        }
    }
    Ok(Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64))
}
