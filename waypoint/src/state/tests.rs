//! What the store makes of what it is told.

mod warming;

use culvert_envoy::{
    cluster::SYSTEM_ROOTS,
    pack,
    pb::envoy::{
        config::{
            cluster::v3::cluster::{ClusterDiscoveryType, DiscoveryType},
            core::v3::{
                Address, DataSource, SocketAddress, TransportSocket, address, data_source::Specifier, socket_address,
                transport_socket::ConfigType,
            },
            endpoint::v3::{Endpoint as Place, LbEndpoint, LocalityLbEndpoints, lb_endpoint::HostIdentifier},
        },
        extensions::transport_sockets::tls::v3::{
            CertificateValidationContext, CommonTlsContext, TlsParameters, UpstreamTlsContext,
            common_tls_context::ValidationContextType, tls_parameters::TlsProtocol,
        },
    },
};

use super::*;

fn cluster(tls: Option<&str>) -> ClusterMessage {
    let socket = |server_name: &str| {
        let context = UpstreamTlsContext {
            common_tls_context: Some(CommonTlsContext {
                tls_params: Some(TlsParameters {
                    tls_maximum_protocol_version: TlsProtocol::TlSv13.into(),
                    ..TlsParameters::default()
                }),
                validation_context_type: Some(ValidationContextType::ValidationContext(CertificateValidationContext {
                    trusted_ca: Some(DataSource {
                        specifier: Some(Specifier::Filename(SYSTEM_ROOTS.to_owned())),
                        ..DataSource::default()
                    }),
                    ..CertificateValidationContext::default()
                })),
                ..CommonTlsContext::default()
            }),
            sni: server_name.to_owned(),
            ..UpstreamTlsContext::default()
        };
        TransportSocket {
            name: "tls".to_owned(),
            config_type: Some(ConfigType::TypedConfig(pack(&context))),
        }
    };
    ClusterMessage {
        name: "a".to_owned(),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Eds.into())),
        transport_socket: tls.map(socket),
        ..ClusterMessage::default()
    }
}

fn assignment() -> ClusterLoadAssignment {
    let address = address::Address::SocketAddress(SocketAddress {
        address: "198.18.0.1".to_owned(),
        port_specifier: Some(socket_address::PortSpecifier::PortValue(80)),
        ..SocketAddress::default()
    });
    let place = Place {
        address: Some(Address { address: Some(address) }),
        ..Place::default()
    };
    let endpoint = LbEndpoint {
        host_identifier: Some(HostIdentifier::Endpoint(place)),
        ..LbEndpoint::default()
    };
    ClusterLoadAssignment {
        cluster_name: "a".to_owned(),
        endpoints: vec![LocalityLbEndpoints {
            lb_endpoints: vec![endpoint],
            ..LocalityLbEndpoints::default()
        }],
        ..ClusterLoadAssignment::default()
    }
}

/// Pools know connections by the ids of endpoints.
#[test]
fn connections_are_used_again_only_where_tls_is_as_it_was() {
    let mut store = Store::default();
    let mut id_with = |tls: Option<&str>, is_new: bool| {
        if is_new {
            store.remove_cluster("a");
        }
        store.put_cluster(&cluster(tls)).unwrap();
        store.put_endpoints(&assignment()).unwrap();
        store.clusters.in_force()["a"].endpoints[0].id
    };
    let clear = id_with(None, false);
    assert_eq!(id_with(None, false), clear);
    let tls = id_with(Some("a.example"), false);
    assert_ne!(tls, clear);
    assert_eq!(id_with(Some("a.example"), false), tls);
    let other = id_with(Some("b.example"), false);
    assert_ne!(other, tls);
    assert_ne!(id_with(None, true), other, "a cluster that was away");
}
