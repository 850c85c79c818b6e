//! From a ClusterLoadAssignment to endpoints.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use culvert_envoy::{
    CULVERT,
    endpoint::About,
    pb::envoy::config::{
        core::v3::{Address, HealthStatus, Metadata, address::Address as Kind, socket_address::PortSpecifier},
        endpoint::v3::{ClusterLoadAssignment, Endpoint as Message, LbEndpoint, lb_endpoint::HostIdentifier},
    },
};
use culvert_identity::SpiffeId;

use super::refusal::Refusal;

/// Of Envoy: each priority up to the last has lists of its own.
const LOWEST_PRIORITY: u32 = 128;

/// The port of a pod on which its tunnel is.
const TUNNEL_PORT: u16 = 15008;

/// One endpoint of a cluster, as configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointConfig {
    /// Where requests go.
    pub address: SocketAddr,
    /// How it is reached.
    pub way: Way,
    /// Share of requests among the endpoints of a cluster; 1 where nothing is said.
    pub weight: u32,
    /// Whether it takes requests.
    pub health: Health,
    /// 0 is tried first.
    pub priority: u32,
    /// Where it is, among the other endpoints.
    pub locality: Locality,
    /// The host name by which it is known, if by any.
    pub hostname: Option<Arc<str>>,
    /// What telemetry calls it.
    pub about: Arc<About>,
}

/// An endpoint of a cluster as it is written: where it is may be a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    place: Place,
    way: Way,
    weight: u32,
    health: Health,
    priority: u32,
    locality: Locality,
    hostname: Option<Arc<str>>,
    about: Arc<About>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Tunnel(SocketAddr),
    Plain(SocketAddr),
    Named(Arc<str>, u16),
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tunnel(address) | Self::Plain(address) => address.fmt(formatter),
            Self::Named(name, port) => write!(formatter, "{name}:{port}"),
        }
    }
}

impl Member {
    /// Its name, if it is one.
    pub fn name(&self) -> Option<&Arc<str>> {
        match &self.place {
            Place::Named(name, _) => Some(name),
            Place::Tunnel(_) | Place::Plain(_) => None,
        }
    }

    /// The endpoint, at its own address or else at this one; none where there is neither.
    pub fn resolved(self, address: Option<IpAddr>) -> Option<EndpointConfig> {
        let (address, hostname) = match self.place {
            Place::Tunnel(own) | Place::Plain(own) => (own, self.hostname),
            Place::Named(name, port) => (SocketAddr::new(address?, port), self.hostname.or(Some(name))),
        };
        Some(EndpointConfig {
            address,
            way: self.way,
            weight: self.weight,
            health: self.health,
            priority: self.priority,
            locality: self.locality,
            hostname,
            about: self.about,
        })
    }
}

impl EndpointConfig {
    /// What a client dialled, in clear.
    pub fn dialled(address: SocketAddr) -> Self {
        Self {
            address,
            way: Way::Plain,
            weight: 1,
            health: Health::Healthy,
            priority: 0,
            locality: Locality { index: 0, weight: 0 },
            hostname: None,
            about: Arc::default(),
        }
    }
}

/// A locality of one priority.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Locality {
    /// Its place in the assignment.
    pub index: usize,
    /// Its share among those of its priority, where the cluster goes by that; 0 is none.
    pub weight: u32,
}

/// How an endpoint is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// Through the tunnel: where that is, and who must answer there.
    Tunnel {
        /// The tunnel's port of the endpoint's pod.
        node: SocketAddr,
        /// Who must answer.
        identity: SpiffeId,
    },
    /// In clear.
    Plain,
}

/// What the control plane says of an endpoint's health.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// It takes requests, as far as anybody knows.
    Healthy,
    /// It takes requests when too few others do.
    Degraded,
    /// It does not.
    Unhealthy,
    /// It ends, and takes none that could go elsewhere.
    Draining,
}

/// Reads an assignment.
///
/// # Errors
/// Where an endpoint is not of a kind that is served.
pub fn read(assignment: &ClusterLoadAssignment) -> Result<Vec<EndpointConfig>, Refusal> {
    let members = members(assignment)?.into_iter();
    let one = |member: Member| {
        let name = member.name().cloned();
        member.resolved(None).ok_or_else(|| {
            Refusal::new(
                "endpoint.address.socket_address.address",
                format!("`{}` is no IP address", name.as_deref().unwrap_or_default()),
            )
        })
    };
    members.map(one).collect()
}

/// The same where some of them may be names.
///
/// # Errors
/// As [`read`].
pub fn members(assignment: &ClusterLoadAssignment) -> Result<Vec<Member>, Refusal> {
    if !assignment.named_endpoints.is_empty() {
        return Err(Refusal::new("named_endpoints", "is set, and is not served here"));
    }
    if let Some(policy) = &assignment.policy
        && !policy.drop_overloads.is_empty()
    {
        return Err(Refusal::new("policy.drop_overloads", "is set, and is not served here"));
    }
    let mut endpoints = Vec::new();
    for (index, locality) in assignment.endpoints.iter().enumerate() {
        if locality.priority > LOWEST_PRIORITY {
            return Err(Refusal::new(
                "endpoints.priority",
                format!("{} is above {LOWEST_PRIORITY}", locality.priority),
            ));
        }
        let weight = locality.load_balancing_weight.map_or(0, |weight| weight.value);
        for endpoint in &locality.lb_endpoints {
            endpoints.push(read_one(endpoint, locality.priority, Locality { index, weight })?);
        }
    }
    Ok(endpoints)
}

fn read_one(endpoint: &LbEndpoint, priority: u32, locality: Locality) -> Result<Member, Refusal> {
    let Some(HostIdentifier::Endpoint(host)) = &endpoint.host_identifier else {
        return Err(Refusal::new("lb_endpoint.endpoint", "is missing"));
    };
    let about = about(endpoint.metadata.as_ref());
    let place = place(host)?;
    let way = match &place {
        Place::Plain(_) | Place::Named(..) => Way::Plain,
        Place::Tunnel(address) => Way::Tunnel {
            node: SocketAddr::new(address.ip(), TUNNEL_PORT),
            identity: SpiffeId::parse(&about.identity).map_err(|error| {
                Refusal::new(
                    format!("endpoint {address}: metadata {CULVERT} identity"),
                    error.to_string(),
                )
            })?,
        },
    };
    let health = match HealthStatus::try_from(endpoint.health_status) {
        Ok(HealthStatus::Unknown | HealthStatus::Healthy) => Health::Healthy,
        Ok(HealthStatus::Degraded) => Health::Degraded,
        Ok(HealthStatus::Draining) => Health::Draining,
        Ok(HealthStatus::Unhealthy | HealthStatus::Timeout) => Health::Unhealthy,
        Err(_) => return Err(Refusal::new(format!("endpoint {place}: health_status"), "is unknown")),
    };
    Ok(Member {
        place,
        way,
        weight: endpoint.load_balancing_weight.as_ref().map_or(1, |weight| weight.value),
        health,
        priority,
        locality,
        hostname: (!host.hostname.is_empty()).then(|| host.hostname.as_str().into()),
        about: Arc::new(about),
    })
}

/// Where it is.
fn place(host: &Message) -> Result<Place, Refusal> {
    let place = |what: &str| format!("endpoint.address{what}");
    match host.address.as_ref().and_then(|Address { address }| address.as_ref()) {
        Some(Kind::EnvoyInternalAddress(internal)) => match internal.endpoint_id.parse() {
            Ok(address) => Ok(Place::Tunnel(address)),
            Err(_) => Err(Refusal::new(
                place(".envoy_internal_address.endpoint_id"),
                format!("`{}` is no ADDRESS:PORT", internal.endpoint_id),
            )),
        },
        Some(Kind::SocketAddress(socket)) => {
            let port = match socket.port_specifier {
                Some(PortSpecifier::PortValue(port)) => u16::try_from(port).ok().filter(|&port| port != 0),
                _ => None,
            };
            let port = port.ok_or_else(|| Refusal::new(place(".socket_address.port_value"), "is no port"))?;
            Ok(match socket.address.parse::<IpAddr>() {
                Ok(ip) => Place::Plain(SocketAddr::new(ip, port)),
                Err(_) => Place::Named(socket.address.as_str().into(), port),
            })
        }
        Some(Kind::Pipe(_)) => Err(Refusal::new(place(".pipe"), "is not served here")),
        None => Err(Refusal::new(place(""), "is missing")),
    }
}

fn about(metadata: Option<&Metadata>) -> About {
    let ours = metadata.and_then(|metadata| metadata.filter_metadata.get(CULVERT));
    ours.map(About::of).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use culvert_envoy::pb::envoy::config::endpoint::v3::LocalityLbEndpoints;

    use super::*;

    #[test]
    fn a_priority_that_would_need_lists_without_bounds_is_refused_by_name() {
        let assignment = |priority: u32| ClusterLoadAssignment {
            endpoints: vec![LocalityLbEndpoints {
                priority,
                ..LocalityLbEndpoints::default()
            }],
            ..ClusterLoadAssignment::default()
        };
        assert_eq!(read(&assignment(LOWEST_PRIORITY)), Ok(Vec::new()));
        let refusal = read(&assignment(u32::MAX)).unwrap_err().to_string();
        assert!(refusal.contains("endpoints.priority"), "{refusal}");
    }
}
