//! What is wrong or without effect in all objects together: what the source and the model have found of single objects, and what
//! only shows between them.
//!
//! | module | what |
//! |---|---|
//! | `problem` | what is said, and what to do |
//! | `remedy` | what to do about a finding |
//! | `hidden` | rules that never match, and routes of two kinds on one Service |
//! | `waypoints` | labels that ask for a waypoint that is not there, and waypoints that nobody asks for |
//! | `policies` | policies that bind nothing |
//! | `subsets` | subsets without endpoints |
//!
//! It costs what deriving the rules of all Services again costs, and is for people who ask, not for every change.

mod hidden;
mod policies;
mod problem;
mod remedy;
mod subsets;
mod waypoints;

use culvert_objects::Findings;

use super::reader::Reader;
pub use problem::Problem;

/// Everything that is wrong: what was `found` of single objects, and what shows between them. The worst first, then by object.
pub(super) fn analyze(reader: &Reader<'_>, found: &Findings) -> Vec<Problem> {
    let mut problems: Vec<Problem> = found.keys().map(|finding| remedy::of_finding(finding)).collect();
    problems.extend(hidden::find(reader));
    problems.extend(waypoints::find(reader));
    problems.extend(policies::find(reader));
    problems.extend(subsets::find(reader));
    problems.sort_by(|a, b| {
        let key = |problem: &Problem| std::cmp::Reverse(problem.severity);
        key(a).cmp(&key(b)).then_with(|| a.cmp(b))
    });
    problems.dedup();
    problems
}
