//! Where a backend is.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use culvert_envoy::endpoint::About;
use culvert_envoy::pb::envoy::config::core::v3::{HealthStatus, Locality, Metadata};
use culvert_envoy::pb::envoy::config::endpoint::v3::{
    ClusterLoadAssignment, Endpoint as Message, LbEndpoint, LocalityLbEndpoints, lb_endpoint,
};
use culvert_envoy::pb::google::protobuf::{Struct, Value, value::Kind};
use culvert_envoy::{CULVERT, ORIGINAL_DST, names};
use prost::Message as _;

use super::super::locality::{Group, Locality as Where, Member, Place, Preference};
use super::parts;

/// How an endpoint is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Health {
    Healthy,
    /// It ends what it has, and gets nothing new while there are others.
    Draining,
    Unhealthy,
}

/// Where an endpoint is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Host {
    Address(IpAddr),
    /// A name that the waypoint resolves. Never in the tunnel.
    Name(Arc<str>),
}

/// An endpoint of a port.
#[derive(Clone, Debug)]
pub(crate) struct Endpoint {
    pub(crate) host: Host,
    pub(crate) port: u16,
    /// Whether it is reached through the tunnel.
    pub(crate) is_tunnelled: bool,
    pub(crate) health: Health,
    pub(crate) locality: Where,
    /// None is 1.
    pub(crate) weight: Option<u32>,
    /// Of its labels those by which endpoints are ranked.
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) about: About,
}

/// The endpoints of `cluster`, by locality and in the order that `preference` has for who asks from `place`.
pub(crate) fn assignment(
    scope: &str,
    cluster: &str,
    endpoints: &[Endpoint],
    preference: &Preference,
    place: &Place,
) -> ClusterLoadAssignment {
    let members: Vec<Member<'_>> = endpoints
        .iter()
        .map(|endpoint| Member {
            locality: &endpoint.locality,
            node: &endpoint.about.node,
            labels: &endpoint.labels,
            weight: endpoint.weight.unwrap_or(1),
        })
        .collect();
    let group = |group: Group| {
        let mut members: Vec<&Endpoint> = group.members.iter().map(|index| &endpoints[*index]).collect();
        members.sort_by(|a, b| (&a.host, a.port, &a.about.uid).cmp(&(&b.host, b.port, &b.about.uid)));
        let locality = members.first().map(|endpoint| endpoint.locality.clone());
        let [region, zone, sub_zone] = locality.unwrap_or_default();
        LocalityLbEndpoints {
            priority: group.priority,
            locality: Some(Locality { region, zone, sub_zone }),
            lb_endpoints: members
                .into_iter()
                .map(|endpoint| lb_endpoint(scope, endpoint))
                .collect(),
            load_balancing_weight: parts::number(group.weight),
            ..LocalityLbEndpoints::default()
        }
    };
    ClusterLoadAssignment {
        cluster_name: cluster.to_owned(),
        endpoints: preference.groups(place, &members).into_iter().map(group).collect(),
        ..ClusterLoadAssignment::default()
    }
}

/// The same for equal assignments in every process, whatever the order of their metadata.
pub(crate) fn contents(assignment: &ClusterLoadAssignment) -> Vec<u8> {
    let mut bare = assignment.clone();
    let mut all = Vec::new();
    for endpoint in bare.endpoints.iter_mut().flat_map(|group| &mut group.lb_endpoints) {
        let metadata = endpoint.metadata.take().unwrap_or_default().filter_metadata;
        let sorted: BTreeMap<&String, BTreeMap<&String, &Value>> = metadata
            .iter()
            .map(|(name, fields)| (name, fields.fields.iter().collect()))
            .collect();
        all.push(
            sorted
                .into_iter()
                .map(|(name, fields)| format!("{name}{fields:?}"))
                .collect::<String>(),
        );
    }
    let mut contents = bare.encode_to_vec();
    contents.extend(all.concat().into_bytes());
    contents
}

fn lb_endpoint(scope: &str, endpoint: &Endpoint) -> LbEndpoint {
    let mut metadata = HashMap::from([(CULVERT.to_owned(), endpoint.about.to_metadata())]);
    let address = match &endpoint.host {
        Host::Address(address) if endpoint.is_tunnelled => {
            let at = SocketAddr::new(*address, endpoint.port).to_string();
            let local = Value {
                kind: Some(Kind::StringValue(at.clone())),
            };
            let fields = [("local".to_owned(), local)].into_iter().collect();
            metadata.insert(ORIGINAL_DST.to_owned(), Struct { fields });
            parts::internal(names::connect(scope), at)
        }
        Host::Address(address) => parts::socket(address, endpoint.port),
        Host::Name(name) => parts::socket(name, endpoint.port),
    };
    let health = match endpoint.health {
        Health::Healthy => HealthStatus::Healthy,
        Health::Draining => HealthStatus::Draining,
        Health::Unhealthy => HealthStatus::Unhealthy,
    };
    LbEndpoint {
        health_status: health.into(),
        metadata: Some(Metadata {
            filter_metadata: metadata,
            ..Metadata::default()
        }),
        load_balancing_weight: endpoint.weight.and_then(|weight| parts::number(weight.max(1))),
        host_identifier: Some(lb_endpoint::HostIdentifier::Endpoint(Message {
            address: Some(address),
            ..Message::default()
        })),
    }
}
