//! One list of access policies.

use std::collections::BTreeMap;
use std::net::IpAddr;

use culvert_envoy::pb::envoy::config::core::v3::CidrRange;
use culvert_envoy::pb::envoy::config::rbac::v3::{
    Permission, Policy, Principal, Rbac as Message, permission::Rule, principal::Identifier, rbac::Action,
};
use culvert_envoy::pb::envoy::r#type::matcher::v3::metadata_matcher::path_segment::Segment;
use culvert_envoy::pb::envoy::r#type::matcher::v3::{MetadataMatcher, PathMatcher, path_matcher};
use ipnet::IpNet;

use super::attributes::Attributes;
use crate::error::{CompileError, Within as _, take};
use crate::matching::client::Client;
use crate::matching::header::Header;
use crate::matching::json::Json;
use crate::matching::text::Text;

/// Policies in the order of their names.
#[derive(Debug)]
pub(super) struct Rules {
    action: Action,
    policies: BTreeMap<String, [Test; 2]>,
}

/// Something that a request is or is not.
#[derive(Debug)]
enum Test {
    And(Vec<Test>),
    Or(Vec<Test>),
    Not(Box<Test>),
    Any,
    Header(Header),
    /// The path without the query.
    Path(Text),
    DestinationAddress(IpNet),
    /// From the first up to but without the second.
    DestinationPort(u32, u32),
    SourceAddress(IpNet),
    /// There is no TLS inside of the tunnel that names a server, so it is compared with nothing.
    ServerName(Text),
    Client(Client),
    /// A claim of a token, by the path to it; or that it is not so.
    Claim {
        path: Vec<String>,
        value: Json,
        invert: bool,
    },
}

impl Rules {
    pub(super) fn compile(message: &Message) -> Result<Self, CompileError> {
        take!(message => Message { action, policies } unserved { audit_logging_options });
        let action = Action::try_from(*action)
            .map_err(|_| CompileError::invalid("action", format_args!("there is no {action}")))?;
        let policy = |(name, policy): (&String, &Policy)| {
            let compiled = compile_policy(policy).within(|| format!("policy {name:?}"))?;
            Ok((name.clone(), compiled))
        };
        Ok(Self {
            action,
            policies: policies.iter().map(policy).collect::<Result<_, CompileError>>()?,
        })
    }

    /// Whether they let every request on.
    pub(super) fn is_log(&self) -> bool {
        self.action == Action::Log
    }

    /// Whether a request goes on, and the policy that it is like.
    pub(super) fn decide(&self, attributes: &Attributes<'_>) -> (bool, Option<&str>) {
        let alike = self
            .policies
            .iter()
            .find(|(_, tests)| tests.iter().all(|test| test.holds(attributes)));
        let name = alike.map(|(name, _)| name.as_str());
        let allowed = match self.action {
            Action::Allow => name.is_some(),
            Action::Deny => name.is_none(),
            Action::Log => true,
        };
        (allowed, name)
    }
}

fn compile_policy(policy: &Policy) -> Result<[Test; 2], CompileError> {
    take!(policy => Policy { permissions, principals } unserved { condition, checked_condition, cel_config });
    if permissions.is_empty() {
        return Err(CompileError::missing("permissions"));
    }
    if principals.is_empty() {
        return Err(CompileError::missing("principals"));
    }
    Ok([
        Test::Or(permission_list(permissions).within(|| "permissions".into())?),
        Test::Or(principal_list(principals).within(|| "principals".into())?),
    ])
}

fn permission_list(permissions: &[Permission]) -> Result<Vec<Test>, CompileError> {
    let compile = |(index, permission)| permission_test(permission).within(|| format!("[{index}]"));
    permissions.iter().enumerate().map(compile).collect()
}

fn permission_test(permission: &Permission) -> Result<Test, CompileError> {
    let rule = permission.rule.as_ref().ok_or_else(|| CompileError::missing("rule"))?;
    #[allow(deprecated, reason = "what Envoy deprecates is named as what it is")]
    Ok(match rule {
        Rule::AndRules(set) => Test::And(permission_list(&set.rules)?),
        Rule::OrRules(set) => Test::Or(permission_list(&set.rules)?),
        Rule::NotRule(permission) => Test::Not(Box::new(permission_test(permission)?)),
        Rule::Any(true) => Test::Any,
        Rule::Any(false) => return Err(CompileError::invalid("any", "is false")),
        Rule::Header(header) => Test::Header(Header::compile(header).within(|| "header".into())?),
        Rule::UrlPath(path) => Test::Path(url_path(path)?),
        Rule::DestinationIp(range) => Test::DestinationAddress(network("destination_ip", range)?),
        Rule::DestinationPort(port) => Test::DestinationPort(*port, port.saturating_add(1)),
        Rule::DestinationPortRange(range) => {
            let port = |number: i32| {
                u32::try_from(number).map_err(|_| CompileError::invalid("destination_port_range", "is negative"))
            };
            Test::DestinationPort(port(range.start)?, port(range.end)?)
        }
        Rule::RequestedServerName(name) => {
            Test::ServerName(Text::compile(name).within(|| "requested_server_name".into())?)
        }
        Rule::Metadata(matcher) => claim(matcher).within(|| "metadata".into())?,
        Rule::Matcher(_) => return Err(CompileError::unserved("matcher")),
        Rule::UriTemplate(_) => return Err(CompileError::unserved("uri_template")),
        Rule::SourcedMetadata(_) => return Err(CompileError::unserved("sourced_metadata")),
    })
}

fn principal_list(principals: &[Principal]) -> Result<Vec<Test>, CompileError> {
    let compile = |(index, principal)| principal_test(principal).within(|| format!("[{index}]"));
    principals.iter().enumerate().map(compile).collect()
}

fn principal_test(principal: &Principal) -> Result<Test, CompileError> {
    let identifier = principal
        .identifier
        .as_ref()
        .ok_or_else(|| CompileError::missing("identifier"))?;
    #[allow(deprecated, reason = "what Envoy deprecates is named as what it is")]
    Ok(match identifier {
        Identifier::AndIds(set) => Test::And(principal_list(&set.ids)?),
        Identifier::OrIds(set) => Test::Or(principal_list(&set.ids)?),
        Identifier::NotId(principal) => Test::Not(Box::new(principal_test(principal)?)),
        Identifier::Any(true) => Test::Any,
        Identifier::Any(false) => return Err(CompileError::invalid("any", "is false")),
        // Nothing in front of a waypoint says that an address is another than it is.
        Identifier::DirectRemoteIp(range) => Test::SourceAddress(network("direct_remote_ip", range)?),
        Identifier::RemoteIp(range) => Test::SourceAddress(network("remote_ip", range)?),
        Identifier::SourceIp(range) => Test::SourceAddress(network("source_ip", range)?),
        Identifier::Header(header) => Test::Header(Header::compile(header).within(|| "header".into())?),
        Identifier::UrlPath(path) => Test::Path(url_path(path)?),
        Identifier::Metadata(matcher) => claim(matcher).within(|| "metadata".into())?,
        Identifier::FilterState(state) => Test::Client(Client::compile(state).within(|| "filter_state".into())?),
        // There is no TLS behind the tunnel: it would match nobody, and a denial by it would let everybody pass.
        Identifier::Authenticated(_) => return Err(CompileError::unserved("authenticated")),
        Identifier::SourcedMetadata(_) => return Err(CompileError::unserved("sourced_metadata")),
        Identifier::Custom(_) => return Err(CompileError::unserved("custom")),
    })
}

fn url_path(matcher: &PathMatcher) -> Result<Text, CompileError> {
    match &matcher.rule {
        Some(path_matcher::Rule::Path(path)) => Text::compile(path).within(|| "url_path".into()),
        None => Err(CompileError::missing("url_path")),
    }
}

fn network(field: &str, range: &CidrRange) -> Result<IpNet, CompileError> {
    let bad = || CompileError::invalid(field, format_args!("{range:?} is no range of addresses"));
    let address: IpAddr = range.address_prefix.parse().map_err(|_| bad())?;
    let length = range.prefix_len.as_ref().map_or(0, |length| length.value);
    let length = u8::try_from(length).map_err(|_| bad())?;
    IpNet::new(address, length).map(|net| net.trunc()).map_err(|_| bad())
}

fn claim(matcher: &MetadataMatcher) -> Result<Test, CompileError> {
    take!(matcher => MetadataMatcher { filter, path, value, invert } unserved {});
    if filter != "envoy.filters.http.jwt_authn" {
        return Err(CompileError::invalid(
            "filter",
            format_args!("there is no metadata of {filter:?}"),
        ));
    }
    let key = |segment: &culvert_envoy::pb::envoy::r#type::matcher::v3::metadata_matcher::PathSegment| match &segment
        .segment
    {
        Some(Segment::Key(key)) => Ok(key.clone()),
        None => Err(CompileError::missing("path")),
    };
    let value = value.as_ref().ok_or_else(|| CompileError::missing("value"))?;
    Ok(Test::Claim {
        path: path.iter().map(key).collect::<Result<_, _>>()?,
        value: Json::compile(value).within(|| "value".into())?,
        invert: *invert,
    })
}

impl Test {
    fn holds(&self, attributes: &Attributes<'_>) -> bool {
        let Attributes { request, peer, tokens } = attributes;
        match self {
            Self::And(tests) => tests.iter().all(|test| test.holds(attributes)),
            Self::Or(tests) => tests.iter().any(|test| test.holds(attributes)),
            Self::Not(test) => !test.holds(attributes),
            Self::Any => true,
            Self::Header(header) => header.matches(request),
            Self::Path(text) => text.matches(request.uri.path().as_bytes()),
            Self::DestinationAddress(network) => {
                peer.destination.is_some_and(|address| contains(network, address.ip()))
            }
            Self::DestinationPort(from, to) => peer
                .destination
                .is_some_and(|address| (*from..*to).contains(&u32::from(address.port()))),
            Self::SourceAddress(network) => peer.address.is_some_and(|address| contains(network, address.ip())),
            Self::ServerName(text) => text.matches(b""),
            Self::Client(client) => client.matches(peer),
            Self::Claim { path, value, invert } => {
                let mut segments = path.iter();
                let first = segments.next().and_then(|key| tokens.as_ref()?.get(key));
                let found = segments.fold(first, |at, key| at?.get(key));
                value.matches(found) != *invert
            }
        }
    }
}

fn contains(network: &IpNet, address: IpAddr) -> bool {
    network.contains(&address.to_canonical())
}
