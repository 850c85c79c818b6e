//! What holds for fields of routes that are not served, whichever kind has them.

use super::entry::State;

use State::{Ignored, Refused};

/// What is said of a value that no version of the kind has.
pub(super) const UNKNOWN_VALUE: State = Refused("is unknown: what depends on it is answered with 500");
pub(super) const EXTENSION: State = Refused(
    "names a filter of somebody else's, which Culvert does not have: what the rule matches is answered with 500",
);
pub(super) const AT_BACKEND: State =
    Refused("is a filter for whole rules, and not for one backend: requests to that backend are answered with 500");
pub(super) const DEFAULT_GATEWAYS: State = Ignored("is about gateways, which are left to others");
