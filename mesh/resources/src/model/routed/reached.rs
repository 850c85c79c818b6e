//! Rules of a route that get no request, since others before them take all that they match.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use culvert_objects::{HTTPRoute, Kind, ObjectName};
use culvert_proto::workload::Service;

use super::super::reader::Reader;
use super::explain::{hiding, origin};
use super::frontend::Frontend;
use super::routes;

/// Where a Service has more routes, `culvert analyze` alone says what no request reaches: here it would be looked for anew for each of the
/// routes whenever one of them changes.
const MOST: usize = 32;

/// Which rules of a route get no request at these ports of a Service: its name or place, and the rule that comes before it.
pub(super) fn never(
    reader: &Reader<'_>,
    (kind, route): (Kind, &ObjectName),
    (resource, service): (&Arc<str>, &Service),
    ports: &[u16],
) -> BTreeMap<String, String> {
    let Some(frontend) = Frontend::of(reader, service) else {
        return BTreeMap::new();
    };
    if reader.find::<HTTPRoute>(frontend.key()).count() > MOST {
        return BTreeMap::new();
    }
    let object = format!("{kind} {route}");
    let mut reached = BTreeSet::new();
    let mut hidden = BTreeMap::new();
    for port in ports {
        for host in routes::merged(reader, resource, service, *port).hosts {
            let before = hiding(&host.rules);
            for (rule, by) in host.rules.iter().zip(before) {
                match (origin(&rule.name), by) {
                    (Some((of, _)), _) if of != object => {}
                    (Some((_, part)), None) => drop(reached.insert(part)),
                    (Some((_, part)), Some(by)) => drop(hidden.entry(part).or_insert_with(|| by.name.clone())),
                    (None, _) => {}
                }
            }
        }
    }
    hidden.retain(|part, _| !reached.contains(part));
    hidden
}
