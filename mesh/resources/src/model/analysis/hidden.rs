//! Rules that never match, since an earlier one takes all their requests; and routes of several kinds on one Service.

use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet};

use culvert_objects::{GRPCRoute, HTTPRoute, Held, Key, Kind, ObjectName, Reference, Service, TCPRoute, Written};

use super::problem::Problem;
use crate::model::reader::Reader;
use crate::model::routed::explain;

/// A rule: its object, and its name or place there.
type RuleName = (String, String);

pub(super) fn find(reader: &Reader<'_>) -> Vec<Problem> {
    let mut found = Found::default();
    for (name, _) in reader.all::<Service>() {
        let kinds = kinds_at(reader, name);
        let Some(rules) = explain::service(reader, name) else {
            continue;
        };
        for port in &rules.ports {
            for host in &port.hosts {
                for rule in &host.rules {
                    found.rule(rule, name, port.port);
                }
            }
        }
        found.mixed.extend(mixed(name, &kinds));
    }
    found.problems()
}

#[derive(Default)]
struct Found {
    /// Rules that some request may reach.
    reached: BTreeSet<RuleName>,
    /// Others, with the first rule that hides each and where.
    hidden: BTreeMap<RuleName, String>,
    mixed: Vec<Problem>,
}

impl Found {
    fn rule(&mut self, rule: &explain::RuleView, service: &ObjectName, port: u16) {
        let (Some(object), Some(name)) = (&rule.object, &rule.rule) else {
            return;
        };
        let name = (object.clone(), name.clone());
        match &rule.hidden_by {
            None => drop(self.reached.insert(name)),
            Some(by) => {
                let why = format!("{by} comes first at {service}:{port} and takes all that it matches");
                self.hidden.entry(name).or_insert(why);
            }
        }
    }

    fn problems(self) -> Vec<Problem> {
        let reached = self.reached;
        let never = self.hidden.into_iter().filter(|(rule, _)| !reached.contains(rule));
        let of_hidden = never.filter_map(|((object, rule), why)| {
            let (kind, name) = object.split_once(' ')?;
            let (namespace, name) = name.split_once('/')?;
            let list = if kind == "VirtualService" { "http" } else { "rules" };
            Some(Problem::warning(
                Kind::named(kind)?,
                &ObjectName::new(namespace, name),
                &format!("spec.{list}[{rule}]"),
                format!("the rule never matches: {why}"),
                "remove the rule, or make the one before it narrower",
            ))
        });
        of_hidden.chain(self.mixed).collect()
    }
}

/// The routes of a Service.
fn kinds_at(reader: &Reader<'_>, service: &ObjectName) -> Vec<(Kind, ObjectName)> {
    let mut found = Vec::new();
    of_kind::<HTTPRoute, _>(reader, service, &mut found);
    of_kind::<GRPCRoute, _>(reader, service, &mut found);
    of_kind::<TCPRoute, _>(reader, service, &mut found);
    found
}

fn of_kind<T, M>(reader: &Reader<'_>, service: &ObjectName, found: &mut Vec<(Kind, ObjectName)>)
where
    T: Held + Borrow<Written<M>>,
{
    for (name, route) in reader.find::<T>(Key::parent("Service", service)) {
        let route: &Written<M> = (**route).borrow();
        let mut parents = route.parents();
        let is_here = |parent: &Reference<'_>| {
            parent.group.is_empty() && parent.kind == "Service" && parent.object(&name.namespace) == *service
        };
        if parents.any(|parent| is_here(&parent)) {
            found.push((<T as Held>::KIND, name.clone()));
        }
    }
}

/// That a Service has routes of several kinds, at those for connections. What becomes of several kinds for requests is a finding of their
/// own.
fn mixed(service: &ObjectName, routes: &[(Kind, ObjectName)]) -> Vec<Problem> {
    let Some((first, first_name)) = routes.first().filter(|(kind, _)| *kind != Kind::TCPRoute) else {
        return Vec::new();
    };
    let other = routes.iter().find(|(kind, _)| *kind == Kind::TCPRoute);
    let problem = other.map(|(kind, name)| {
        let message = format!(
            "Service {service} has {first} {first_name} as well: each is in force at the ports that speak what it is for"
        );
        let remedy = "use routes of one kind, or name the port that each is for";
        Problem::warning(*kind, name, "spec.parentRefs", message, remedy)
    });
    problem.into_iter().collect()
}
