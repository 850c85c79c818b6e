//! Nobody goes around a waypoint: where a pod serves a Service that is behind one, its node's proxy lets in the waypoint alone.
//!
//! What would follow from a Service's waypoint is decided there, and a client of the mesh is led there by its own node. A client
//! that dials the pod's address, or is outside the mesh, is led nowhere; so the pod names a policy that refuses it. There is one
//! policy for each namespace of pods, waypoint and port, which all such pods share, however many there are. A pod that asks for a waypoint by
//! itself has one for all its ports, but for those of Services that are behind another. Behind a waypoint and its canary
//! there is one for both, which lets in each of them: two policies would keep out both.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use culvert_objects::{Key, Labels, ObjectName, Pod, Service, ServiceEntry, service_account};
use culvert_proto::security::{
    Action, Authorization, Clause, Match, Rule, Scope, StringMatch, string_match::MatchType,
};
use culvert_proto::workload::PortList;

use super::reader::Reader;
use super::waypoint::{self, Waypoints};
use super::wire;

/// What comes before namespace and name of each waypoint, and the port, in the name of a policy. No object can have such a name.
pub(super) const PREFIX: &str = "culvert_waypoint_";

/// The policies by which none but waypoints reach a workload of `namespace` with these labels, which belongs to these services, by
/// their resources' names.
pub(super) fn policies(
    reader: &Reader<'_>,
    namespace: &str,
    labels: &Labels,
    own: Option<&ObjectName>,
    services: &BTreeMap<String, PortList>,
) -> Vec<Authorization> {
    // What a waypoint serves itself it is asked for without one.
    if waypoint::is_ones_own(labels) {
        return Vec::new();
    }
    let mut ports: BTreeSet<(Together, u32)> = BTreeSet::new();
    for (service, list) in services {
        for waypoints in of_service(reader, service) {
            let targets = list.ports.iter().map(|port| port.target_port);
            ports.extend(targets.map(|port| (waypoints.clone(), port)));
        }
    }
    let Some(own) = own else {
        let made = ports.into_iter();
        return made
            .map(|(waypoints, port)| policy(reader, namespace, &waypoints, &Ports::One(port)))
            .collect();
    };
    // Who dials a Service is led to the Service's waypoint, and not to the pod's: at its ports both come.
    let own = Together::from([own.clone()]);
    let others: BTreeSet<u32> = ports
        .iter()
        .filter(|(waypoints, _)| *waypoints != own)
        .map(|(_, port)| *port)
        .collect();
    let at_services = ports.into_iter().filter(|(_, port)| others.contains(port));
    let at_services = at_services.map(|(waypoints, port)| (&waypoints | &own, Ports::One(port)));
    let at_services: BTreeSet<(Together, Ports)> = at_services.collect();
    let elsewhere = policy(reader, namespace, &own, &Ports::AllBut(others));
    let made = at_services.into_iter();
    std::iter::once(elsewhere)
        .chain(made.map(|(waypoints, port)| policy(reader, namespace, &waypoints, &port)))
        .collect()
}

/// The ports at which a policy holds.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Ports {
    One(u32),
    AllBut(BTreeSet<u32>),
}

impl Ports {
    fn matched(&self) -> Match {
        match self {
            Self::One(port) => Match {
                destination_ports: vec![*port],
                ..Match::default()
            },
            Self::AllBut(ports) => Match {
                not_destination_ports: ports.iter().copied().collect(),
                ..Match::default()
            },
        }
    }
}

/// As a name has them: no part of it has an underscore.
impl fmt::Display for Ports {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(port) => write!(formatter, "{port}"),
            Self::AllBut(ports) => {
                formatter.write_str("all")?;
                ports.iter().try_for_each(|port| write!(formatter, "-{port}"))
            }
        }
    }
}

/// The names of policies as a workload has them.
pub(super) fn names(policies: &[Authorization]) -> impl Iterator<Item = String> {
    policies
        .iter()
        .map(|policy| format!("{}/{}", policy.namespace, policy.name))
}

/// Whether several units may make the resource of this name: it goes when the last of them has given it up.
pub(super) fn is_shared(name: &str) -> bool {
    name.split_once('/').is_some_and(|(_, name)| name.starts_with(PREFIX))
}

/// The waypoints that a policy of this name lets in; none where it is no such policy.
pub(super) fn waypoints_of(policy: &str) -> Option<Vec<ObjectName>> {
    // No name of Kubernetes has an underscore.
    let (waypoints, _) = policy.strip_prefix(PREFIX)?.rsplit_once('_')?;
    let parts: Vec<&str> = waypoints.split('_').collect();
    let (pairs, rest) = parts.as_chunks::<2>();
    let names = pairs.iter().map(|[namespace, name]| ObjectName::new(*namespace, *name));
    rest.is_empty().then(|| names.collect())
}

/// A waypoint, and its canary if it has one.
type Together = BTreeSet<ObjectName>;

/// The waypoints of a service, by its resource's name: of several entries that have a host, each one's.
fn of_service(reader: &Reader<'_>, service: &str) -> Vec<Together> {
    let together = |found: Waypoints| found.names().cloned().collect();
    if let Some(name) = wire::service_of(reader.settings(), service) {
        let object = reader.get::<Service>(&name);
        let own = object.and_then(|object| waypoint::named(reader, &name, &**object));
        if object.is_some() {
            return own.into_iter().map(together).collect();
        }
    }
    let Some((namespace, host)) = service.split_once('/') else {
        return Vec::new();
    };
    let entries = reader.find::<ServiceEntry>(Key::host(host));
    let own = entries
        .filter(|(name, entry)| *name.namespace == *namespace && entry.hosts.iter().any(|(_, known)| **known == *host));
    own.filter_map(|(name, entry)| waypoint::named(reader, name, &**entry))
        .map(together)
        .collect()
}

fn policy(reader: &Reader<'_>, namespace: &str, waypoints: &Together, ports: &Ports) -> Authorization {
    let trust_domain = &reader.settings().trust_domain;
    let principal = |namespace: &str, account: &str| StringMatch {
        match_type: Some(MatchType::Exact(format!("{trust_domain}/ns/{namespace}/sa/{account}"))),
    };
    let names: Vec<String> = waypoints
        .iter()
        .map(|waypoint| format!("{}_{}", waypoint.namespace, waypoint.name))
        .collect();
    let others = Match {
        not_principals: waypoints
            .iter()
            .flat_map(|waypoint| {
                let accounts = accounts(reader, waypoint).into_iter();
                accounts.map(|account| principal(&waypoint.namespace, account))
            })
            .collect(),
        ..Match::default()
    };
    // An empty match matches nothing.
    let is_everywhere = matches!(ports, Ports::AllBut(ports) if ports.is_empty());
    let at_ports = (!is_everywhere).then(|| ports.matched());
    let clauses = at_ports.into_iter().chain([others]);
    let clauses = clauses.map(|one| Clause { matches: vec![one] });
    Authorization {
        name: format!("{PREFIX}{}_{ports}", names.join("_")),
        namespace: namespace.to_owned(),
        scope: Scope::WorkloadSelector.into(),
        action: Action::Deny.into(),
        rules: vec![Rule {
            clauses: clauses.collect(),
        }],
        ..Authorization::default()
    }
}

/// The service accounts of a waypoint's pods. While there is none: that of its own name, which its pods are usually given.
fn accounts<'a>(reader: &Reader<'a>, waypoint: &'a ObjectName) -> BTreeSet<&'a str> {
    let pods = reader.find::<Pod>(Key::gateway(waypoint));
    let own = pods.filter(|(_, pod)| !pod.has_ended && pod.gateway().as_ref() == Some(waypoint));
    let mut accounts: BTreeSet<&str> = own.map(|(_, pod)| service_account(&**pod)).collect();
    if accounts.is_empty() {
        accounts.insert(&waypoint.name);
    }
    accounts
}
