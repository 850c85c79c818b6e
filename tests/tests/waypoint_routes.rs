//! Routes of the Gateway API at a waypoint: the cases of `tests/waypoint/*.yaml`.

use culvert_tests::{suite::all_cases_hold, waypoint::Kind};

#[test]
fn culvert_routes_as_the_gateway_api_says() {
    all_cases_hold("waypoint", Kind::Culvert);
}

#[test]
fn envoy_routes_as_the_gateway_api_says() {
    all_cases_hold("waypoint", Kind::Envoy);
}
