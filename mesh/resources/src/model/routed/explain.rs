//! What holds at a Service, rule by rule in the order in which a waypoint asks them, with the object that each is of.

use std::sync::Arc;

use culvert_objects::ObjectName;
use culvert_proto::workload::Service;
use serde::Serialize;

use super::super::reader::Reader;
use super::super::wire;
use super::attached;
use super::behind;
use super::frontend::{self, Frontend, Sort};
use super::in_force::{self, PolicyView};
use super::{ports, routes, scope};
use crate::routing::model::{Action, Backend, Match, Rule, Target};
use crate::routing::{cover, shadow, words};

/// What holds at a Service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ServiceRules {
    /// The Service, as `namespace/name`.
    pub service: String,
    /// The waypoint that it is behind, as `namespace/name`.
    pub waypoint: Option<String>,
    /// The canary of that, which has the same rules.
    pub canary: Option<CanaryView>,
    /// Why no rule is in force, if so.
    pub not_in_force: Option<String>,
    /// By number.
    pub ports: Vec<PortRules>,
}

/// What holds at one port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PortRules {
    /// Its number.
    pub port: u16,
    /// What it speaks.
    pub protocol: &'static str,
    /// Of requests, by host name: a name, `*.` and the end of one, or `*` for all others.
    pub hosts: Vec<HostRules>,
    /// Of connections that are not HTTP.
    pub connections: Option<RuleView>,
    /// What else holds for its requests, and towards the endpoints of its backends.
    pub policies: Vec<PolicyView>,
}

/// A second waypoint that gets a part of the connections.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CanaryView {
    /// As `namespace/name`.
    pub waypoint: String,
    /// How many of a hundred connections it gets.
    pub weight: u32,
}

/// What holds for a host name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HostRules {
    /// The name.
    pub host: String,
    /// The first that matches counts.
    pub rules: Vec<RuleView>,
}

/// A rule.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RuleView {
    /// The object that it is of, as `Kind namespace/name`; none where no object says it.
    pub object: Option<String>,
    /// Which of its rules: its name, or its place from 0.
    pub rule: Option<String>,
    /// The namespace whose clients it is for, if it is not for all.
    pub clients: Option<String>,
    /// What a request must have; nothing is every request.
    pub matches: Vec<String>,
    /// What is done to it and its answer.
    pub filters: Vec<String>,
    /// Where it goes.
    pub backends: Vec<BackendView>,
    /// Who gets copies.
    pub mirrors: Vec<String>,
    /// How it is answered, if it goes nowhere.
    pub answer: Option<String>,
    /// How long it may take in all.
    pub timeout: Option<String>,
    /// When it is tried again, if the rule says so.
    pub retries: Option<String>,
    /// The rule before it that takes all its requests, so that it gets none.
    pub hidden_by: Option<String>,
}

/// A backend and its share.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BackendView {
    /// `namespace/name:port`, with the subset behind it; none where there is no such backend, and the share is answered with 500.
    pub to: Option<String>,
    /// Of the weights of all.
    pub weight: u32,
}

/// What holds at a Service, or else at the first host of a ServiceEntry of the name; none where there is neither.
pub(in crate::model) fn service(reader: &Reader<'_>, name: &ObjectName) -> Option<ServiceRules> {
    let of = |sort| frontend::services(reader, sort, name).into_iter().next();
    let (resource, service) = of(Sort::Service).or_else(|| of(Sort::ServiceEntry))?;
    let resource: Arc<str> = resource.into();
    let mut hosts = behind::waypoint_hosts(&service).into_iter();
    let mut next = || wire::object_of_host(reader.settings(), &hosts.next()?);
    let (waypoint, canary) = (next(), next());
    let not_in_force = match &waypoint {
        _ if !scope::of_service(reader, &service).is_empty() => None,
        None => Some("the Service asks for no waypoint: rules for it are not in force".to_owned()),
        Some(waypoint) => Some(not_there(reader, waypoint, name)),
    };
    let canary = canary.map(|canary| CanaryView {
        waypoint: canary.to_string(),
        weight: service.weighted_waypoints.last().map_or(0, |one| one.weight),
    });
    let ports = ports::of_service(&service).map(|port| of_port(reader, &resource, &service, port));
    Some(ServiceRules {
        service: name.to_string(),
        waypoint: waypoint.map(|waypoint| waypoint.to_string()),
        canary,
        not_in_force,
        ports: ports.collect(),
    })
}

/// Why a waypoint that a Service asks for does not take it.
pub(in crate::model) fn not_there(reader: &Reader<'_>, waypoint: &ObjectName, service: &ObjectName) -> String {
    match scope::gateway(reader, waypoint) {
        None => format!("there is no waypoint {waypoint} of Culvert: nobody in the mesh reaches what asks for it"),
        Some(_) => format!(
            "the waypoint {waypoint} takes no Services of namespace {}: rules for it are not in force",
            service.namespace
        ),
    }
}

/// What holds at a port of a Service.
pub(super) fn of_port(reader: &Reader<'_>, resource: &Arc<str>, service: &Service, port: u16) -> PortRules {
    let object = ports::of_object(reader, service);
    let protocol = ports::protocol(service, object.as_ref(), port);
    let merged = match protocol.is_http() {
        true => routes::merged(reader, resource, service, port).hosts,
        false => Vec::new(),
    };
    let rules = || merged.iter().flat_map(|host| &host.rules);
    let mut backends = in_force::backends(rules());
    let mut policies = in_force::traffic(reader, service, port, protocol.is_http(), rules());
    let hosts = merged.iter().map(|host| HostRules {
        host: host.domain.clone(),
        rules: views(reader, &host.rules),
    });
    let hosts = hosts.collect();
    let connections = protocol.is_tcp().then(|| {
        let frontend = Frontend::of(reader, service);
        let of_route = frontend.and_then(|frontend| attached::split_of(reader, &frontend, port));
        let of_route = of_route.map(|(name, split)| (format!("TCPRoute {name}"), split));
        let found = of_route.or_else(|| {
            let split = attached::virtual_at(reader, service, port)?.split?;
            let name = attached::virtual_name(reader, service)?;
            Some((format!("VirtualService {name}"), split))
        });
        let (object, targets) = found.unzip();
        let own = || {
            vec![Target::of(Backend {
                service: Arc::clone(resource),
                port,
                subset: None,
            })]
        };
        let targets = targets.unwrap_or_else(own);
        backends.extend(targets.iter().filter_map(|target| target.backend.clone()));
        RuleView {
            object,
            backends: targets.iter().map(|target| share(reader, target)).collect(),
            ..RuleView::default()
        }
    });
    let name = |to: &Backend| backend(reader, &to.service, to.port, to.subset.as_deref());
    policies.extend(in_force::towards(reader, &backends, name));
    PortRules {
        port,
        protocol: protocol.name(),
        hosts,
        connections,
        policies,
    }
}

fn views(reader: &Reader<'_>, rules: &[Rule]) -> Vec<RuleView> {
    let view = |(rule, hides): (&Rule, Option<&Rule>)| RuleView {
        hidden_by: hides.map(|hides| hides.name.clone()),
        ..of_rule(reader, rule)
    };
    rules.iter().zip(hiding(rules)).map(view).collect()
}

/// For each rule the one before it that takes all its requests, if one does.
pub(super) fn hiding(rules: &[Rule]) -> Vec<Option<&Rule>> {
    let matched: Vec<&Match> = rules.iter().map(|rule| &rule.matched).collect();
    let before = shadow::first_before(&matched, cover::covers);
    before.into_iter().map(|place| rules.get(place?)).collect()
}

fn of_rule(reader: &Reader<'_>, rule: &Rule) -> RuleView {
    let (object, part) = origin(&rule.name).unzip();
    let view = RuleView {
        object,
        rule: part.filter(|part| !part.is_empty()),
        clients: rule.matched.clients.as_deref().map(str::to_owned),
        matches: words::of_match(&rule.matched),
        filters: words::of_filters(&rule.action),
        answer: words::of_answer(&rule.action),
        ..RuleView::default()
    };
    let Action::Forward(forward) = &rule.action else {
        return view;
    };
    let mirror = |mirror: &crate::routing::model::Mirror| {
        let to = &mirror.backend;
        let name = backend(reader, &to.service, to.port, to.subset.as_deref());
        format!("{} to {name}", words::of_share(mirror.share))
    };
    RuleView {
        backends: forward.targets.iter().map(|target| share(reader, target)).collect(),
        mirrors: forward.mirrors.iter().map(mirror).collect(),
        timeout: forward.timeout.map(words::of_duration),
        retries: words::of_retry(&forward.retry),
        ..view
    }
}

fn share(reader: &Reader<'_>, target: &Target) -> BackendView {
    let to = target.backend.as_ref();
    BackendView {
        to: to.map(|to| backend(reader, &to.service, to.port, to.subset.as_deref())),
        weight: target.weight,
    }
}

/// A backend as people write it.
fn backend(reader: &Reader<'_>, resource: &str, port: u16, subset: Option<&str>) -> String {
    let name = wire::service_of(reader.settings(), resource);
    let name = name.map_or_else(|| resource.to_owned(), |name| name.to_string());
    match subset {
        Some(subset) => format!("{name}:{port} subset {subset}"),
        None => format!("{name}:{port}"),
    }
}

/// The object of a rule, and which of its rules it is, by the rule's name; none for one that no object says.
pub(in crate::model) fn origin(rule: &str) -> Option<(String, String)> {
    let (kind, rest) = rule.split_once(' ')?;
    let (namespace, rest) = rest.split_once('/')?;
    let end = rest.find(['[', '/']).unwrap_or(rest.len());
    let (name, part) = rest.split_at(end);
    let part = part.strip_prefix('/').unwrap_or(part);
    let part = part
        .strip_prefix('[')
        .and_then(|part| part.strip_suffix(']'))
        .unwrap_or(part);
    Some((format!("{kind} {namespace}/{name}"), part.to_owned()))
}
