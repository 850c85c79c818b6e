//! How endpoints of a Service are chosen at waypoints, where no object of others has a word for it.

/// On a Service.
pub const BALANCER_ANNOTATION: &str = "culvert.dev/load-balancer";
/// The endpoint that costs less of two: by how long it takes to answer, and by what is under way there.
pub const PEAK_EWMA: &str = "peak-ewma";

/// What is wrong with a value, if something is.
pub(crate) fn problem(asked: &str) -> Option<(String, String)> {
    (asked != PEAK_EWMA).then(|| {
        (
            format!("metadata.annotations[{BALANCER_ANNOTATION}]"),
            format!("{asked:?} is not {PEAK_EWMA}: nothing follows from it"),
        )
    })
}
