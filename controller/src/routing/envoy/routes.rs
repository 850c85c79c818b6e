//! The rules of a port.

use culvert_envoy::names;
use culvert_envoy::pb::envoy::config::route::v3::{
    Decorator, DirectResponseAction, Route, RouteConfiguration, VirtualHost, route,
};

use super::super::model::{Action, Host, Routes, Rule};
use super::{action, matching, parts};

/// The rules of a port of `service`, for the waypoint `scope`. `operation` is what spans of its requests are called, where there are any.
pub(crate) fn configuration(
    scope: &str,
    service: &str,
    port: u16,
    routes: &Routes,
    operation: Option<&str>,
) -> RouteConfiguration {
    RouteConfiguration {
        name: names::routes(scope, service, port),
        virtual_hosts: routes
            .hosts
            .iter()
            .map(|host| virtual_host(scope, host, operation))
            .collect(),
        // A host name means the same with a port behind it.
        ignore_port_in_host_matching: routes.hosts.len() > 1,
        ..RouteConfiguration::default()
    }
}

fn virtual_host(scope: &str, host: &Host, operation: Option<&str>) -> VirtualHost {
    VirtualHost {
        name: host.domain.clone(),
        domains: vec![host.domain.clone()],
        routes: host.rules.iter().map(|rule| route(scope, rule, operation)).collect(),
        include_request_attempt_count: true,
        ..VirtualHost::default()
    }
}

fn route(scope: &str, rule: &Rule, operation: Option<&str>) -> Route {
    let made = match &rule.action {
        Action::Fail(status) => Route {
            action: Some(route::Action::DirectResponse(DirectResponseAction {
                status: (*status).into(),
                ..DirectResponseAction::default()
            })),
            ..Route::default()
        },
        Action::Direct(direct) => action::direct(direct),
        Action::Redirect(redirect) => action::redirect(redirect, &rule.matched.path),
        Action::Forward(forward) => action::forward(scope, forward, &rule.matched.path),
    };
    Route {
        name: rule.name.clone(),
        r#match: Some(matching::route_match(&rule.matched)),
        decorator: operation.map(|operation| Decorator {
            operation: operation.to_owned(),
            // Clients need not be told.
            propagate: parts::flag(false),
        }),
        ..made
    }
}
