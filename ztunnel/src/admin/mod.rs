//! What the proxy shows of itself over HTTP.
//!
//! | port | page | |
//! |---|---|---|
//! | admin | `/config_dump` | everything below in one object |
//! | | `/workloads`, `/services`, `/policies` | what the controller told |
//! | | `/names` | addresses of endpoints that are known by their DNS names, as of a few seconds ago |
//! | | `/certificates` | of local pods: identity, serial, validity; never a key |
//! | | `/connections` | open ones, with bytes so far |
//! | | `/recent` | those that pods of this node accepted and that ended within the last hour, by source and port |
//! | | `/logging` | the log filter; `POST /logging?level=debug` changes it |
//! | | `POST /quitquitquit` | drain and end |
//! | | `/debug/pprof/profile?seconds=5` | CPU profile of the worker |
//! | metrics | `/metrics`, `/stats/prometheus` | OpenMetrics |
//! | readiness | `/healthz/ready` | 200, or 503 with what is missing, a line each |

mod views;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use culvert_control::Served;
use culvert_telemetry::{Logging, Request, Response, Routes};
use http::StatusCode;
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::{readiness::Readiness, seam::Shared};

/// The pages of each port.
pub(crate) struct Pages {
    /// Shows configuration and changes things: for localhost.
    pub(crate) admin: Routes,
    /// For Prometheus.
    pub(crate) metrics: Routes,
    /// For the kubelet.
    pub(crate) readiness: Routes,
}

/// Puts the pages together. `drain` is notified when somebody asks the proxy to quit.
pub(crate) fn pages(
    shared: &Arc<Shared>,
    served: &Arc<Served>,
    ready: &Arc<Readiness>,
    logging: Logging,
    drain: Arc<Notify>,
) -> Pages {
    let registry = shared.telemetry.registry();
    let view = |name: &'static str, view: fn(&Shared) -> Value| {
        let shared = Arc::clone(shared);
        move |_: &Request| Response::json(&json!({ name: view(&shared) }))
    };
    let dump = {
        let (shared, served) = (Arc::clone(shared), Arc::clone(served));
        move |_: &Request| {
            let mut page = views::status(&shared);
            page["pods"] = served.all().iter().map(|pod| views::pod(pod)).collect();
            page["workloads"] = views::workloads(&shared);
            page["services"] = views::services(&shared);
            page["policies"] = views::policies(&shared);
            page["names"] = views::names(&shared);
            page["certificates"] = views::certificates(&shared);
            Response::json(&page)
        }
    };
    let status = {
        let shared = Arc::clone(shared);
        move |_: &Request| Response::json(&views::status(&shared))
    };
    let admin = Routes::new()
        .get("/config_dump", dump)
        .get("/status", status)
        .get("/workloads", view("workloads", views::workloads))
        .get("/services", view("services", views::services))
        .get("/policies", view("policies", views::policies))
        .get("/names", view("names", views::names))
        .get("/certificates", view("certificates", views::certificates))
        .get("/connections", view("connections", views::connections))
        .get("/recent", view("recent", views::recent))
        .logging(logging)
        .profiles()
        .post("/quitquitquit", move |_| {
            drain.notify_one();
            Response::text("draining: the process ends when its last connection has ended\n")
        });
    Pages {
        admin: admin.metrics(Arc::clone(&registry)),
        metrics: Routes::new().metrics(registry),
        readiness: Routes::new().get("/healthz/ready", readiness(Arc::clone(ready))),
    }
}

fn readiness(ready: Arc<Readiness>) -> impl Fn(&Request) -> Response {
    move |_| {
        let missing = ready.missing();
        if missing.is_empty() {
            return Response::text("ready\n");
        }
        Response::status(
            StatusCode::SERVICE_UNAVAILABLE,
            format!("missing:\n{}\n", missing.join("\n")),
        )
    }
}
