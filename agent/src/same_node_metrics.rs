//! What has gone past the proxy between two pods of this node, as metrics, and what may go now, for the page `/pods`.

use std::{
    fmt,
    sync::{Mutex, PoisonError},
};

use culvert_abi::{SameNodePair, SameNodeUse};
use culvert_telemetry::prometheus::{
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::counter::ConstCounter,
};
use std::net::SocketAddr;

use crate::{enrolment::status::Status, kernel::Kernel};

/// How many pairs of pods may go past the proxy now, and why none may where the kernel cannot.
pub(crate) fn page(kernel: &Mutex<Kernel>) -> serde_json::Value {
    let kernel = kernel.lock().unwrap_or_else(PoisonError::into_inner);
    let (pairs, refused) = kernel.same_node_pairs();
    serde_json::json!({ "pairs": pairs, "refused": refused })
}

/// A metric: its name, what it is, and its value.
type Column = (&'static str, &'static str, fn(&SameNodeUse) -> u64);

/// Adds them: a series for each pair of pods and address that was dialled. Bytes are counted when a connection ends.
pub(crate) fn encode(
    encoder: &mut DescriptorEncoder<'_>,
    status: &Status,
    kernel: &mut Kernel,
) -> Result<(), fmt::Error> {
    let usage = kernel.same_node_use().unwrap_or_else(|error| {
        tracing::error!(%error, "cannot read what went past the proxy");
        Vec::new()
    });
    let named: Vec<_> = usage.iter().map(|(pair, usage)| (names(status, pair), usage)).collect();
    let columns: [Column; 4] = [
        (
            "connections_opened",
            "Connections between two pods of this node that went past the proxy",
            |usage| usage.opened,
        ),
        (
            "connections_closed",
            "Connections that went past the proxy and have ended",
            |usage| usage.closed,
        ),
        (
            "sent_bytes",
            "Bytes that clients sent in connections past the proxy that have ended",
            |usage| usage.sent,
        ),
        (
            "received_bytes",
            "Bytes that clients received in connections past the proxy that have ended",
            |usage| usage.received,
        ),
    ];
    for (name, help, value) in columns {
        let name = format!("culvert_agent_same_node_{name}");
        let counter = ConstCounter::new(0_u64);
        let mut family = encoder.encode_descriptor(&name, help, None, counter.metric_type())?;
        for ([client, server, destination], usage) in &named {
            let labels = [
                ("client", client.as_str()),
                ("server", server.as_str()),
                ("destination", destination.as_str()),
            ];
            ConstCounter::new(value(usage)).encode(family.encode_family(&labels)?)?;
        }
    }
    Ok(())
}

/// Who opens, who is reached, and what is dialled. Nothing for a pod that is gone.
fn names(status: &Status, pair: &SameNodePair) -> [String; 3] {
    let destination = SocketAddr::from(pair.destination);
    let client = status.pods.iter().find(|pod| pod.cookie == Some(pair.client));
    let server = status.pods.iter().find(|pod| pod.addresses.contains(&destination.ip()));
    let name =
        |pod: Option<&crate::enrolment::status::PodStatus>| pod.map(|pod| pod.name.to_string()).unwrap_or_default();
    [name(client), name(server), destination.to_string()]
}
