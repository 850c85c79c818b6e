//! From the wire form of workloads and services to ours. What is wrong with a resource is found here or never.

use std::{net::IpAddr, sync::Arc};

use culvert_identity::SpiffeId;
use culvert_policy::Shared;
use culvert_proto::{EXPORT_TO, HEALTH, TERMINATING, TEXT_TYPE, WAYPOINT_PORTS, config, workload as proto};
use ipnet::IpNet;
use prost::Message as _;

use crate::{
    Workload,
    error::ResourceError,
    extension::{falls_back, is_sticky, text_of},
    service::{Balancing, Closeness, Families, Mode, Service, ServicePort},
    waypoint::{HBONE_PORT, Waypoint, WaypointAt, WeightedWaypoint},
    workload::{Health, Locality, Membership},
};

/// What the controller says of the mesh as a whole, in a `culvert.config.Mesh`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MeshSettings {
    /// The addresses that its pods and services may have.
    pub ranges: Vec<IpNet>,
    /// Namespaces whose pods reach nothing but what the mesh knows.
    pub registry_only: Vec<String>,
}

impl MeshSettings {
    /// Reads them.
    ///
    /// # Errors
    /// Where the bytes are no message of the type, or a range is none.
    pub fn decode(bytes: &[u8]) -> Result<Self, ResourceError> {
        let mesh = config::Mesh::decode(bytes).map_err(|error| ResourceError::Decode(error.to_string()))?;
        let range = |wire: &config::Range| {
            let address = ip(&wire.address, "ranges")?;
            let net = u8::try_from(wire.length)
                .ok()
                .and_then(|length| IpNet::new(address, length).ok());
            net.map(|net| net.trunc()).ok_or(ResourceError::Prefix {
                address,
                length: wire.length,
            })
        };
        Ok(Self {
            ranges: mesh.ranges.iter().map(range).collect::<Result<_, _>>()?,
            registry_only: mesh.registry_only_namespaces,
        })
    }
}

/// What all resources share: texts and more that many of them repeat, and what an empty trust domain means.
#[derive(Debug)]
pub(crate) struct Parser {
    trust_domain: Arc<str>,
    pub(crate) shared: Shared,
}

impl Parser {
    pub(crate) fn new(trust_domain: &str) -> Self {
        Self {
            trust_domain: trust_domain.into(),
            shared: Shared::default(),
        }
    }

    /// One allocation for all equal texts.
    pub(crate) fn shared(&mut self, text: &str) -> Arc<str> {
        self.shared.text(text)
    }

    pub(crate) fn workload(&mut self, name: &str, wire: &proto::Workload) -> Result<Workload, ResourceError> {
        if wire.uid != name {
            return Err(ResourceError::Name(wire.uid.clone()));
        }
        required(&wire.name, "name")?;
        required(&wire.namespace, "namespace")?;
        let addresses = wire.addresses.iter().map(|bytes| unicast(bytes, "addresses"));
        let addresses = addresses.collect::<Result<Box<[IpAddr]>, _>>()?;
        let trust_domain = or(&wire.trust_domain, &self.trust_domain);
        let identity = SpiffeId::new(trust_domain, &wire.namespace, or(&wire.service_account, "default"))?;
        let mut services = Vec::with_capacity(wire.services.len());
        for (service, ports) in &wire.services {
            services.push(Membership {
                service: self.shared(service),
                ports: ports.ports.iter().map(endpoint_port).collect::<Result<_, _>>()?,
            });
        }
        // A map on the wire has no order; what is shown and compared should have one.
        services.sort_by(|a, b| a.service.cmp(&b.service));
        let locality = wire.locality.clone().unwrap_or_default();
        Ok(Workload {
            uid: name.into(),
            name: wire.name.as_str().into(),
            namespace: self.shared(&wire.namespace),
            addresses,
            hostname: (!wire.hostname.is_empty()).then(|| wire.hostname.as_str().into()),
            network: self.shared(&wire.network),
            hbone: tunnel(wire.tunnel_protocol)?,
            identities: [identity.clone()].into(),
            identity,
            waypoints: waypoints(wire.waypoint.as_ref())?,
            waypoint_ports: waypoint_ports(&wire.extensions)?,
            network_gateway: match &wire.network_gateway {
                Some(wire) => Some(gateway(wire)?.to_string().into()),
                None => None,
            },
            native_tunnel: wire.native_tunnel,
            application_tunnel: wire.application_tunnel.is_some(),
            node: self.shared(&wire.node),
            cluster: self.shared(&wire.cluster_id),
            locality: Locality {
                region: self.shared(&locality.region),
                zone: self.shared(&locality.zone),
                subzone: self.shared(&locality.subzone),
            },
            canonical_name: self.shared(&wire.canonical_name),
            canonical_revision: self.shared(&wire.canonical_revision),
            workload_name: self.shared(&wire.workload_name),
            kind: kind(wire.workload_type),
            services: services.into(),
            policies: wire
                .authorization_policies
                .iter()
                .map(|name| self.shared(name))
                .collect(),
            health: health(wire)?,
            is_pod: name.split('/').nth(2) == Some("Pod"),
            host_network: match proto::NetworkMode::try_from(wire.network_mode) {
                Ok(mode) => mode == proto::NetworkMode::HostNetwork,
                Err(_) => return Err(unknown("network_mode", wire.network_mode)),
            },
            falls_back: falls_back(&wire.extensions),
            weight: wire.capacity.unwrap_or(1),
            open: Arc::default(),
            trouble: Arc::default(),
        })
    }

    pub(crate) fn service(&mut self, name: &str, wire: &proto::Service) -> Result<Service, ResourceError> {
        let own = format!("{}/{}", wire.namespace, wire.hostname);
        if own != name {
            return Err(ResourceError::Name(own));
        }
        required(&wire.hostname, "hostname")?;
        required(&wire.namespace, "namespace")?;
        let mut addresses = Vec::with_capacity(wire.addresses.len());
        for address in &wire.addresses {
            addresses.push((self.shared(&address.network), range(address)?));
        }
        // Names of other schemes (a ServiceEntry's DNS names) are for clients that speak TLS themselves.
        let identities = wire
            .subject_alt_names
            .iter()
            .filter(|name| name.starts_with("spiffe://"));
        Ok(Service {
            name: self.shared(name),
            short_name: wire.name.as_str().into(),
            namespace: self.shared(&wire.namespace),
            hostname: wire.hostname.as_str().into(),
            addresses: addresses.into(),
            ports: wire.ports.iter().map(service_port).collect::<Result<_, _>>()?,
            identities: identities.map(|name| SpiffeId::parse(name)).collect::<Result<_, _>>()?,
            waypoints: if wire.weighted_waypoints.is_empty() {
                waypoints(wire.waypoint.as_ref())?
            } else {
                wire.weighted_waypoints.iter().map(weighted).collect::<Result<_, _>>()?
            },
            balancing: balancing(wire)?,
            canonical: wire.canonical,
            seen_in: self.seen_in(wire)?,
            families: families(wire.ip_families),
        })
    }

    /// The namespaces that see a service; none where all do.
    fn seen_in(&mut self, wire: &proto::Service) -> Result<Option<Box<[Arc<str>]>>, ResourceError> {
        if let Some(names) = text_of(&wire.extensions, EXPORT_TO)? {
            let names = names.split(',').filter(|name| !name.is_empty());
            return Ok(Some(names.map(|name| self.shared(name)).collect()));
        }
        match proto::service::Visibility::try_from(wire.visibility) {
            Ok(proto::service::Visibility::Public) => Ok(None),
            Ok(proto::service::Visibility::Namespace) => Ok(Some([self.shared(&wire.namespace)].into())),
            Err(_) => Err(unknown("visibility", wire.visibility)),
        }
    }
}

fn required(value: &str, field: &'static str) -> Result<(), ResourceError> {
    if value.is_empty() {
        Err(ResourceError::Missing(field))
    } else {
        Ok(())
    }
}

fn or<'a>(value: &'a str, default: &'a str) -> &'a str {
    if value.is_empty() { default } else { value }
}

fn unknown(field: &'static str, value: i32) -> ResourceError {
    ResourceError::UnknownValue { field, value }
}

fn ip(bytes: &[u8], field: &'static str) -> Result<IpAddr, ResourceError> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Ok(v4.into());
    }
    match <[u8; 16]>::try_from(bytes) {
        Ok(v6) => Ok(IpAddr::from(v6).to_canonical()),
        Err(_) => Err(ResourceError::AddressLength {
            field,
            bytes: bytes.len(),
        }),
    }
}

fn unicast(bytes: &[u8], field: &'static str) -> Result<IpAddr, ResourceError> {
    let address = ip(bytes, field)?;
    if address.is_unspecified() || address.is_loopback() || address.is_multicast() {
        return Err(ResourceError::Address { field, address });
    }
    Ok(address)
}

fn range(wire: &proto::NetworkAddress) -> Result<IpNet, ResourceError> {
    let Some(length) = wire.length else {
        return Ok(unicast(&wire.address, "addresses")?.into());
    };
    let address = ip(&wire.address, "addresses")?;
    u8::try_from(length)
        .ok()
        .and_then(|length| IpNet::new(address, length).ok())
        .map(|net| net.trunc())
        .ok_or(ResourceError::Prefix { address, length })
}

fn port(value: u32, field: &'static str) -> Result<u16, ResourceError> {
    u16::try_from(value)
        .ok()
        .filter(|port| *port != 0)
        .ok_or(ResourceError::Port { field, value })
}

fn endpoint_port(wire: &proto::Port) -> Result<(u16, u16), ResourceError> {
    Ok((
        port(wire.service_port, "service_port")?,
        port(wire.target_port, "target_port")?,
    ))
}

fn service_port(wire: &proto::Port) -> Result<ServicePort, ResourceError> {
    Ok(ServicePort {
        port: port(wire.service_port, "service_port")?,
        target: match wire.target_port {
            0 => None,
            value => Some(port(value, "target_port")?),
        },
        // For display alone, so a protocol of the future is no reason to refuse the service.
        protocol: proto::AppProtocol::try_from(wire.app_protocol).map_or("UNKNOWN", |protocol| protocol.as_str_name()),
    })
}

/// Sidecars' own mutual TLS is between applications' sidecars; this proxy carries its bytes as they are.
fn tunnel(value: i32) -> Result<bool, ResourceError> {
    match proto::TunnelProtocol::try_from(value) {
        Ok(proto::TunnelProtocol::Hbone) => Ok(true),
        Ok(proto::TunnelProtocol::None | proto::TunnelProtocol::LegacyIstioMtls) => Ok(false),
        Err(_) => Err(unknown("tunnel_protocol", value)),
    }
}

/// A third state that is not known here is none: `status` is what it means to everybody.
fn health(wire: &proto::Workload) -> Result<Health, ResourceError> {
    let status = proto::WorkloadStatus::try_from(wire.status).map_err(|_| unknown("status", wire.status))?;
    if status == proto::WorkloadStatus::Healthy {
        return Ok(Health::Ready);
    }
    let Some(found) = wire.extensions.iter().find(|extension| extension.name == HEALTH) else {
        return Ok(Health::NotReady);
    };
    let config = found.config.as_ref().filter(|config| config.type_url == TEXT_TYPE);
    let state = config.and_then(|config| String::decode(config.value.as_slice()).ok());
    Ok(if state.as_deref() == Some(TERMINATING) {
        Health::Terminating
    } else {
        Health::NotReady
    })
}

/// Families of the future are no reason to refuse the service: its addresses say of which they are.
fn families(value: i32) -> Families {
    match proto::IpFamilies::try_from(value) {
        Ok(proto::IpFamilies::Ipv4Only) => Families::V4,
        Ok(proto::IpFamilies::Ipv6Only) => Families::V6,
        Ok(proto::IpFamilies::Automatic | proto::IpFamilies::Dual) | Err(_) => Families::Any,
    }
}

fn kind(value: i32) -> &'static str {
    proto::WorkloadType::try_from(value).map_or("UNKNOWN", |kind| kind.as_str_name())
}

fn waypoints(wire: Option<&proto::GatewayAddress>) -> Result<Box<[WeightedWaypoint]>, ResourceError> {
    let only = |waypoint| WeightedWaypoint { waypoint, weight: 1 };
    wire.iter().map(|wire| Ok(only(gateway(wire)?))).collect()
}

/// A list that is not understood is left out: then the waypoint is for all ports.
fn waypoint_ports(extensions: &[proto::Extension]) -> Result<Option<Box<[u16]>>, ResourceError> {
    let Some(text) = text_of(extensions, WAYPOINT_PORTS)? else {
        return Ok(None);
    };
    Ok(text.split(',').map(|port| port.parse().ok()).collect())
}

fn weighted(wire: &proto::WeightedWaypoint) -> Result<WeightedWaypoint, ResourceError> {
    let destination = wire.destination.as_ref();
    Ok(WeightedWaypoint {
        waypoint: gateway(destination.ok_or(ResourceError::Missing("weighted_waypoints destination"))?)?,
        weight: wire.weight,
    })
}

fn gateway(wire: &proto::GatewayAddress) -> Result<Waypoint, ResourceError> {
    use proto::gateway_address::Destination;
    let at = match &wire.destination {
        Some(Destination::Hostname(name)) => {
            required(&name.hostname, "gateway hostname")?;
            WaypointAt::Service {
                name: format!("{}/{}", name.namespace, name.hostname).into(),
                host: name.hostname.to_ascii_lowercase().into(),
            }
        }
        Some(Destination::Address(address)) => WaypointAt::Address {
            network: address.network.as_str().into(),
            address: ip(&address.address, "gateway address")?,
        },
        None => return Err(ResourceError::Missing("gateway destination")),
    };
    Ok(Waypoint {
        at,
        port: match wire.hbone_mtls_port {
            0 => HBONE_PORT,
            value => port(value, "hbone_mtls_port")?,
        },
    })
}

fn balancing(service: &proto::Service) -> Result<Balancing, ResourceError> {
    use proto::load_balancing::{HealthPolicy, Mode as WireMode, Scope};
    let sticky = is_sticky(&service.extensions)?;
    let Some(wire) = &service.load_balancing else {
        return Ok(Balancing {
            sticky,
            ..Balancing::default()
        });
    };
    let closeness = |value: &i32| match Scope::try_from(*value) {
        Ok(Scope::Region) => Ok(Closeness::Region),
        Ok(Scope::Zone) => Ok(Closeness::Zone),
        Ok(Scope::Subzone) => Ok(Closeness::Subzone),
        Ok(Scope::Node) => Ok(Closeness::Node),
        Ok(Scope::Cluster) => Ok(Closeness::Cluster),
        Ok(Scope::Network) => Ok(Closeness::Network),
        Ok(Scope::UnspecifiedScope) | Err(_) => Err(unknown("routing_preference", *value)),
    };
    Ok(Balancing {
        preference: wire
            .routing_preference
            .iter()
            .map(closeness)
            .collect::<Result<_, _>>()?,
        mode: match WireMode::try_from(wire.mode) {
            Ok(WireMode::UnspecifiedMode) => Mode::Any,
            Ok(WireMode::Strict) => Mode::Strict,
            Ok(WireMode::Failover) => Mode::Failover,
            Ok(WireMode::Passthrough) => Mode::Passthrough,
            Err(_) => return Err(unknown("mode", wire.mode)),
        },
        allow_unhealthy: match HealthPolicy::try_from(wire.health_policy) {
            Ok(policy) => policy == HealthPolicy::AllowAll,
            Err(_) => return Err(unknown("health_policy", wire.health_policy)),
        },
        sticky,
    })
}
