//! Which host names a question may mean.
//!
//! A stub resolver appends its search domains to what the application asks for, so that a name reaches the pod's resolver in
//! several forms. Those of a pod are `NAMESPACE.svc.DOMAIN`, `svc.DOMAIN` and `DOMAIN`; what stands before one of them may be
//! a host outside the cluster. Kubernetes' own short forms are completed, as Istio's node proxy does it, but for one: two
//! labels by themselves are a domain of the internet, which no namespace of that name takes over.

use std::borrow::Cow;

use crate::{
    decision::Client,
    host::{before, labels, wildcards},
};

/// A host name that may be meant.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Candidate<'a> {
    /// The host name of a service.
    pub(crate) host: Cow<'a, str>,
    /// The name of an endpoint of that service, which alone is meant.
    pub(crate) endpoint: Option<&'a str>,
    /// Without which search domain it was found: then the answer says that what stands before it is the name.
    pub(crate) stripped: Option<&'a str>,
    /// Whether a controller that tells what is asked for is to be asked for it.
    pub(crate) is_asked: bool,
}

impl<'a> Candidate<'a> {
    fn service(host: impl Into<Cow<'a, str>>) -> Self {
        Self {
            host: host.into(),
            endpoint: None,
            stripped: None,
            is_asked: true,
        }
    }

    fn without(self, stripped: &'a str) -> Self {
        Self {
            stripped: Some(stripped),
            ..self
        }
    }
}

/// What a name may mean, the likeliest first.
pub(crate) fn candidates<'a>(host: &'a str, client: &Client<'_>) -> Vec<Candidate<'a>> {
    let domain = client.cluster_domain;
    let services = format!("svc.{domain}");
    let own = format!("{}.{services}", client.namespace);
    let mut found = Vec::with_capacity(12);

    let of_kubernetes = before(host, &services).map(labels);
    found.push(Candidate {
        // Whatever else is in the cluster's domain is a name that a stub resolver has made.
        is_asked: of_kubernetes == Some(2) || before(host, domain).is_none(),
        ..Candidate::service(host)
    });
    add_wildcards(host, None, &mut found);
    if of_kubernetes == Some(3) {
        found.extend(endpoint(host, ""));
    }
    match labels(host) {
        1 => found.push(Candidate::service(format!("{host}.{own}"))),
        3 if before(host, "svc").is_some() => found.push(Candidate::service(format!("{host}.{domain}"))),
        4 if before(host, "svc").is_some() => found.extend(endpoint(host, domain)),
        _ => {}
    }
    let search = [own.as_str(), services.as_str(), domain];
    if let Some(stripped) = search.iter().find_map(|domain| before(host, domain)) {
        found.push(Candidate::service(stripped).without(stripped));
        add_wildcards(stripped, Some(stripped), &mut found);
        let complete = match labels(stripped) {
            1 => Some(format!("{stripped}.{own}")),
            2 => Some(format!("{stripped}.{services}")),
            3 if before(stripped, "svc").is_some() => Some(format!("{stripped}.{domain}")),
            _ => None,
        };
        let complete = complete.filter(|complete| complete != host);
        found.extend(complete.map(|complete| Candidate::service(complete).without(stripped)));
    }
    found
}

fn add_wildcards<'a>(host: &str, stripped: Option<&'a str>, found: &mut Vec<Candidate<'a>>) {
    found.extend(wildcards(host).map(|wildcard| Candidate {
        stripped,
        // All of them are known: see `culvert_proto::WILDCARDS_ALIAS`.
        is_asked: false,
        ..Candidate::service(wildcard)
    }));
}

/// The first label as the name of an endpoint of what the others name, which `domain` completes.
fn endpoint<'a>(host: &'a str, domain: &str) -> Option<Candidate<'a>> {
    let (endpoint, service) = host.split_once('.')?;
    let host = match domain {
        "" => Cow::Borrowed(service),
        _ => Cow::Owned(format!("{service}.{domain}")),
    };
    Some(Candidate {
        endpoint: Some(endpoint),
        ..Candidate::service(host)
    })
}
