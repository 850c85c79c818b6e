//! What of a request rate limits go by, as Envoy's actions.

use culvert_envoy::pb::envoy::config::core::v3::TypedExtensionConfig;
use culvert_envoy::pb::envoy::config::route::v3::rate_limit::Action;
use culvert_envoy::pb::envoy::config::route::v3::rate_limit::action::{
    ActionSpecifier, GenericKey, HeaderValueMatch, RemoteAddress, RequestHeaders,
};
use culvert_envoy::pb::envoy::config::route::v3::{HeaderMatcher, header_matcher::HeaderMatchSpecifier};
use culvert_envoy::pb::envoy::extensions::rate_limit_descriptors::expr::v3::{
    Descriptor as Expression, descriptor::ExprSpecifier,
};
use culvert_envoy::{IDENTITY_EXPRESSION, pack};

use super::super::model::Match;
use super::matching;

/// The key of what says that a request matches.
pub(super) const MATCHED: &str = "match";
/// The key of what says that a request has no such header.
pub(super) const WITHOUT: &str = "without";
pub(super) const YES: &str = "yes";
/// The key that Envoy gives a client's address.
pub(super) const ADDRESS: &str = "remote_address";

/// A text that is the same for all.
pub(super) fn text(key: &str, value: &str) -> Action {
    Action {
        action_specifier: Some(ActionSpecifier::GenericKey(GenericKey {
            descriptor_key: key.to_owned(),
            descriptor_value: value.to_owned(),
            ..GenericKey::default()
        })),
    }
}

/// That a request matches; none where all do.
pub(super) fn matched(matched: &Match) -> Option<Action> {
    let headers = matching::as_headers(matched);
    (!headers.is_empty()).then(|| Action {
        action_specifier: Some(ActionSpecifier::HeaderValueMatch(HeaderValueMatch {
            descriptor_key: MATCHED.to_owned(),
            descriptor_value: YES.to_owned(),
            headers,
            ..HeaderValueMatch::default()
        })),
    })
}

/// The value of a header.
pub(super) fn header(name: &str, key: &str) -> ActionSpecifier {
    ActionSpecifier::RequestHeaders(RequestHeaders {
        header_name: name.to_owned(),
        descriptor_key: key.to_owned(),
        ..RequestHeaders::default()
    })
}

/// That a request has no such header.
pub(super) fn without(name: &str) -> ActionSpecifier {
    ActionSpecifier::HeaderValueMatch(HeaderValueMatch {
        descriptor_key: WITHOUT.to_owned(),
        descriptor_value: YES.to_owned(),
        headers: vec![HeaderMatcher {
            name: name.to_owned(),
            invert_match: true,
            header_match_specifier: Some(HeaderMatchSpecifier::PresentMatch(true)),
            ..HeaderMatcher::default()
        }],
        ..HeaderValueMatch::default()
    })
}

/// The client's address, under Envoy's own key.
pub(super) fn address() -> ActionSpecifier {
    ActionSpecifier::RemoteAddress(RemoteAddress {})
}

/// Who the client is by its certificate.
pub(super) fn identity(key: &str) -> ActionSpecifier {
    let expression = Expression {
        descriptor_key: key.to_owned(),
        expr_specifier: Some(ExprSpecifier::Text(IDENTITY_EXPRESSION.to_owned())),
        ..Expression::default()
    };
    ActionSpecifier::Extension(TypedExtensionConfig {
        name: "envoy.rate_limit_descriptors.expr".to_owned(),
        typed_config: Some(pack(&expression)),
    })
}
