//! The pages of a running worker: admin on localhost, metrics, readiness.

use std::sync::Arc;

use culvert_telemetry::{Logging, Response, Routes};
use tokio::sync::Notify;

use crate::{control::Served, seam::Shared};

/// What each of the three ports serves.
pub(crate) struct Pages {
    pub(crate) admin: Routes,
    pub(crate) metrics: Routes,
    pub(crate) readiness: Routes,
}

/// Makes the pages. `drain` is notified when somebody asks the proxy to quit.
pub(crate) fn pages(shared: &Arc<Shared>, served: &Arc<Served>, logging: Logging, drain: Arc<Notify>) -> Pages {
    let registry = shared.telemetry.registry();
    let admin = Routes::new()
        .get("/logging", move |_| Response::text(logging.filter()))
        .post("/quitquitquit", move |_| {
            drain.notify_one();
            Response::text("draining\n")
        })
        .metrics(Arc::clone(&registry));
    let (shared, served) = (Arc::clone(shared), Arc::clone(served));
    let readiness = Routes::new().get("/healthz/ready", move |_| match served.missing(&shared).as_slice() {
        [] => Response::text("ready\n"),
        missing => Response::status(
            culvert_telemetry::StatusCode::SERVICE_UNAVAILABLE,
            format!("not ready: {}\n", missing.join(", ")),
        ),
    });
    Pages {
        admin,
        metrics: Routes::new().metrics(registry),
        readiness,
    }
}
