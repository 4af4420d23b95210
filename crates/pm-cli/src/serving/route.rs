//! The answers to requests.

use super::readiness::Readiness;
use pm_driver_tokio_postgres::metrics::{self, Metrics};
use std::sync::Arc;

/// What is served on one address.
pub(super) struct Routes {
    pub(super) readiness: Option<Arc<Readiness>>,
    pub(super) metrics: Option<Arc<Metrics>>,
}

/// An answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Response {
    pub(super) status: &'static str,
    pub(super) content_type: &'static str,
    pub(super) body: String,
}

impl Response {
    pub(super) fn text(status: &'static str, body: impl Into<String>) -> Self {
        Response { status, content_type: "text/plain; charset=utf-8", body: body.into() }
    }
}

impl Routes {
    /// Returns the answer to a request for this target, which may end in a query.
    pub(super) fn answer(&self, method: &str, target: &str, accepts_openmetrics: bool) -> Response {
        if !["GET", "HEAD"].contains(&method) {
            return Response::text("405 Method Not Allowed", "use GET\n");
        }
        match (target.split('?').next().unwrap_or_default(), &self.readiness, &self.metrics) {
            ("/healthz", Some(_), _) => Response::text("200 OK", "ok\n"),
            ("/readyz", Some(readiness), _) => match readiness.check() {
                Ok(()) => Response::text("200 OK", "ok\n"),
                Err(why) => Response::text("503 Service Unavailable", format!("{why}\n")),
            },
            ("/metrics", _, Some(metrics)) => {
                let content_type = if accepts_openmetrics { metrics::OPENMETRICS } else { metrics::PROMETHEUS };
                Response { status: "200 OK", content_type, body: metrics.render(accepts_openmetrics) }
            }
            _ => Response::text("404 Not Found", self.paths()),
        }
    }

    fn paths(&self) -> &'static str {
        match (&self.readiness, &self.metrics) {
            (Some(_), Some(_)) => "use /healthz, /readyz or /metrics\n",
            (Some(_), None) => "use /healthz or /readyz\n",
            _ => "use /metrics\n",
        }
    }
}
