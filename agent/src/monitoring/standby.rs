//! The pages of an agent that stands by.

use std::sync::Arc;

use culvert_telemetry::{
    Response, Routes,
    prometheus::{metrics::gauge::Gauge, registry::Registry},
};
use tokio::sync::watch;

/// The pages of an agent that stands by (see [`crate::lock`]) while another one serves the node. `obstacle` says why it could not
/// take over; none when it could.
pub fn standby_routes(node: &str, by: &str, obstacle: watch::Receiver<Option<String>>) -> Routes {
    let standby = serde_json::json!({ "node": node, "ready": true, "standby": by, "pods": [], "proxies": [] });
    let mut registry = Registry::default();
    let gauge = Gauge::<i64>::default();
    gauge.set(1);
    registry.register("culvert_agent_standby", "1 while another agent serves this node", gauge);
    let shown = obstacle.clone();
    Routes::new()
        .metrics(Arc::new(registry))
        .get("/healthz/live", |_| Response::text("alive\n"))
        .get_local("/pods", move |_| {
            let mut page = standby.clone();
            let obstacle = shown.borrow().clone();
            page["ready"] = obstacle.is_none().into();
            page["obstacle"] = obstacle.into();
            Response::json(&page)
        })
        .get_local("/connections", |_| {
            Response::json(&serde_json::json!({ "connections": [] }))
        })
        .get("/healthz/ready", move |_| match &*obstacle.borrow() {
            None => Response::text("ready: standing by for another agent of this node\n"),
            Some(obstacle) => Response::status(
                http::StatusCode::SERVICE_UNAVAILABLE,
                format!("standing by for another agent of this node, and could not take over: {obstacle}\n"),
            ),
        })
}
