//! The page `/connections`: what is open past the proxy between two pods of this node, as the proxy's page of this name shows what goes
//! through it.

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    sync::{Mutex, PoisonError},
};

use culvert_telemetry::Response;
use serde_json::{Value, json};

use crate::{
    enrolment::status::Status,
    kernel::{Kernel, SameNodeOpen, sock_diag},
};

/// A client's socket: its address, and its peer's.
type Ends = (SocketAddr, SocketAddr);

/// The page, or why there is none.
pub(crate) fn of(kernel: &Mutex<Kernel>, status: &Status) -> Response {
    // The kernel's lock is not held while pods are looked into.
    let open = kernel.lock().unwrap_or_else(PoisonError::into_inner).same_node_open();
    let open = match open {
        Ok(open) => open,
        Err(error) => {
            return Response::status(http::StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n"));
        }
    };
    let mut by_client: BTreeMap<u64, Vec<SameNodeOpen>> = BTreeMap::new();
    for one in open {
        by_client.entry(one.flow.cookie).or_default().push(one);
    }
    let mut shown = Vec::new();
    for (client, mut open) in by_client {
        let sockets = sockets(status, client);
        open.sort_by_key(|one| std::cmp::Reverse(one.age));
        let connections = open.iter().filter_map(|one| connection(status, sockets.as_ref(), one));
        shown.extend(connections);
    }
    Response::json(&json!({ "connections": shown }))
}

/// What is open in a pod, with its bytes. None where that cannot be seen.
fn sockets(status: &Status, client: u64) -> Option<HashMap<Ends, Option<(u64, u64)>>> {
    let netns = status.namespaces.get(client)?;
    match sock_diag::connections_and_bytes(netns) {
        Ok(all) => Some(
            all.into_iter()
                .map(|one| ((one.local, one.remote), one.bytes))
                .collect(),
        ),
        Err(error) => {
            tracing::warn!(%error, "cannot see the bytes of connections past the proxy");
            None
        }
    }
}

/// In the words of the proxy's page. None for one that has ended since.
fn connection(
    status: &Status,
    sockets: Option<&HashMap<Ends, Option<(u64, u64)>>>,
    open: &SameNodeOpen,
) -> Option<Value> {
    let ends @ (source, destination) = open.ends();
    let bytes = match sockets {
        Some(sockets) => *sockets.get(&ends)?,
        None => None,
    };
    let captured = || status.pods.iter().filter(|pod| pod.cookie.is_some());
    let client = captured().find(|pod| pod.cookie == Some(open.flow.cookie));
    let server = captured().find(|pod| pod.addresses.contains(&destination.ip()));
    Some(json!({
        "direction": "outbound",
        "via": "kernel",
        "source": source.to_string(),
        "source_workload": client.map(|pod| pod.name.to_string()),
        "source_identity": null,
        "destination": destination.to_string(),
        "destination_workload": server.map(|pod| pod.name.to_string()),
        "destination_identity": null,
        "service": null,
        "encrypted": false,
        "key_exchange": null,
        "bytes_sent": bytes.map(|(sent, _)| sent),
        "bytes_received": bytes.map(|(_, received)| received),
        "seconds": open.age.as_secs(),
    }))
}
