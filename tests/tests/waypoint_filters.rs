//! What filters and balancers do at a waypoint, as seen by clients, applications and the access log: the cases of `tests/waypoint/filters`.

use culvert_tests::{suite::all_cases_hold, waypoint::Kind};

#[test]
fn culverts_filters_do_what_envoys_do() {
    all_cases_hold("waypoint/filters", Kind::Culvert);
}

#[test]
fn envoys_filters_do_what_is_written_of_them() {
    all_cases_hold("waypoint/filters", Kind::Envoy);
}
