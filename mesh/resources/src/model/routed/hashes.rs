//! By what of a request an endpoint is chosen: that is the backend's to ask for, and stands in the rules that lead there.

use super::super::reader::Reader;
use super::hosts;
use crate::routing::model::{Action, Forward, HashBy, Routes};

/// Writes it into all rules.
pub(super) fn add(reader: &Reader<'_>, routes: &mut Routes) {
    let rules = routes.hosts.iter_mut().flat_map(|host| &mut host.rules);
    for rule in rules {
        if let Action::Forward(forward) = &mut rule.action {
            forward.hash = asked(reader, forward);
        }
    }
}

fn asked(reader: &Reader<'_>, forward: &Forward) -> Vec<HashBy> {
    let mut found = Vec::new();
    for backend in forward.targets.iter().filter_map(|target| target.backend.as_ref()) {
        let Some(service) = reader.derived_service(&backend.service) else {
            continue;
        };
        let traffic = hosts::policy(reader, &service).at_port(backend.port, backend.subset.as_deref());
        found.extend(traffic.hash.filter(|by| !found.contains(by)));
    }
    found
}
