//! How the endpoints of a cluster are found.

use std::{net::SocketAddr, sync::Arc};

use culvert_envoy::{
    CULVERT,
    cluster::mesh_ranges,
    pb::envoy::config::{
        cluster::v3::{
            Cluster as Message,
            cluster::{ClusterDiscoveryType, DiscoveryType, LbPolicy},
        },
        endpoint::v3::ClusterLoadAssignment,
    },
};
use ipnet::IpNet;

use super::{
    endpoints::{self, EndpointConfig, Member},
    refusal::Refusal,
};

/// How the endpoints of a cluster are found.
#[derive(Clone, Debug)]
pub enum Discovery {
    /// The controller tells them, by this name.
    Told(Arc<str>),
    /// Some of them are names, which are resolved here.
    Named(Named),
    /// A connection goes where it was going.
    Dialled(MeshRanges),
}

/// Endpoints of which some are names.
#[derive(Clone, Debug)]
pub struct Named {
    /// The endpoints.
    pub members: Vec<Member>,
    /// Of the addresses of a name the first counts.
    pub is_round_robin: bool,
    /// What must not be reached in clear.
    pub mesh: MeshRanges,
}

/// The mesh's own ranges: nothing is reached there in clear.
#[derive(Clone, Debug, Default)]
pub struct MeshRanges(Vec<IpNet>);

impl MeshRanges {
    /// Whether an address is the mesh's.
    pub fn contains(&self, address: SocketAddr) -> bool {
        let address = address.ip().to_canonical();
        self.0.iter().any(|range| range.contains(&address))
    }
}

impl Named {
    /// The names, each once for each endpoint that has it.
    pub fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.members.iter().filter_map(Member::name)
    }

    /// The endpoints, where names have these addresses. What is the mesh's is left out, and given to `refuse`.
    pub fn endpoints<'a>(
        &self,
        addresses: impl Fn(&str) -> &'a [std::net::IpAddr],
        mut refuse: impl FnMut(&str, SocketAddr),
    ) -> Vec<EndpointConfig> {
        let mut found = Vec::new();
        for member in &self.members {
            let Some(name) = member.name() else {
                found.extend(member.clone().resolved(None));
                continue;
            };
            let most = if self.is_round_robin { 1 } else { usize::MAX };
            for address in addresses(name).iter().take(most) {
                let config = member.clone().resolved(Some(*address));
                match config {
                    Some(config) if self.mesh.contains(config.address) => refuse(name, config.address),
                    config => found.extend(config),
                }
            }
        }
        found
    }
}

/// Takes what a cluster says of it out of the message.
///
/// # Errors
/// Where it is not served.
#[expect(
    deprecated,
    reason = "their successors name an extension of Envoy that Istio does not use either; Envoy 1.40 takes both"
)]
pub fn take(name: &Arc<str>, cluster: &mut Message) -> Result<Discovery, Refusal> {
    let kind = match cluster.cluster_discovery_type.take() {
        None => DiscoveryType::Static,
        Some(ClusterDiscoveryType::Type(number)) => {
            DiscoveryType::try_from(number).map_err(|_| Refusal::new("type", format!("{number} is unknown")))?
        }
        Some(ClusterDiscoveryType::ClusterType(custom)) => {
            return Err(Refusal::new(
                "cluster_type",
                format!("`{}` is not served here", custom.name),
            ));
        }
    };
    match kind {
        DiscoveryType::Eds => {
            let endpoints = cluster.eds_cluster_config.take().map(|eds| eds.service_name);
            let endpoints = endpoints.filter(|name| !name.is_empty()).map(Into::into);
            Ok(Discovery::Told(endpoints.unwrap_or_else(|| Arc::clone(name))))
        }
        DiscoveryType::StrictDns | DiscoveryType::LogicalDns => {
            let assignment: ClusterLoadAssignment = cluster
                .load_assignment
                .take()
                .ok_or_else(|| Refusal::new("load_assignment", "is missing"))?;
            // How often names are asked for anew follows from the answers; these are for Envoy.
            cluster.dns_lookup_family = 0;
            cluster.respect_dns_ttl = false;
            cluster.dns_refresh_rate = None;
            cluster.dns_failure_refresh_rate = None;
            Ok(Discovery::Named(Named {
                members: endpoints::members(&assignment).map_err(|refusal| refusal.within("load_assignment"))?,
                is_round_robin: kind == DiscoveryType::LogicalDns,
                mesh: ranges(cluster)?,
            }))
        }
        DiscoveryType::OriginalDst => {
            let policy = std::mem::take(&mut cluster.lb_policy);
            if policy != i32::from(LbPolicy::ClusterProvided) {
                return Err(Refusal::new(
                    "lb_policy",
                    "is not CLUSTER_PROVIDED, as type ORIGINAL_DST asks for",
                ));
            }
            Ok(Discovery::Dialled(ranges(cluster)?))
        }
        other => Err(Refusal::new(
            "type",
            format!("{} is not served here", other.as_str_name()),
        )),
    }
}

fn ranges(cluster: &Message) -> Result<MeshRanges, Refusal> {
    let metadata = cluster.metadata.as_ref();
    let own = metadata.and_then(|metadata| metadata.filter_metadata.get(CULVERT));
    let texts = own.map(mesh_ranges).unwrap_or_default();
    let range = |text: &String| {
        text.parse().map_err(|_| {
            Refusal::new(
                format!("metadata {CULVERT} mesh-ranges"),
                format!("`{text}` is no range"),
            )
        })
    };
    Ok(MeshRanges(texts.iter().map(range).collect::<Result<_, _>>()?))
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use culvert_envoy::pb::envoy::config::{
        core::v3::{Address, SocketAddress, address, socket_address::PortSpecifier},
        endpoint::v3::{Endpoint, LbEndpoint, LocalityLbEndpoints, lb_endpoint::HostIdentifier},
    };

    use super::*;

    fn endpoint(host: &str, port: u32) -> LbEndpoint {
        let socket = SocketAddress {
            address: host.to_owned(),
            port_specifier: Some(PortSpecifier::PortValue(port)),
            ..SocketAddress::default()
        };
        LbEndpoint {
            host_identifier: Some(HostIdentifier::Endpoint(Endpoint {
                address: Some(Address {
                    address: Some(address::Address::SocketAddress(socket)),
                }),
                ..Endpoint::default()
            })),
            ..LbEndpoint::default()
        }
    }

    fn message(kind: DiscoveryType) -> Message {
        let mut metadata = culvert_envoy::pb::google::protobuf::Struct::default();
        culvert_envoy::cluster::put_mesh_ranges(&mut metadata, ["10.0.0.0/8".to_owned()].into_iter());
        Message {
            cluster_discovery_type: Some(ClusterDiscoveryType::Type(kind.into())),
            load_assignment: Some(ClusterLoadAssignment {
                endpoints: vec![LocalityLbEndpoints {
                    lb_endpoints: vec![endpoint("api.example", 80), endpoint("192.0.2.9", 81)],
                    ..LocalityLbEndpoints::default()
                }],
                ..ClusterLoadAssignment::default()
            }),
            metadata: Some(culvert_envoy::pb::envoy::config::core::v3::Metadata {
                filter_metadata: [(CULVERT.to_owned(), metadata)].into_iter().collect(),
                ..Default::default()
            }),
            ..Message::default()
        }
    }

    fn found(kind: DiscoveryType) -> (Vec<String>, Vec<String>) {
        let Discovery::Named(named) = take(&"c".into(), &mut message(kind)).unwrap() else {
            panic!("not by name");
        };
        let addresses: Vec<IpAddr> = ["10.1.1.1", "192.0.2.1", "192.0.2.2"]
            .map(|text| text.parse().unwrap())
            .into();
        let mut refused = Vec::new();
        let found = named.endpoints(
            |name| if name == "api.example" { &addresses } else { &[] },
            |name, address| refused.push(format!("{name} {address}")),
        );
        (found.iter().map(|config| config.address.to_string()).collect(), refused)
    }

    #[test]
    fn each_address_of_a_name_is_an_endpoint_but_those_of_the_mesh() {
        let (found, refused) = found(DiscoveryType::StrictDns);
        assert_eq!(found, ["192.0.2.1:80", "192.0.2.2:80", "192.0.2.9:81"]);
        assert_eq!(refused, ["api.example 10.1.1.1:80"]);
    }

    #[test]
    fn of_a_name_that_takes_turns_the_first_address_counts() {
        let (found, refused) = found(DiscoveryType::LogicalDns);
        assert_eq!(found, ["192.0.2.9:81"]);
        assert_eq!(refused, ["api.example 10.1.1.1:80"]);
    }

    #[test]
    fn other_kinds_are_refused_by_name() {
        let refused = take(&"c".into(), &mut message(DiscoveryType::Static)).unwrap_err();
        assert_eq!(refused.to_string(), "type: STATIC is not served here");
        let refused = take(&"c".into(), &mut message(DiscoveryType::OriginalDst)).unwrap_err();
        assert!(
            refused.to_string().starts_with("lb_policy: is not CLUSTER_PROVIDED"),
            "{refused}"
        );
    }
}
