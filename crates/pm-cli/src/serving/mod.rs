//! What a long-running command serves beside its work: metrics, and whether it is alive and ready.

mod health_file;
mod http;
mod readiness;
mod route;

use crate::error::CommandError;
use health_file::HealthFile;
use pm_driver_tokio_postgres::metrics::Metrics;
use pm_driver_tokio_postgres::{ConnectOptions, Queue};
pub(crate) use readiness::MIN_FAILURES;
use readiness::Readiness;
use route::Routes;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::task::AbortHandle;

/// What to serve, and where.
#[derive(clap::Args)]
pub(crate) struct ServeArgs {
    /// Serve metrics for Prometheus over HTTP: GET /metrics
    #[arg(long, value_name = "ADDR:PORT")]
    metrics: Option<SocketAddr>,
    /// Serve health checks over HTTP: GET /healthz, and GET /readyz, which fails while the database does not answer
    ///
    /// The address may be that of --metrics.
    #[arg(long, value_name = "ADDR:PORT", verbatim_doc_comment)]
    health: Option<SocketAddr>,
    /// Keep a file while ready, touched every second, and remove it while not ready and at the end
    #[arg(long, value_name = "PATH")]
    health_file: Option<PathBuf>,
}

/// What is served until this is dropped.
pub(crate) struct Serving {
    tasks: Vec<AbortHandle>,
    /// Removed when dropped.
    _health_file: Option<HealthFile>,
}

impl ServeArgs {
    /// Returns the metrics to serve, if they are, and the options with them as observer.
    pub(crate) fn observed(&self, options: ConnectOptions) -> (Option<Arc<Metrics>>, ConnectOptions) {
        match self.metrics {
            None => (None, options),
            Some(_) => {
                let metrics = Arc::new(Metrics::new());
                (Some(metrics.clone()), options.observer(metrics))
            }
        }
    }

    /// Starts to serve. Errors: exit code 3 when an address is not available, or the file cannot be written.
    pub(crate) async fn start(&self, queue: &Queue, metrics: Option<Arc<Metrics>>) -> Result<Serving, CommandError> {
        let readiness = Arc::new(Readiness::new(queue.clone()));
        let mut tasks = vec![tokio::spawn(readiness::poll(readiness.clone())).abort_handle()];
        for (address, routes) in self.addresses(&readiness, metrics) {
            let failed = |error| CommandError::trouble(format!("cannot listen on {address}: {error}"));
            let listener = TcpListener::bind(address).await.map_err(failed)?;
            tasks.push(tokio::spawn(http::serve(listener, Arc::new(routes))).abort_handle());
        }
        let health_file = self.health_file.as_ref().map(|path| HealthFile::create(path, &readiness)).transpose()?;
        tasks.extend(health_file.as_ref().map(HealthFile::keep));
        Ok(Serving { tasks, _health_file: health_file })
    }

    /// Returns the addresses, with what is served on each.
    fn addresses(&self, readiness: &Arc<Readiness>, metrics: Option<Arc<Metrics>>) -> Vec<(SocketAddr, Routes)> {
        let of_health = self.health.map(|address| {
            let metrics = metrics.clone().filter(|_| self.metrics == self.health);
            (address, Routes { readiness: Some(readiness.clone()), metrics })
        });
        let of_metrics = self.metrics.filter(|_| self.metrics != self.health);
        let of_metrics = of_metrics.map(|address| (address, Routes { readiness: None, metrics }));
        of_health.into_iter().chain(of_metrics).collect()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}
