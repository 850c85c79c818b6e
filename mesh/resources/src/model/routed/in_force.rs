//! Which policies hold at a port of a Service and towards its backends, for people: TrafficPolicies, and TLS that endpoints speak.

use std::collections::BTreeSet;
use std::sync::Arc;

use culvert_proto::workload::Service;
use serde::Serialize;

use super::super::reader::Reader;
use super::backend_tls::Policies;
use super::frontend::Frontend;
use super::{hosts, scope, traffic_policies};
use crate::routing::backend_tls::Said;
use crate::routing::model::{Action, Backend, Rule};
use crate::routing::policy::Applied;
use crate::routing::policy_words;
use crate::routing::read::istio::destination_rule;
use crate::routing::read::notes::Notes;

/// A policy that holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PolicyView {
    /// The object, as `Kind namespace/name`.
    pub object: String,
    /// For what: all requests of the port, some rules, or the endpoints of a backend.
    pub scope: String,
    /// What holds.
    pub holds: Vec<String>,
}

/// The TrafficPolicies of a port, and of rules of it.
pub(super) fn traffic<'r>(
    reader: &Reader<'_>,
    service: &Service,
    port: u16,
    is_http: bool,
    rules: impl Iterator<Item = &'r Rule>,
) -> Vec<PolicyView> {
    let scopes = scope::of_service(reader, service);
    let has_envoy = scopes.iter().any(|gateway| scope::is_envoy(reader, gateway));
    let view = |applied: &Applied, scope: String| {
        let mut holds = policy_words::of_policy(&applied.policy, applied.counter.as_ref(), is_http);
        if let Some(check) = holds
            .last_mut()
            .filter(|_| has_envoy && applied.policy.health_check.is_some())
        {
            *check += ", not by a waypoint that is Envoy";
        }
        PolicyView {
            object: format!("TrafficPolicy {}", applied.name),
            scope,
            holds,
        }
    };
    let frontend = Frontend::of(reader, service);
    let of_port = frontend.and_then(|frontend| traffic_policies::of_port(reader, &frontend, port));
    let all = if is_http { "all requests" } else { "all connections" };
    let mut found: Vec<PolicyView> = of_port.iter().map(|applied| view(applied, all.to_owned())).collect();
    let mut by_policy: Vec<(&Arc<str>, Vec<&str>)> = Vec::new();
    for rule in rules {
        let Some(policy) = &rule.policy else { continue };
        match by_policy.iter_mut().find(|(known, _)| *known == policy) {
            Some((_, names)) if names.contains(&&*rule.name) => {}
            Some((_, names)) => names.push(&rule.name),
            None => by_policy.push((policy, vec![&rule.name])),
        }
    }
    let of_rules = by_policy.into_iter().filter_map(|(policy, names)| {
        let applied = traffic_policies::of_name(reader, policy)?;
        Some(view(&applied, names.join(", ")))
    });
    found.extend(of_rules);
    found.retain(|policy| !policy.holds.is_empty());
    found
}

/// What holds for connections to the endpoints of backends.
pub(super) fn towards(
    reader: &Reader<'_>,
    backends: &BTreeSet<Backend>,
    name: impl Fn(&Backend) -> String,
) -> Vec<PolicyView> {
    let one = |backend: &Backend| {
        let (object, holds) = of_backend(reader, backend)?;
        Some(PolicyView {
            object,
            scope: format!("endpoints of {}", name(backend)),
            holds: vec![holds],
        })
    };
    backends.iter().filter_map(one).collect()
}

/// All places where the rules of a port lead.
pub(super) fn backends<'r>(rules: impl Iterator<Item = &'r Rule>) -> BTreeSet<Backend> {
    let forwards = rules.filter_map(|rule| match &rule.action {
        Action::Forward(forward) => Some(forward),
        _ => None,
    });
    let of_forward = forwards.flat_map(|forward| {
        let targets = forward.targets.iter().filter_map(|target| target.backend.as_ref());
        targets.chain(forward.mirrors.iter().map(|mirror| &mirror.backend))
    });
    of_forward.cloned().collect()
}

/// The object that says how the endpoints of a backend are spoken to, and what it says.
fn of_backend(reader: &Reader<'_>, backend: &Backend) -> Option<(String, String)> {
    const NONE: &str = "no endpoint: connections would go in another way than it asks for";
    let service = reader.derived_service(&backend.service)?;
    let (port, subset) = (backend.port, backend.subset.as_deref());
    let tls_policies = Policies::of(reader, &service);
    let mut traffic = hosts::policy(reader, &service).at_port(port, subset);
    let by_rule = traffic.is_refused || traffic.tls != Said::Nothing;
    tls_policies.settle(&mut traffic, &service, port);
    let object = if by_rule {
        let said = |(_, rule): &(_, &Arc<culvert_objects::DestinationRule>)| {
            let read = destination_rule::read(&rule.spec, &mut Notes::default());
            let traffic = read.map(|policy| policy.at_port(port, subset));
            traffic.is_some_and(|traffic| traffic.is_refused || traffic.tls != Said::Nothing)
        };
        let (name, _) = hosts::destination_rules(reader, &service).into_iter().find(said)?;
        format!("DestinationRule {name}")
    } else {
        let (name, _) = tls_policies.holding(port)?;
        format!("BackendTLSPolicy {name}")
    };
    let holds = match &traffic.tls {
        _ if traffic.is_refused => NONE.to_owned(),
        Said::Tls(tls) => policy_words::of_tls(tls),
        Said::None => "no TLS beside the tunnel's".to_owned(),
        Said::Nothing => return None,
    };
    Some((object, holds))
}
