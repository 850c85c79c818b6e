//! Culvert's own waypoint takes what the model makes, of every golden case: its rules compile.

use culvert_envoy::ROUTE_TYPE;
use culvert_envoy::pb::envoy::config::route::v3::RouteConfiguration;
use culvert_http::RouteTable;
use culvert_xds::server::Resources as _;
use prost::Message as _;

#[test]
fn the_rules_of_every_case_compile() {
    let mut compiled = 0;
    for case in super::cases() {
        let model = super::modelled(&case);
        for (name, entry) in model.snapshot().all(ROUTE_TYPE).unwrap() {
            let made = RouteConfiguration::decode(&*entry.body).unwrap();
            if let Err(error) = RouteTable::compile(&made) {
                panic!("{}: {name}: {error}", case.display());
            }
            compiled += 1;
        }
    }
    assert!(compiled > 50, "{compiled}");
}
