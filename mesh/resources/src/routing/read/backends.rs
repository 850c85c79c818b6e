//! Where the requests of a rule go, and in which shares.

use serde_json::Value;

use super::super::model::{Headers, Target};
use super::filters;
use super::notes::{Notes, Resolve};
use super::references::BackendSpec;
use super::values;

/// The most that a weight may be, as the API has it: that of all backends together is a number of 32 bits.
const MOST: u32 = 1_000_000;

/// The backends of a rule, but those without weight. One that leads nowhere, or has a filter that cannot be served, keeps its share,
/// which is answered with 500.
pub(super) fn targets(specs: &[Value], field: &str, resolve: &dyn Resolve, notes: &mut Notes) -> Vec<Target> {
    let mut targets = Vec::new();
    for (index, value) in specs.iter().enumerate() {
        let at = format!("{field}[{index}]");
        let spec: BackendSpec = match values::read(value) {
            Ok(spec) => spec,
            Err(bad) => {
                let bad = bad.below(&at);
                notes.refuse(
                    bad.field,
                    format!("{}: its share of requests is answered with 500", bad.message),
                );
                let weight = value["weight"]
                    .as_u64()
                    .map_or(Some(1), |weight| u32::try_from(weight).ok());
                targets.extend(
                    weight
                        .filter(|weight| *weight > 0)
                        .map(|weight| nowhere(weight.min(MOST))),
                );
                continue;
            }
        };
        if spec.weight() == 0 {
            continue;
        }
        if spec.weight() > MOST {
            let message = format!("more than {MOST}: its share of requests is answered with 500");
            notes.refuse(format!("{at}.weight"), message);
            targets.push(nowhere(MOST));
            continue;
        }
        let backend = match resolve.backend(&spec.reference()) {
            Ok(backend) => backend,
            Err(why) => {
                notes.unresolved(at, &why, "its share of requests is answered with 500");
                targets.push(nowhere(spec.weight()));
                continue;
            }
        };
        match filters::of_backend(&spec.filters, &format!("{at}.filters"), resolve, notes) {
            Ok(filters) => targets.push(Target {
                backend: Some(backend),
                weight: spec.weight(),
                request: filters.request,
                response: filters.response,
            }),
            Err(bad) => {
                notes.refuse(
                    bad.field,
                    format!("{}: its share of requests is answered with 500", bad.message),
                );
                targets.push(nowhere(spec.weight()));
            }
        }
    }
    targets
}

fn nowhere(weight: u32) -> Target {
    Target {
        backend: None,
        weight,
        request: Headers::default(),
        response: Headers::default(),
    }
}
