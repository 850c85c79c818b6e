//! The access log: one line for each connection.

use std::{fmt::Display, time::Duration};

use culvert_identity::SpiffeId;
use culvert_state::Workload;

use crate::opening::{Direction, Opening};

/// The fields of both ends, whichever is the pod of this node.
struct Ends<'a> {
    direction: &'static str,
    source_workload: Option<&'a str>,
    source_namespace: Option<&'a str>,
    source_identity: Option<&'a SpiffeId>,
    source_cluster: Option<&'a str>,
    destination_workload: Option<&'a str>,
    destination_namespace: Option<&'a str>,
    destination_identity: Option<&'a SpiffeId>,
    destination_cluster: Option<&'a str>,
}

impl<'a> Ends<'a> {
    fn of(opening: &'a Opening) -> Self {
        let pod = &opening.pod;
        let peer = opening.peer.workload.as_deref();
        let peer_name = peer.map(|workload: &Workload| &*workload.name);
        let peer_identity = opening.peer.identity.as_ref();
        let peer_namespace = peer.map(|workload| &*workload.namespace);
        let peer_namespace = peer_namespace.or(peer_identity.map(SpiffeId::namespace));
        // An identity is logged only where a certificate proved it to the other side.
        let own_identity = opening.encrypted.then_some(&pod.identity);
        let (own_cluster, peer_cluster) = (cluster(opening.own.as_deref()), cluster(peer));
        let (own_name, own_namespace) = (Some(&*pod.name), Some(&*pod.namespace));
        match opening.direction {
            Direction::Outbound => Self {
                direction: "outbound",
                source_workload: own_name,
                source_namespace: own_namespace,
                source_identity: own_identity,
                source_cluster: own_cluster,
                destination_workload: peer_name,
                destination_namespace: peer_namespace,
                destination_identity: peer_identity,
                destination_cluster: peer_cluster,
            },
            Direction::Inbound => Self {
                direction: "inbound",
                source_workload: peer_name,
                source_namespace: peer_namespace,
                source_identity: peer_identity,
                source_cluster: peer_cluster,
                destination_workload: own_name,
                destination_namespace: own_namespace,
                destination_identity: own_identity,
                destination_cluster: own_cluster,
            },
        }
    }
}

fn cluster(workload: Option<&Workload>) -> Option<&str> {
    workload
        .map(|workload| &*workload.cluster)
        .filter(|cluster| !cluster.is_empty())
}

/// The line of a connection that was open.
pub(super) fn ended(opening: &Opening, sent: u64, received: u64, duration: Duration, error: Option<&dyn Display>) {
    line(opening, "connection closed", sent, received, duration, error);
}

/// The line of a connection that never was.
pub(super) fn failed(opening: &Opening, tried_for: Duration, reason: &dyn Display) {
    line(opening, "connection failed", 0, 0, tried_for, Some(reason));
}

fn line(opening: &Opening, what: &str, sent: u64, received: u64, duration: Duration, error: Option<&dyn Display>) {
    let ends = Ends::of(opening);
    // Istio names a service by its host name alone.
    let service = opening.service.as_deref();
    let service = service.map(|service| service.split_once('/').map_or(service, |(_, hostname)| hostname));
    let remarks = opening.remarks.as_deref();
    let dry_run = remarks.and_then(|remarks| remarks.dry_run.as_ref());
    let audited = remarks
        .map(|remarks| &remarks.audited[..])
        .filter(|names| !names.is_empty());
    // A field that is `None` does not appear. The two macros differ in nothing but the level.
    macro_rules! say {
        ($level:ident) => {
            tracing::$level!(
                target: culvert_telemetry::ACCESS,
                direction = ends.direction,
                src.addr = %opening.source,
                src.workload = ends.source_workload,
                src.namespace = ends.source_namespace,
                src.identity = ends.source_identity.map(tracing::field::display),
                src.cluster = ends.source_cluster,
                dst.addr = %opening.destination,
                dst.dialled_addr = opening.dialled.map(tracing::field::display),
                dst.hbone_addr = opening.hbone_addr.map(tracing::field::display),
                dst.hostname = opening.hostname.as_deref(),
                dst.service = service,
                dst.workload = ends.destination_workload,
                dst.namespace = ends.destination_namespace,
                dst.identity = ends.destination_identity.map(tracing::field::display),
                dst.cluster = ends.destination_cluster,
                bytes_sent = sent,
                bytes_recv = received,
                duration = %format_args!("{}ms", duration.as_millis()),
                duration_ms = duration.as_micros() as f64 / 1000.0,
                encrypted = opening.encrypted,
                key_exchange = opening.key_exchange,
                via = opening.by_kernel.then_some("kernel"),
                dry_run = dry_run.map(tracing::field::display),
                audit = audited.map(|names| names.join(",")),
                error = error.map(tracing::field::display),
                "{what}"
            )
        };
    }
    if error.is_some() { say!(warn) } else { say!(info) }
}
