//! Which of a port's rules comes first, as the Gateway API says it, over all routes of HTTP and gRPC together.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::sync::Arc;

use super::model::{Action, Backend, Forward, Host, Match, Path, Route, Routes, Rule};

/// A route, and what decides between it and others. They must be given in the order in which they count if nothing else decides: by
/// age, then by name.
#[derive(Clone, Debug)]
pub(crate) struct Attached {
    /// The namespace that the route is for, if it is the clients' own.
    pub(crate) consumer: Option<Arc<str>>,
    pub(crate) route: Route,
}

/// The rules of all routes of a port of `own`, in order. Where no route of the Service's own namespace is, the rules of its VirtualService
/// hold in theirs; without one requests go to the Service itself.
pub(crate) fn merge(routes: Vec<Attached>, virtual_rules: Option<Vec<Rule>>, own: Backend) -> Routes {
    let named = routes.iter().flat_map(|attached| &attached.route.hostnames);
    let mut domains: BTreeSet<String> = named.map(|name| name.to_ascii_lowercase()).collect();
    domains.remove("*");
    let domains = domains.into_iter().map(Some).chain([None]);
    Routes {
        hosts: domains
            .map(|domain| host(domain, &routes, virtual_rules.as_deref(), &own))
            .collect(),
    }
}

/// The rules for one host name, or for all that are not named.
fn host(domain: Option<String>, routes: &[Attached], virtual_rules: Option<&[Rule]>, own: &Backend) -> Host {
    let consumers: BTreeSet<&Arc<str>> = routes
        .iter()
        .filter_map(|attached| attached.consumer.as_ref())
        .collect();
    let mut rules = Vec::new();
    // A client's own routes are all that it gets: those of the Service's namespace are for everybody else.
    for namespace in consumers {
        let own_routes = routes
            .iter()
            .filter(|attached| attached.consumer.as_ref() == Some(namespace));
        let matched = |matched: &Match| Match {
            clients: Some(Arc::clone(namespace)),
            ..matched.clone()
        };
        let found = ordered(domain.as_deref(), own_routes);
        rules.extend(found.map(|rule| Rule {
            matched: matched(&rule.matched),
            ..rule.clone()
        }));
        rules.push(Rule {
            name: format!("no rule of {namespace}"),
            matched: matched(&Match::any()),
            action: Action::Fail(404),
            policy: None,
        });
    }
    if routes.iter().any(|attached| attached.consumer.is_none()) {
        let producers = routes.iter().filter(|attached| attached.consumer.is_none());
        rules.extend(ordered(domain.as_deref(), producers).cloned());
    } else if let Some(virtual_rules) = virtual_rules {
        rules.extend(virtual_rules.iter().cloned());
    } else {
        rules.push(Rule {
            name: "default".to_owned(),
            matched: Match::any(),
            action: Action::Forward(Box::new(Forward::to(own.clone()))),
            policy: None,
        });
    }
    Host {
        domain: domain.unwrap_or_else(|| "*".to_owned()),
        rules,
    }
}

/// The rules of the routes that are for a host name, in order.
fn ordered<'a>(domain: Option<&str>, routes: impl Iterator<Item = &'a Attached>) -> impl Iterator<Item = &'a Rule> {
    let mut rules: Vec<(usize, &Rule)> = Vec::new();
    for attached in routes {
        let Some(fit) = fit(&attached.route.hostnames, domain) else {
            continue;
        };
        rules.extend(attached.route.rules.iter().map(|rule| (fit, rule)));
    }
    // Stable: age, name, and the order in the object decide last.
    rules.sort_by_key(|(fit, rule)| (Reverse(*fit), rank(&rule.matched)));
    rules.into_iter().map(|(_, rule)| rule)
}

/// How exactly a route's host names say `domain`, if they do: a name itself is more than a longer end of it.
fn fit(hostnames: &[String], domain: Option<&str>) -> Option<usize> {
    if hostnames.is_empty() {
        return Some(0);
    }
    let domain = domain?;
    let fits = hostnames.iter().filter_map(|name| {
        let name = name.to_ascii_lowercase();
        match name.strip_prefix('*') {
            Some("") => Some(0),
            _ if name == domain => Some(1000 + name.len()),
            // `*.a.example` is also for `*.b.a.example`.
            Some(end) => domain.trim_start_matches('*').ends_with(end).then_some(name.len()),
            None => None,
        }
    });
    fits.max()
}

/// Exact paths, then prefixes from the longest, then regular expressions from the longest, and last the prefix of everything, so that
/// it does not hide these; then whether a method is asked for; then how many headers and query parameters are.
fn rank(matched: &Match) -> impl Ord + use<> {
    let path = match &matched.path {
        Path::Exact(_) => (0, 0),
        Path::Prefix(prefix) if !prefix.is_empty() => (1, usize::MAX - prefix.chars().count()),
        Path::Regex(regex) => (2, usize::MAX - regex.chars().count()),
        Path::Prefix(_) | Path::Plain(_) => (3, 0),
    };
    (
        path,
        matched.method.is_none(),
        Reverse(matched.headers.len()),
        Reverse(matched.query.len()),
    )
}

#[cfg(test)]
mod tests;
