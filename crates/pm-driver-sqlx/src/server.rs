//! The server of a driver's own pool: chosen among the hosts of a connection string, and again after a failure.

use crate::statement::failure;
use futures_util::lock::Mutex;
use pm_queue::connecting::{
    Address, Attempt, ChannelBinding, Failed, Host, Place, Refusal, Role, Roots, Route, SslMode, Target,
};
use pm_queue::driver::{BoxFuture, Failure, SESSION_MARK, session_guard};
use pm_queue::runtime::Runtime;
use pm_queue::{ConnectOptions, Error};
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection, PgConnection, Row};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// The route to the hosts of a connection string, and whether one of them is chosen.
pub(crate) struct Server {
    route: Route,
    runtime: Arc<dyn Runtime>,
    /// Whether the options announce a transaction pooler.
    pooler: bool,
    is_chosen: AtomicBool,
    /// Locked while choosing, so that concurrent tasks share one choice, or one failure.
    choosing: Mutex<Option<Failed>>,
}

impl Server {
    /// Reads a connection string. Errors: `Invalid` as [`Target::read`], and for parameters that sqlx does not support.
    pub(crate) fn new(url: &str, options: &ConnectOptions, runtime: Arc<dyn Runtime>) -> Result<Self, Error> {
        let target = Target::read(url, options)?;
        check(&target)?;
        // With TLS, sqlx sends the host name that it connects to, which some proxies need.
        let by_name = target.tls.mode.is_strict();
        Ok(Server {
            route: Route::new(target).by_name(by_name),
            runtime,
            pooler: options.pooler,
            is_chosen: AtomicBool::new(false),
            choosing: Mutex::default(),
        })
    }

    /// Returns the time limit for opening a session on one address.
    pub(crate) fn connect_timeout(&self) -> Duration {
        self.route.target().connect_timeout.unwrap_or(Duration::from_secs(86_400))
    }

    /// Returns the options for connecting to the first host, before a server is chosen.
    pub(crate) fn first(&self) -> PgConnectOptions {
        let target = self.route.target();
        let address = target.places.first().map_or_else(|| Address::Name(String::new(), 0), Place::address);
        self.options_of(&Attempt { place: 0, address, mode: target.tls.mode }, !self.pooler)
    }

    /// Returns whether a server is chosen.
    pub(crate) fn is_chosen(&self) -> bool {
        self.is_chosen.load(Ordering::Acquire)
    }

    /// Records that the chosen server failed: the next statement chooses again, if there is a choice.
    pub(crate) fn doubt(&self) {
        if self.route.has_choice() {
            self.is_chosen.store(false, Ordering::Release);
        }
    }

    /// Chooses an acceptable server and passes it to `use_it`, unless another task has just chosen one. Errors: as
    /// [`Route::connect`]; and a failure that shows a transaction pooler, if there is one that the options do not
    /// announce. sqlx uses the same names for prepared statements on all connections, so a pooler might run one
    /// statement in place of another.
    pub(crate) async fn choose(&self, use_it: impl FnOnce(PgConnectOptions)) -> Result<(), Failure> {
        let asked_at = Instant::now();
        let mut failed = self.choosing.lock().await;
        if self.is_chosen() {
            return Ok(());
        }
        if let Some(failed) = &*failed {
            if let Some(failure) = failed.since(asked_at) {
                return Err(failure);
            }
            self.runtime.sleep(failed.pause()).await;
        }
        match self.find(!self.pooler).await {
            Ok(chosen) => {
                use_it(chosen);
                *failed = None;
                self.is_chosen.store(true, Ordering::Release);
                Ok(())
            }
            Err(failure) => {
                Failed::record(&mut failed, &failure);
                Err(failure)
            }
        }
    }

    /// Returns the options for connecting to the first acceptable server.
    pub(crate) async fn find(&self, marked: bool) -> Result<PgConnectOptions, Failure> {
        let open = |attempt| -> BoxFuture<'_, _> { Box::pin(self.try_once(attempt, marked)) };
        self.route.connect(&*self.runtime, &open).await
    }

    async fn try_once(&self, attempt: Attempt, marked: bool) -> Result<(PgConnectOptions, Option<Role>), Refusal> {
        let options = self.options_of(&attempt, marked);
        let mut connection = PgConnection::connect_with(&options).await.map_err(refusal)?;
        if marked {
            let guard = AssertSqlSafe(session_guard());
            sqlx::raw_sql(guard).execute(&mut connection).await.map_err(refusal)?;
        }
        let role = match self.route.asks_role() {
            true => {
                let row = sqlx::raw_sql(Role::STATEMENT).fetch_one(&mut connection).await.map_err(refusal)?;
                let cell = |at: usize| row.try_get::<String, _>(at).ok();
                Some(Role::of_row(cell(0).as_deref(), cell(1).as_deref()))
            }
            false => None,
        };
        // An error while closing does not matter.
        drop(connection.close().await);
        Ok((options, role))
    }

    fn options_of(&self, attempt: &Attempt, marked: bool) -> PgConnectOptions {
        let target = self.route.target();
        let place = target.places.get(attempt.place);
        let mut options = settings(target.options.as_deref())
            .disable_statement_logging()
            .application_name(&target.application_name)
            .username(&target.user)
            .database(&target.database)
            // An empty password keeps sqlx from reading PGPASSWORD, which the target already includes.
            .password(place.and_then(|place| place.password.as_ref()).map_or("", |password| password.reveal()));
        options = match &attempt.address {
            Address::Socket(directory, port) => options.socket(directory).port(*port),
            Address::Ip(address, port) => options.host(&address.to_string()).port(*port),
            Address::Name(name, port) => options.host(name).port(*port),
        };
        options = options.ssl_mode(match attempt.mode {
            SslMode::Disable => PgSslMode::Disable,
            SslMode::Allow | SslMode::Prefer => PgSslMode::Prefer,
            SslMode::Require => PgSslMode::Require,
            SslMode::VerifyCa => PgSslMode::VerifyCa,
            SslMode::VerifyFull => PgSslMode::VerifyFull,
        });
        options = match &target.tls.roots {
            Roots::File(path) => options.ssl_root_cert(path),
            Roots::System => options.ssl_root_cert_from_pem(Vec::new()),
        };
        if let Some((certificate, key)) = &target.tls.client {
            options = options.ssl_client_cert(certificate).ssl_client_key(key);
        }
        match (self.pooler, marked) {
            // Poolers refuse unknown start-up parameters.
            (true, false) => options.extra_float_digits(None),
            (_, true) => options.options([SESSION_MARK]),
            (false, false) => options,
        }
    }
}

/// Returns options with these session settings, given in the form of the start-up parameter. sqlx only parses that
/// form in a URL.
fn settings(settings: Option<&str>) -> PgConnectOptions {
    let Some(settings) = settings else { return PgConnectOptions::new_without_pgpass() };
    let encoded: String = settings.bytes().map(|byte| format!("%{byte:02x}")).collect();
    let read = format!("postgres://localhost/?options={encoded}").parse();
    read.unwrap_or_else(|_| PgConnectOptions::new_without_pgpass())
}

/// Refuses parameters that sqlx does not support.
fn check(target: &Target) -> Result<(), Error> {
    let renamed = |host: &Host| matches!(host, Host::Address(address, name) if *name != address.to_string());
    let unsupported = if target.tls.direct {
        "sslnegotiation=direct"
    } else if target.tls.channel_binding == ChannelBinding::Require {
        "channel_binding=require"
    } else if target.tls.mode == SslMode::VerifyFull && target.places.iter().any(|place| renamed(&place.host)) {
        "sslmode=verify-full with hostaddr beside host"
    } else {
        return Ok(());
    };
    Err(Error::invalid(format!("sqlx does not support {unsupported}: leave it out, or use pm-driver-tokio-postgres")))
}

fn refusal(error: sqlx::Error) -> Refusal {
    let is_tls = match &error {
        sqlx::Error::Tls(_) => true,
        sqlx::Error::Io(error) => error.kind() == std::io::ErrorKind::InvalidData,
        _ => false,
    };
    let why = error.to_string();
    let advice = match why.as_str() {
        why if why.contains("built without TLS") => " (enable the feature \"tls\" of pm-driver-sqlx)",
        why => Refusal::advice(why),
    };
    let why = format!("{why}{advice}");
    let reported = matches!(error, sqlx::Error::Database(_)).then(|| failure(error));
    Refusal { reported, why, is_tls }
}
