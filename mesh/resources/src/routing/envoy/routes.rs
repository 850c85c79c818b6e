//! The rules of a port.

use culvert_envoy::names;
use culvert_envoy::pb::envoy::config::route::v3::{
    DirectResponseAction, Route, RouteConfiguration, VirtualHost, route,
};

use super::super::model::{Action, Host, Routes, Rule};
use super::{action, matching};

/// The rules of a port of `service`, for the waypoint `scope`.
pub(crate) fn configuration(scope: &str, service: &str, port: u16, routes: &Routes) -> RouteConfiguration {
    RouteConfiguration {
        name: names::routes(scope, service, port),
        virtual_hosts: routes.hosts.iter().map(|host| virtual_host(scope, host)).collect(),
        // A host name means the same with a port behind it.
        ignore_port_in_host_matching: routes.hosts.len() > 1,
        ..RouteConfiguration::default()
    }
}

fn virtual_host(scope: &str, host: &Host) -> VirtualHost {
    VirtualHost {
        name: host.domain.clone(),
        domains: vec![host.domain.clone()],
        routes: host.rules.iter().map(|rule| route(scope, rule)).collect(),
        include_request_attempt_count: true,
        ..VirtualHost::default()
    }
}

fn route(scope: &str, rule: &Rule) -> Route {
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
        ..made
    }
}
