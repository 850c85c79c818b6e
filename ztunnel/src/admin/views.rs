//! The proxy's state as JSON. Field names are what `culvert` on the command line prints.

use std::time::{SystemTime, UNIX_EPOCH};

use culvert_accounting::{Direction, OpenConnection};
use culvert_dns::NameView;
use culvert_policy::{Action, Policy, Purpose, Scope};
use culvert_state::{Health, Pod, Service, WeightedWaypoint, Workload};
use serde_json::{Value, json};

use crate::seam::Shared;

/// What the proxy knows at all, and what it is short of: small on a node of any size.
pub(super) fn status(shared: &Shared) -> Value {
    let mesh = shared.mesh.load();
    let proxy = shared.telemetry.proxy();
    let (ranges, from_controller) = mesh.ranges();
    let mut registry_only: Vec<&str> = mesh.registry_only().collect();
    registry_only.sort_unstable();
    json!({
        "generation": mesh.generation(),
        "synced": mesh.synced(),
        // The addresses that the mesh's pods and services may have.
        "ranges": {
            "list": ranges.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "from_controller": from_controller,
        },
        // Namespaces whose pods reach nothing but what the mesh knows.
        "registry_only": registry_only,
        "subscribed_addresses": shared.telemetry.control().subscribed_addresses.get(),
        "descriptors_short": proxy.descriptors_short.get() == 1,
    })
}

pub(super) fn pod(pod: &Pod) -> Value {
    json!({
        "uid": &*pod.uid,
        "name": &*pod.name,
        "namespace": &*pod.namespace,
        "identity": pod.identity.as_str(),
        "addresses": texts(&pod.addresses),
    })
}

pub(super) fn workloads(shared: &Shared) -> Value {
    let mesh = shared.mesh.load();
    let mut workloads: Vec<_> = mesh.workloads().collect();
    workloads.sort_by(|a, b| a.uid.cmp(&b.uid));
    workloads.into_iter().map(|one| workload(one)).collect()
}

fn workload(workload: &Workload) -> Value {
    let services: serde_json::Map<_, _> = workload
        .services
        .iter()
        .map(|membership| {
            let ports = membership
                .ports
                .iter()
                .map(|(service, target)| format!("{service}->{target}"));
            (membership.service.to_string(), ports.collect())
        })
        .collect();
    let locality = &workload.locality;
    json!({
        "uid": &*workload.uid,
        "name": &*workload.name,
        "namespace": &*workload.namespace,
        "addresses": texts(&workload.addresses),
        "hostname": workload.hostname.as_deref(),
        "network": &*workload.network,
        "node": &*workload.node,
        "cluster": &*workload.cluster,
        "locality": format!("{}/{}/{}", locality.region, locality.zone, locality.subzone),
        "identity": workload.identity.as_str(),
        "protocol": if workload.hbone { "HBONE" } else { "TCP" },
        "native_tunnel": workload.native_tunnel,
        "status": match workload.health {
            Health::Ready => "healthy",
            Health::Terminating => "terminating",
            Health::NotReady => "unhealthy",
        },
        "host_network": workload.host_network,
        "falls_back": workload.falls_back,
        "waypoint": waypoint(&workload.waypoints),
        "workload": &*workload.workload_name,
        "kind": workload.kind,
        "canonical_name": &*workload.canonical_name,
        "canonical_revision": &*workload.canonical_revision,
        "weight": workload.weight,
        "open_connections": workload.open.load(std::sync::atomic::Ordering::Relaxed),
        "policies": texts(&workload.policies),
        "services": services,
    })
}

pub(super) fn services(shared: &Shared) -> Value {
    let mesh = shared.mesh.load();
    let mut services: Vec<_> = mesh.services().collect();
    services.sort_by(|(a, _), (b, _)| a.name.cmp(&b.name));
    services
        .into_iter()
        .map(|(one, mut endpoints)| {
            endpoints.sort();
            service(one, &texts(&endpoints))
        })
        .collect()
}

/// The waypoint; of several, each with its weight.
fn waypoint(waypoints: &[WeightedWaypoint]) -> Option<String> {
    match waypoints {
        [] => None,
        [one] => Some(one.waypoint.to_string()),
        several => {
            let each = several.iter().map(|one| format!("{} ({})", one.waypoint, one.weight));
            Some(each.collect::<Vec<_>>().join(", "))
        }
    }
}

fn service(service: &Service, endpoints: &[String]) -> Value {
    let addresses = service.addresses.iter().map(|(network, net)| {
        let single = net.prefix_len() == net.max_prefix_len();
        let address = if single {
            net.addr().to_string()
        } else {
            net.to_string()
        };
        if network.is_empty() {
            address
        } else {
            format!("{network}/{address}")
        }
    });
    let ports = service.ports.iter().map(|port| match port.target {
        Some(target) => format!("{}->{target}/{}", port.port, port.protocol),
        None => format!("{}->by workload/{}", port.port, port.protocol),
    });
    json!({
        "name": &*service.short_name,
        "namespace": &*service.namespace,
        "hostname": &*service.hostname,
        "addresses": addresses.collect::<Vec<_>>(),
        "ports": ports.collect::<Vec<_>>(),
        "endpoints": endpoints,
        "identities": texts(&service.identities),
        "waypoint": waypoint(&service.waypoints),
        "load_balancing": format!("{:?}", service.balancing.mode),
        "preference": service.balancing.preference.iter().map(|one| format!("{one:?}")).collect::<Vec<_>>(),
        "canonical": service.canonical,
        "seen_in": service.seen_in.as_deref().map(texts),
    })
}

pub(super) fn names(shared: &Shared) -> Value {
    let mut names = shared.names.all();
    names.sort_by(|a, b| (&a.host, &a.pod).cmp(&(&b.host, &b.pod)));
    let show = |name: &NameView| {
        json!({
            "host": &*name.host,
            "pod": &*name.pod,
            "addresses": texts(&name.addresses),
            "fresh_seconds": name.fresh_for.as_secs_f64(),
            "error": name.error.map(|error| error.to_string()),
            "asking": name.is_asked,
        })
    };
    names.iter().map(show).collect()
}

pub(super) fn policies(shared: &Shared) -> Value {
    let mesh = shared.mesh.load();
    let mut policies: Vec<_> = mesh.policies().collect();
    policies.sort_by(|a, b| a.name().cmp(b.name()));
    let refused = mesh.refused_policies().map(|name| {
        json!({ "name": &**name, "refused": true, "effect": "whom it would bind is denied until it is repaired" })
    });
    policies.into_iter().map(|one| policy(one)).chain(refused).collect()
}

fn policy(policy: &Policy) -> Value {
    json!({
        "name": &**policy.name(),
        "namespace": &**policy.namespace(),
        "scope": match policy.scope() {
            Scope::Global => "global",
            Scope::Namespace => "namespace",
            Scope::WorkloadSelector => "workload selector",
        },
        "action": match policy.action() {
            Action::Allow => "allow",
            Action::Deny => "deny",
        },
        "purpose": match policy.purpose() {
            Purpose::Enforced => "enforced",
            Purpose::DryRun => "dry run",
            Purpose::Audit => "audit",
        },
        "rules": policy.rules(),
    })
}

pub(super) fn certificates(shared: &Shared) -> Value {
    let held = shared.credentials.load();
    let mut held: Vec<_> = held.values().collect();
    held.sort_by(|a, b| a.identity().cmp(b.identity()));
    let show = |credentials: &std::sync::Arc<culvert_identity::Credentials>| {
        json!({
            "identity": credentials.identity().as_str(),
            "serial": credentials.serial(),
            "not_before": rfc3339(credentials.not_before()),
            "not_after": rfc3339(credentials.not_after()),
            "renew_at": rfc3339(credentials.renew_at()),
            "valid": credentials.valid_at(SystemTime::now()),
        })
    };
    held.into_iter().map(show).collect()
}

pub(super) fn connections(shared: &Shared) -> Value {
    let mut connections = shared.telemetry.accounting().connections();
    connections.sort_by_key(|connection| connection.began());
    connections.iter().map(|one| connection(one)).collect()
}

pub(super) fn recent(shared: &Shared) -> Value {
    let mut recent = shared.telemetry.accounting().recent();
    recent.sort_by_key(|one| std::cmp::Reverse(one.last));
    recent
        .iter()
        .map(|one| {
            json!({
                "source": one.source.to_string(),
                "source_workload": one.source_workload,
                "source_identity": one.identity.as_ref().map(ToString::to_string),
                "destination": one.destination.to_string(),
                "destination_workload": one.destination_workload,
                "connections": one.connections,
                "seconds_ago": one.last.elapsed().as_secs(),
            })
        })
        .collect()
}

fn connection(connection: &OpenConnection) -> Value {
    let opening = connection.opening();
    let (sent, received) = connection.bytes();
    let pod = &opening.pod;
    let own = (
        Some(format!("{}/{}", pod.namespace, pod.name)),
        opening.encrypted.then(|| pod.identity.to_string()),
    );
    let workload = opening.peer.workload.as_ref();
    let peer = (
        workload.map(|workload| format!("{}/{}", workload.namespace, workload.name)),
        opening.peer.identity.as_ref().map(ToString::to_string),
    );
    let (direction, source, destination) = match opening.direction {
        Direction::Outbound => ("outbound", own, peer),
        Direction::Inbound => ("inbound", peer, own),
    };
    let remarks = opening.remarks.as_deref();
    json!({
        "direction": direction,
        "source": opening.source.to_string(),
        "source_workload": source.0,
        "source_identity": source.1,
        "destination": opening.destination.to_string(),
        "destination_workload": destination.0,
        "destination_identity": destination.1,
        "service": opening.service.as_deref(),
        "hbone_address": opening.hbone_addr.map(|address| address.to_string()),
        "encrypted": opening.encrypted,
        "key_exchange": opening.key_exchange,
        "dry_run": remarks.and_then(|remarks| remarks.dry_run.as_ref()).map(ToString::to_string),
        "audit": remarks.map(|remarks| texts(&remarks.audited)).unwrap_or_default(),
        "bytes_sent": sent,
        "bytes_received": received,
        "began": rfc3339(connection.began()),
        "seconds": connection.age().as_secs(),
    })
}

fn texts<T: ToString>(list: &[T]) -> Vec<String> {
    list.iter().map(ToString::to_string).collect()
}

/// A moment as `2026-11-21T04:00:56Z`. Days to dates after Howard Hinnant's `civil_from_days`.
pub(super) fn rfc3339(at: SystemTime) -> String {
    let seconds = at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}
