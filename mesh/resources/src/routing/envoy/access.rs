//! Access policies: Envoy's RBAC filters, for requests and for connections.

use culvert_envoy::pb::envoy::config::core::v3::CidrRange;
use culvert_envoy::pb::envoy::config::listener::v3::{Filter, filter};
use culvert_envoy::pb::envoy::config::rbac::v3::{
    Permission, Policy as Message, Principal, Rbac as Rules, permission, permission::Rule as Asked, principal,
    principal::Identifier, rbac::Action,
};
use culvert_envoy::pb::envoy::extensions::filters::http::rbac::v3::Rbac;
use culvert_envoy::pb::envoy::extensions::filters::network::http_connection_manager::v3::{HttpFilter, http_filter};
use culvert_envoy::pb::envoy::extensions::filters::network::rbac::v3::Rbac as NetworkRbac;
use culvert_envoy::pb::google::protobuf::Any;
use culvert_envoy::{DRY_RUN_ALLOW, DRY_RUN_DENY, type_url};
use culvert_policy::Purpose;
use culvert_policy::istio::Side;
use culvert_policy::istio::request::{Rule, Test};
use ipnet::IpNet;
use prost::Message as _;

use super::super::model::Policy;
use super::{parts, texts};

pub(super) const HTTP: &str = "envoy.filters.http.rbac";
const NETWORK: &str = "envoy.filters.network.rbac";

/// The filters for requests: those that decide nothing, then who is denied, then who is allowed.
pub(super) fn of_requests(policies: &[Policy]) -> Vec<HttpFilter> {
    let filters = lists(policies).map(|(shadow, rules)| {
        let messages = rules.into_iter().map(|rules| match shadow {
            None => Rbac {
                rules: Some(rules),
                ..Rbac::default()
            },
            Some(prefix) => Rbac {
                shadow_rules: Some(rules),
                shadow_rules_stat_prefix: prefix.to_owned(),
                ..Rbac::default()
            },
        });
        http_filter::ConfigType::TypedConfig(Any {
            type_url: type_url::<Rbac>(),
            value: messages.flat_map(|message| message.encode_to_vec()).collect(),
        })
    });
    filters
        .map(|config| HttpFilter {
            name: HTTP.to_owned(),
            config_type: Some(config),
            ..HttpFilter::default()
        })
        .collect()
}

/// The same for connections; `prefix` is what their statistics begin with.
pub(super) fn of_connections(policies: &[Policy], prefix: &str) -> Vec<Filter> {
    let filters = lists(policies).map(|(shadow, rules)| {
        let stat_prefix = || prefix.to_owned();
        let messages = rules.into_iter().map(|rules| match shadow {
            None => NetworkRbac {
                rules: Some(rules),
                stat_prefix: stat_prefix(),
                ..NetworkRbac::default()
            },
            Some(prefix) => NetworkRbac {
                shadow_rules: Some(rules),
                shadow_rules_stat_prefix: prefix.to_owned(),
                stat_prefix: stat_prefix(),
                ..NetworkRbac::default()
            },
        });
        filter::ConfigType::TypedConfig(Any {
            type_url: type_url::<NetworkRbac>(),
            value: messages.flat_map(|message| message.encode_to_vec()).collect(),
        })
    });
    filters
        .map(|config| Filter {
            name: NETWORK.to_owned(),
            config_type: Some(config),
        })
        .collect()
}

/// What a list of rules is for, by purpose and side of its policies; and what the keys of its metadata begin with if it is only looked at.
const LISTS: [(Purpose, Side, Action, Option<&str>); 5] = [
    (Purpose::Audit, Side::Under, Action::Log, None),
    (Purpose::DryRun, Side::Over, Action::Deny, Some(DRY_RUN_DENY)),
    (Purpose::DryRun, Side::Under, Action::Allow, Some(DRY_RUN_ALLOW)),
    (Purpose::Enforced, Side::Over, Action::Deny, None),
    (Purpose::Enforced, Side::Under, Action::Allow, None),
];

/// The rules of each list that has policies, as messages with one rule each: one behind the other they are one message, and unlike one
/// that has a map of all rules they are the same bytes every time. With each the beginning of its keys, if it is only looked at.
fn lists(policies: &[Policy]) -> impl Iterator<Item = (Option<&'static str>, Vec<Rules>)> {
    LISTS.into_iter().filter_map(|(purpose, side, action, shadow)| {
        let here = policies
            .iter()
            .filter(|policy| policy.policy.side == side && policy.policy.purpose == purpose);
        let mut rules: Vec<Rules> = here
            .clone()
            .flat_map(|policy| policy.policy.rules.iter().map(|rule| (&policy.name, rule)))
            .map(|(name, rule)| Rules {
                action: action.into(),
                policies: [(format!("{name}[{}]", rule.index), message(rule))].into(),
                ..Rules::default()
            })
            .collect();
        let is_there = here.count() > 0;
        // Policies that allow nobody are there, too.
        if rules.is_empty() && is_there && action == Action::Allow {
            rules.push(Rules {
                action: action.into(),
                ..Rules::default()
            });
        }
        (!rules.is_empty()).then_some((shadow, rules))
    })
}

/// A rule as Envoy's.
pub(super) fn message(rule: &Rule) -> Message {
    Message {
        permissions: vec![asked(&rule.operation)],
        principals: vec![asking(&rule.source)],
        ..Message::default()
    }
}

fn asked(tests: &[Test]) -> Permission {
    Permission {
        rule: Some(match tests {
            [] => Asked::Any(true),
            [one] => asked_one(one),
            all => Asked::AndRules(permission::Set {
                rules: all.iter().map(permission).collect(),
            }),
        }),
    }
}

fn permission(test: &Test) -> Permission {
    Permission {
        rule: Some(asked_one(test)),
    }
}

fn asked_one(test: &Test) -> Asked {
    match test {
        Test::All(tests) => Asked::AndRules(permission::Set {
            rules: tests.iter().map(permission).collect(),
        }),
        Test::Any(tests) => Asked::OrRules(permission::Set {
            rules: tests.iter().map(permission).collect(),
        }),
        Test::Not(test) => Asked::NotRule(Box::new(permission(test))),
        Test::Method(pattern) => Asked::Header(texts::header(":method", texts::plain(pattern))),
        Test::Header(name, pattern) => Asked::Header(texts::header(name, texts::plain(pattern))),
        Test::Host(pattern) => Asked::Header(texts::header(":authority", texts::host(pattern))),
        Test::Path(pattern) => Asked::UrlPath(texts::path(texts::plain(pattern))),
        Test::Template(segments) => Asked::UrlPath(texts::path(texts::template(segments))),
        Test::DestinationPort(port) => Asked::DestinationPort(u32::from(*port)),
        Test::DestinationAddress(network) => Asked::DestinationIp(range(*network)),
        // What is asked for says nothing of who asks, and is read so that it never does: see `culvert_policy`.
        Test::Principal(_)
        | Test::TrustDomain(_)
        | Test::Namespace(_)
        | Test::ServiceAccount { .. }
        | Test::SourceAddress(_)
        | Test::RemoteAddress(_)
        | Test::Claim(..) => Asked::NotRule(Box::new(Permission {
            rule: Some(Asked::Any(true)),
        })),
    }
}

fn asking(tests: &[Test]) -> Principal {
    Principal {
        identifier: Some(match tests {
            [] => Identifier::Any(true),
            [one] => asking_one(one),
            all => Identifier::AndIds(principal::Set {
                ids: all.iter().map(principal).collect(),
            }),
        }),
    }
}

fn principal(test: &Test) -> Principal {
    Principal {
        identifier: Some(asking_one(test)),
    }
}

fn asking_one(test: &Test) -> Identifier {
    #[allow(deprecated, reason = "what is to replace it is not in Envoy's own releases for long")]
    match test {
        Test::All(tests) => Identifier::AndIds(principal::Set {
            ids: tests.iter().map(principal).collect(),
        }),
        Test::Any(tests) => Identifier::OrIds(principal::Set {
            ids: tests.iter().map(principal).collect(),
        }),
        Test::Not(test) => Identifier::NotId(Box::new(principal(test))),
        Test::Principal(pattern) => Identifier::FilterState(texts::client(texts::principal(pattern))),
        Test::TrustDomain(pattern) => Identifier::FilterState(texts::client(texts::trust_domain(pattern))),
        Test::Namespace(pattern) => Identifier::FilterState(texts::client(texts::namespace(pattern))),
        Test::ServiceAccount { namespace, name } => {
            Identifier::FilterState(texts::client(texts::service_account(namespace, name)))
        }
        Test::SourceAddress(network) => Identifier::DirectRemoteIp(range(*network)),
        Test::RemoteAddress(network) => Identifier::RemoteIp(range(*network)),
        Test::Claim(path, pattern) => Identifier::Metadata(texts::claim(path, pattern)),
        Test::Header(name, pattern) => Identifier::Header(texts::header(name, texts::plain(pattern))),
        Test::Method(pattern) => Identifier::Header(texts::header(":method", texts::plain(pattern))),
        Test::Host(pattern) => Identifier::Header(texts::header(":authority", texts::host(pattern))),
        Test::Path(pattern) => Identifier::UrlPath(texts::path(texts::plain(pattern))),
        Test::Template(segments) => Identifier::UrlPath(texts::path(texts::template(segments))),
        // As above: who asks says nothing of where to.
        Test::DestinationPort(_) | Test::DestinationAddress(_) => Identifier::NotId(Box::new(Principal {
            identifier: Some(Identifier::Any(true)),
        })),
    }
}

fn range(network: IpNet) -> CidrRange {
    CidrRange {
        address_prefix: network.network().to_string(),
        prefix_len: parts::number(network.prefix_len().into()),
    }
}
