//! What several messages have in common.

use std::time::Duration;

use culvert_envoy::pb::envoy::config::core::v3::config_source::ConfigSourceSpecifier;
use culvert_envoy::pb::envoy::config::core::v3::header_value_option::HeaderAppendAction;
use culvert_envoy::pb::envoy::config::core::v3::{
    Address, AggregatedConfigSource, ApiVersion, CidrRange, ConfigSource, EnvoyInternalAddress, HeaderValue,
    HeaderValueOption, RuntimeFractionalPercent, SocketAddress, TransportSocket, address, envoy_internal_address,
    socket_address, transport_socket,
};
use culvert_envoy::pb::envoy::config::listener::v3::{Filter, ListenerFilter, filter, listener_filter};
use culvert_envoy::pb::envoy::extensions::filters::network::http_connection_manager::v3::{HttpFilter, http_filter};
use culvert_envoy::pb::envoy::extensions::transport_sockets::internal_upstream::v3::{
    InternalUpstreamTransport, internal_upstream_transport::MetadataValueSource,
};
use culvert_envoy::pb::envoy::extensions::transport_sockets::raw_buffer::v3::RawBuffer;
use culvert_envoy::pb::envoy::r#type::matcher::v3::{RegexMatcher, StringMatcher, string_matcher::MatchPattern};
use culvert_envoy::pb::envoy::r#type::metadata::v3::{MetadataKind, metadata_kind};
use culvert_envoy::pb::envoy::r#type::v3::{FractionalPercent, fractional_percent::DenominatorType};
use culvert_envoy::pb::google::protobuf;
use culvert_envoy::{names, pack};
use ipnet::IpNet;
use prost::{Message, Name};

use super::super::model::{Backend, Headers, Text};

/// The cluster of a backend. Without one it is a name that no cluster has: what goes there is answered with 500.
pub(super) fn cluster_name(scope: &str, backend: Option<&Backend>) -> String {
    match backend {
        Some(backend) => names::cluster(scope, &backend.service, backend.port, backend.subset.as_deref()),
        None => format!("{scope}/no-backend"),
    }
}

pub(super) fn duration(duration: Duration) -> protobuf::Duration {
    protobuf::Duration {
        seconds: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        nanos: duration.subsec_nanos().try_into().unwrap_or_default(),
    }
}

/// A duration of which Envoy takes none that is shorter.
pub(super) fn at_least_a_millisecond(time: Duration) -> protobuf::Duration {
    duration(time.max(Duration::from_millis(1)))
}

pub(super) fn number(value: u32) -> Option<protobuf::UInt32Value> {
    Some(protobuf::UInt32Value { value })
}

pub(super) fn flag(value: bool) -> Option<protobuf::BoolValue> {
    Some(protobuf::BoolValue { value })
}

pub(super) fn regex(regex: &str) -> RegexMatcher {
    RegexMatcher {
        regex: regex.to_owned(),
        ..RegexMatcher::default()
    }
}

pub(super) fn text(pattern: MatchPattern) -> StringMatcher {
    StringMatcher {
        match_pattern: Some(pattern),
        ..StringMatcher::default()
    }
}

/// What a text is compared with; none where it is only to be there.
pub(super) fn pattern(text: &Text) -> Option<MatchPattern> {
    Some(match text {
        Text::Exact(text) => MatchPattern::Exact(text.clone()),
        Text::Prefix(text) => MatchPattern::Prefix(text.clone()),
        Text::Regex(text) => MatchPattern::SafeRegex(regex(text)),
        Text::Present => return None,
    })
}

/// A share of a million.
pub(super) fn share(numerator: u32) -> FractionalPercent {
    FractionalPercent {
        numerator,
        denominator: DenominatorType::Million.into(),
    }
}

/// The same where it may be changed while Envoy runs.
pub(super) fn fraction(share_of_million: u32) -> RuntimeFractionalPercent {
    RuntimeFractionalPercent {
        default_value: Some(share(share_of_million)),
        ..RuntimeFractionalPercent::default()
    }
}

/// From the stream that everything comes by.
pub(super) fn ads() -> ConfigSource {
    ConfigSource {
        resource_api_version: ApiVersion::V3.into(),
        config_source_specifier: Some(ConfigSourceSpecifier::Ads(AggregatedConfigSource {})),
        ..ConfigSource::default()
    }
}

/// A network filter.
pub(super) fn filter<M: Message + Name>(name: &str, config: &M) -> Filter {
    Filter {
        name: name.to_owned(),
        config_type: Some(filter::ConfigType::TypedConfig(pack(config))),
    }
}

pub(super) fn transport<M: Message + Name>(name: &str, config: &M) -> TransportSocket {
    TransportSocket {
        name: name.to_owned(),
        config_type: Some(transport_socket::ConfigType::TypedConfig(pack(config))),
    }
}

/// The way into internal listeners, in clear; what `metadata` of an endpoint says goes along.
pub(super) fn internal_upstream(metadata: &[&str]) -> TransportSocket {
    internal_upstream_of(metadata, transport("envoy.transport_sockets.raw_buffer", &RawBuffer {}))
}

/// The same, with what goes into them.
pub(super) fn internal_upstream_of(metadata: &[&str], socket: TransportSocket) -> TransportSocket {
    let host = MetadataKind {
        kind: Some(metadata_kind::Kind::Host(metadata_kind::Host {})),
    };
    let source = |name: &&str| MetadataValueSource {
        kind: Some(host),
        name: (*name).to_owned(),
    };
    let config = InternalUpstreamTransport {
        passthrough_metadata: metadata.iter().map(source).collect(),
        transport_socket: Some(socket),
    };
    transport("envoy.transport_sockets.internal_upstream", &config)
}

pub(super) fn socket(address: impl ToString, port: u16) -> Address {
    Address {
        address: Some(address::Address::SocketAddress(SocketAddress {
            address: address.to_string(),
            port_specifier: Some(socket_address::PortSpecifier::PortValue(port.into())),
            ..SocketAddress::default()
        })),
    }
}

pub(super) fn internal(listener: String, endpoint_id: String) -> Address {
    let name = envoy_internal_address::AddressNameSpecifier::ServerListenerName(listener);
    Address {
        address: Some(address::Address::EnvoyInternalAddress(EnvoyInternalAddress {
            endpoint_id,
            address_name_specifier: Some(name),
        })),
    }
}

/// A range, or an address alone.
pub(super) fn range(range: IpNet) -> CidrRange {
    CidrRange {
        address_prefix: range.network().to_string(),
        prefix_len: number(range.prefix_len().into()),
    }
}

/// What is set and added: in this order, so that what is added to a header that is set comes behind it.
pub(super) fn header_options(headers: &Headers) -> Vec<HeaderValueOption> {
    let option = |(name, value): &(String, String), action: HeaderAppendAction| HeaderValueOption {
        header: Some(HeaderValue {
            key: name.clone(),
            // A percent sign begins a command.
            value: value.replace('%', "%%"),
            ..HeaderValue::default()
        }),
        append_action: action.into(),
        keep_empty_value: true,
        ..HeaderValueOption::default()
    };
    let set = headers
        .set
        .iter()
        .map(|header| option(header, HeaderAppendAction::OverwriteIfExistsOrAdd));
    let add = headers
        .add
        .iter()
        .map(|header| option(header, HeaderAppendAction::AppendIfExistsOrAdd));
    set.chain(add).collect()
}

/// A filter of requests.
pub(super) fn http_filter<M: Message + Name>(name: &str, config: &M) -> HttpFilter {
    HttpFilter {
        name: name.to_owned(),
        config_type: Some(http_filter::ConfigType::TypedConfig(pack(config))),
        ..HttpFilter::default()
    }
}

/// A filter of connections before they have a chain.
pub(super) fn listener_filter<M: Message + Name>(name: &str, config: &M) -> ListenerFilter {
    ListenerFilter {
        name: name.to_owned(),
        config_type: Some(listener_filter::ConfigType::TypedConfig(pack(config))),
        ..ListenerFilter::default()
    }
}
