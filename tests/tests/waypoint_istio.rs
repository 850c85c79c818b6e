//! VirtualServices and DestinationRules at a waypoint: the cases of `tests/waypoint/istio`.

use culvert_tests::{suite::all_cases_hold, waypoint::Kind};

#[test]
fn culvert_does_as_istios_objects_say() {
    all_cases_hold("waypoint/istio", Kind::Culvert);
}

#[test]
fn envoy_does_as_istios_objects_say() {
    all_cases_hold("waypoint/istio", Kind::Envoy);
}
