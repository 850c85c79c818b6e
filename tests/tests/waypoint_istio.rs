//! VirtualServices and DestinationRules at a waypoint: the cases of `tests/waypoint/istio`.

use culvert_tests::{suite::all_cases_hold, waypoint::Kind};

#[test]
fn culvert_does_as_istios_objects_say() {
    all_cases_hold("waypoint/istio", Kind::Culvert);
}

/// What changes with each case is all that a waypoint is told of: clusters come, change and go.
#[test]
fn envoy_does_as_istios_objects_say_with_the_state_of_the_world() {
    all_cases_hold("waypoint/istio", Kind::EnvoyWorld);
}

#[test]
fn envoy_does_as_istios_objects_say() {
    all_cases_hold("waypoint/istio", Kind::Envoy);
}
