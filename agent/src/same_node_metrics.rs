//! What has gone past the proxy between two pods of this node, as metrics, and what may go now, for the page `/pods`.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::{Mutex, PoisonError},
};

use culvert_abi::SameNodeUse;
use culvert_telemetry::prometheus::{
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::counter::ConstCounter,
};

use crate::{
    enrolment::status::Status,
    kernel::{Kernel, SameNodePods},
};

/// How many pairs of pods may go past the proxy now, and why none may where the kernel cannot.
pub(crate) fn page(kernel: &Mutex<Kernel>) -> serde_json::Value {
    let kernel = kernel.lock().unwrap_or_else(PoisonError::into_inner);
    let (pairs, refused) = kernel.same_node_pairs();
    serde_json::json!({ "pairs": pairs, "refused": refused })
}

/// A metric: its name, what it is, and its value.
type Column = (&'static str, &'static str, fn(&SameNodeUse) -> u64);

/// Adds them: a series for each two pods, as long as both are there. Bytes are counted when a connection ends.
pub(crate) fn encode(
    encoder: &mut DescriptorEncoder<'_>,
    status: &Status,
    kernel: &mut Kernel,
) -> Result<(), fmt::Error> {
    let totals = kernel.same_node_use().unwrap_or_else(|error| {
        tracing::error!(%error, "cannot read what went past the proxy");
        Vec::new()
    });
    let named = by_name(status, totals);
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
        for ((client, server), usage) in &named {
            let labels = [("client", client.as_str()), ("server", server.as_str())];
            ConstCounter::new(value(usage)).encode(family.encode_family(&labels)?)?;
        }
    }
    let unused = ConstCounter::new(status.unused_pairs);
    let name = "culvert_agent_same_node_pairs_unused";
    let help = "Pairs of pods whose connections go through the proxy again, because nobody used them";
    unused.encode(encoder.encode_descriptor(name, help, None, unused.metric_type())?)?;
    let unreported = ConstCounter::new(status.unreported);
    let name = "culvert_agent_same_node_connections_unreported";
    let help = "Connections past the proxy that have ended and are not logged, because their client was gone by then";
    unreported.encode(encoder.encode_descriptor(name, help, None, unreported.metric_type())?)
}

/// By the names of who opened connections and who was reached. A pod that has just come back under its name is one with the former.
fn by_name(status: &Status, totals: Vec<(SameNodePods, SameNodeUse)>) -> BTreeMap<(String, String), SameNodeUse> {
    let names = status
        .pods
        .iter()
        .filter_map(|pod| Some((pod.cookie?, pod.name.to_string())));
    let names: HashMap<u64, String> = names.collect();
    let mut named: BTreeMap<(String, String), SameNodeUse> = BTreeMap::new();
    for ((client, server), total) in totals {
        let Some(pods) = names.get(&client).cloned().zip(names.get(&server).cloned()) else {
            continue;
        };
        let all = named.entry(pods).or_default();
        all.opened += total.opened;
        all.closed += total.closed;
        all.sent += total.sent;
        all.received += total.received;
    }
    named
}
