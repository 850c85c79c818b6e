//! What is let through, and by which policy.

use std::collections::HashMap;

use culvert_envoy::PEER_PRINCIPAL;
use culvert_envoy::pb::envoy::config::core::v3::CidrRange;
use culvert_envoy::pb::envoy::config::rbac::v3::{
    Permission, Policy, Principal, Rbac as Rules, permission, permission::Rule, principal::Authenticated,
    principal::Identifier,
};
use culvert_envoy::pb::envoy::config::route::v3::{HeaderMatcher, header_matcher::HeaderMatchSpecifier};
use culvert_envoy::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use culvert_envoy::pb::envoy::r#type::matcher::v3::{
    FilterStateMatcher, MetadataMatcher, PathMatcher, ValueMatcher, filter_state_matcher, metadata_matcher,
    path_matcher, value_matcher,
};
use culvert_envoy::pb::google::protobuf::UInt32Value;

use super::*;
use crate::request::Peer;
use crate::testing::{exact, pattern, regex, request};

fn rbac(action: i32, policies: &[(&str, Vec<Rule>, Vec<Identifier>)]) -> Message {
    let policy = |(name, rules, identifiers): &(&str, Vec<Rule>, Vec<Identifier>)| {
        let policy = Policy {
            permissions: rules
                .iter()
                .map(|rule| Permission {
                    rule: Some(rule.clone()),
                })
                .collect(),
            principals: identifiers
                .iter()
                .map(|id| Principal {
                    identifier: Some(id.clone()),
                })
                .collect(),
            ..Policy::default()
        };
        ((*name).to_owned(), policy)
    };
    Message {
        rules: Some(Rules {
            action,
            policies: policies.iter().map(policy).collect::<HashMap<_, _>>(),
            ..Rules::default()
        }),
        ..Message::default()
    }
}

fn client(pattern_: MatchPattern) -> Identifier {
    Identifier::FilterState(FilterStateMatcher {
        key: PEER_PRINCIPAL.to_owned(),
        matcher: Some(filter_state_matcher::Matcher::StringMatch(pattern(pattern_))),
    })
}

fn path(pattern_: MatchPattern) -> Rule {
    Rule::UrlPath(PathMatcher {
        rule: Some(path_matcher::Rule::Path(pattern(pattern_))),
    })
}

fn decide(message: &Message, uri: &str, principal: Option<&str>) -> Access {
    let peer = Peer {
        principal,
        address: Some("10.1.0.7:40000".parse().unwrap()),
        destination: Some("10.96.10.1:80".parse().unwrap()),
    };
    Rbac::compile(message).unwrap().decide(&Attributes {
        request: &request("GET", uri, &[]),
        peer: &peer,
        tokens: None,
    })
}

#[test]
fn allow_without_a_policy_denies_and_deny_without_one_allows() {
    assert!(!decide(&rbac(0, &[]), "/", None).allowed);
    assert!(decide(&rbac(1, &[]), "/", None).allowed);
    assert!(decide(&Message::default(), "/", None).allowed);
    assert_eq!(
        decide(&rbac(0, &[]), "/", None).details(),
        "rbac_access_denied_matched_policy[none]"
    );
}

#[test]
fn the_details_name_the_first_policy_by_name_with_underscores() {
    let both = rbac(
        1,
        &[
            ("b", vec![Rule::Any(true)], vec![Identifier::Any(true)]),
            ("a b", vec![Rule::Any(true)], vec![Identifier::Any(true)]),
        ],
    );
    assert_eq!(
        decide(&both, "/", None).details(),
        "rbac_access_denied_matched_policy[a_b]"
    );
}

#[test]
fn who_the_client_is_comes_from_the_tunnel() {
    let teller = "spiffe://cluster.local/ns/bank/sa/teller";
    let namespace = rbac(
        0,
        &[(
            "p",
            vec![Rule::Any(true)],
            vec![client(MatchPattern::SafeRegex(regex(".*/ns/bank/.*")))],
        )],
    );
    assert!(decide(&namespace, "/", Some(teller)).allowed);
    assert!(!decide(&namespace, "/", Some("spiffe://cluster.local/ns/shop/sa/teller")).allowed);
    assert!(!decide(&namespace, "/", None).allowed);
    let one = rbac(
        0,
        &[(
            "p",
            vec![Rule::Any(true)],
            vec![client(MatchPattern::Exact(teller.into()))],
        )],
    );
    assert!(decide(&one, "/", Some(teller)).allowed);
    let not = Identifier::NotId(Box::new(Principal {
        identifier: Some(client(MatchPattern::Exact(teller.into()))),
    }));
    assert!(decide(&rbac(0, &[("p", vec![Rule::Any(true)], vec![not])]), "/", None).allowed);
}

#[test]
fn url_path_is_without_the_query_and_the_field_path_with_it() {
    assert!(
        !decide(
            &rbac(
                1,
                &[(
                    "p",
                    vec![path(MatchPattern::Exact("/admin".into()))],
                    vec![Identifier::Any(true)]
                )]
            ),
            "/admin?x",
            None
        )
        .allowed
    );
    let field = Rule::Header(HeaderMatcher {
        name: ":path".into(),
        header_match_specifier: Some(HeaderMatchSpecifier::StringMatch(exact("/admin?x"))),
        ..HeaderMatcher::default()
    });
    assert!(
        !decide(
            &rbac(1, &[("p", vec![field], vec![Identifier::Any(true)])]),
            "/admin?x",
            None
        )
        .allowed
    );
}

#[test]
fn addresses_and_ports_are_those_of_the_tunnel() {
    let range = |address: &str, length| CidrRange {
        address_prefix: address.to_owned(),
        prefix_len: Some(UInt32Value { value: length }),
    };
    let to = |rule| decide(&rbac(0, &[("p", vec![rule], vec![Identifier::Any(true)])]), "/", None).allowed;
    assert!(to(Rule::DestinationPort(80)) && !to(Rule::DestinationPort(81)));
    assert!(to(Rule::DestinationIp(range("10.96.0.0", 16))) && !to(Rule::DestinationIp(range("10.97.0.0", 16))));
    let both = Rule::AndRules(permission::Set {
        rules: vec![
            Permission {
                rule: Some(Rule::DestinationPort(80)),
            },
            Permission {
                rule: Some(Rule::Any(true)),
            },
        ],
    });
    assert!(to(both));
    let from = |id| decide(&rbac(0, &[("p", vec![Rule::Any(true)], vec![id])]), "/", None).allowed;
    assert!(
        from(Identifier::DirectRemoteIp(range("10.1.0.0", 16))) && !from(Identifier::RemoteIp(range("10.2.0.0", 16)))
    );
}

#[test]
fn claims_are_those_of_verified_tokens() {
    let key = |key: &str| metadata_matcher::PathSegment {
        segment: Some(metadata_matcher::path_segment::Segment::Key(key.to_owned())),
    };
    #[allow(deprecated, reason = "Istio sends it")]
    let claim = Identifier::Metadata(MetadataMatcher {
        filter: "envoy.filters.http.jwt_authn".into(),
        path: vec![key("payload"), key("sub")],
        value: Some(ValueMatcher {
            match_pattern: Some(value_matcher::MatchPattern::StringMatch(exact("ann"))),
        }),
        invert: false,
    });
    let rbac = Rbac::compile(&rbac(0, &[("p", vec![Rule::Any(true)], vec![claim])])).unwrap();
    let with = |sub: &str| {
        let tokens = serde_json::json!({"payload": {"sub": sub}});
        let (request, peer) = (request("GET", "/", &[]), Peer::default());
        rbac.decide(&Attributes {
            request: &request,
            peer: &peer,
            tokens: tokens.as_object(),
        })
    };
    assert!(with("ann").allowed && !with("bob").allowed);
}

#[test]
fn a_principal_of_a_tls_peer_is_refused_and_not_passed_over() {
    let message = rbac(
        1,
        &[(
            "p one",
            vec![Rule::Any(true)],
            vec![Identifier::Authenticated(Authenticated::default())],
        )],
    );
    let error = Rbac::compile(&message).unwrap_err().to_string();
    assert!(error.contains("p one") && error.contains("authenticated"), "{error}");
}
