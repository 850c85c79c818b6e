//! The rules of a port.

use culvert_envoy::pb::envoy::config::core::v3::{
    HeaderValue, HeaderValueOption, header_value_option::HeaderAppendAction,
};
use culvert_envoy::pb::envoy::config::route::v3::{
    Decorator, DirectResponseAction, Route, RouteConfiguration, VirtualHost, route,
};
use culvert_envoy::{PEER_PRINCIPAL, names};

use super::super::model::{Action, Host, Routes, Rule};
use super::super::policy::Applied;
use super::{action, matching, parts, policy};

/// Who a client is by its certificate, as Envoy writes it.
const CLIENT: &str = "x-forwarded-client-cert";

/// What of a waypoint shows in what it does with requests.
#[derive(Clone, Debug, Default)]
pub(crate) struct Told {
    /// The waypoint's identity, if applications are to get the client's from it.
    pub(crate) named_by: Option<String>,
    /// What spans of its requests are called, where there are any.
    pub(crate) operation: Option<String>,
    /// What TrafficPolicies ask of the port.
    pub(crate) policies: Vec<Applied>,
}

/// The rules of a port of `service`, for the waypoint `scope`.
pub(crate) fn configuration(scope: &str, service: &str, port: u16, routes: &Routes, told: &Told) -> RouteConfiguration {
    let client = told.named_by.as_deref().map(|identity| HeaderValueOption {
        header: Some(HeaderValue {
            key: CLIENT.to_owned(),
            value: format!("By={identity};URI=%FILTER_STATE({PEER_PRINCIPAL}:PLAIN)%"),
            ..HeaderValue::default()
        }),
        append_action: HeaderAppendAction::OverwriteIfExistsOrAdd.into(),
        ..HeaderValueOption::default()
    });
    RouteConfiguration {
        request_headers_to_add: client.into_iter().collect(),
        name: names::routes(scope, service, port),
        virtual_hosts: routes
            .hosts
            .iter()
            .map(|host| virtual_host(scope, host, told))
            .collect(),
        // A host name means the same with a port behind it.
        ignore_port_in_host_matching: routes.hosts.len() > 1,
        ..RouteConfiguration::default()
    }
}

fn virtual_host(scope: &str, host: &Host, told: &Told) -> VirtualHost {
    VirtualHost {
        name: host.domain.clone(),
        domains: vec![host.domain.clone()],
        routes: host.rules.iter().map(|rule| route(scope, rule, told)).collect(),
        include_request_attempt_count: true,
        ..VirtualHost::default()
    }
}

fn route(scope: &str, rule: &Rule, told: &Told) -> Route {
    let mut made = match &rule.action {
        Action::Fail(status) => Route {
            action: Some(route::Action::DirectResponse(DirectResponseAction {
                status: (*status).into(),
                ..DirectResponseAction::default()
            })),
            ..Route::default()
        },
        Action::Direct(direct) => action::direct(scope, direct),
        Action::Redirect(redirect) => action::redirect(scope, redirect, &rule.matched.path),
        Action::Forward(forward) => {
            let times = policy::times_of_rule(rule.policy.as_deref(), &told.policies);
            action::forward(scope, forward, &rule.matched.path, &times)
        }
    };
    if let Some(own) = &rule.policy {
        made.typed_per_filter_config
            .extend(policy::of_rule(own, &told.policies));
    }
    Route {
        name: rule.name.clone(),
        r#match: Some(matching::route_match(&rule.matched)),
        decorator: told.operation.as_ref().map(|operation| Decorator {
            operation: operation.clone(),
            // Clients need not be told.
            propagate: parts::flag(false),
        }),
        ..made
    }
}
