//! Subsets of DestinationRules that have no endpoint, although their host has.

use culvert_objects::{DestinationRule, Kind};

use super::problem::Problem;
use crate::model::reader::Reader;
use crate::model::routed::subsets;

pub(super) fn find(reader: &Reader<'_>) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (name, rule) in reader.all::<DestinationRule>() {
        for subset in subsets::without_endpoints(reader, name, rule) {
            problems.push(Problem::warning(
                Kind::DestinationRule,
                name,
                "spec.subsets",
                format!(
                    "no endpoint of the host has the labels of subset {subset:?}: what goes there is answered with 503"
                ),
                "give the pods that are meant these labels, or change the subset's",
            ));
        }
    }
    problems
}
