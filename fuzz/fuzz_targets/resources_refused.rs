//! What a proxy says when it refuses a resource, and the name of that: it ends up in the status of objects. The first byte says of which type, the
//! first line is the name.
#![no_main]

use std::collections::BTreeSet;
use std::sync::LazyLock;

use culvert_envoy::{CLUSTER_TYPE, ENDPOINT_TYPE, LISTENER_TYPE, ROUTE_TYPE};
use culvert_proto::{ADDRESS_TYPE, AUTHORIZATION_TYPE};
use culvert_resources::files::{self, File, World};
use culvert_resources::model::{Model, Refusal, Settings, place_of};
use libfuzzer_sys::fuzz_target;

const TYPES: [&str; 6] = [
    CLUSTER_TYPE,
    ENDPOINT_TYPE,
    LISTENER_TYPE,
    ROUTE_TYPE,
    ADDRESS_TYPE,
    AUTHORIZATION_TYPE,
];

/// A shop with a waypoint, and a bank without one: the objects of the recorded cases.
static BASE: LazyLock<Vec<File>> = LazyLock::new(|| {
    let text = include_str!("../../controller/tests/golden-l7/base.yaml");
    vec![File {
        name: "base.yaml".to_owned(),
        text: text.replace("istio-waypoint", "culvert-waypoint"),
    }]
});

thread_local! {
    static MODEL: Model = World::of_files(&files::read(&BASE)).model(Settings::default());
}

fuzz_target!(|input: &[u8]| {
    let &[which, ref rest @ ..] = input else { return };
    let text = String::from_utf8_lossy(rest);
    let (name, message) = text.split_once('\n').unwrap_or((&text, ""));
    if let Some(place) = place_of(message, name) {
        assert_eq!(&message[place], name);
    }
    let type_url = TYPES[usize::from(which) % TYPES.len()];
    let is_of_waypoint = ![ADDRESS_TYPE, AUTHORIZATION_TYPE].contains(&type_url);
    let refusal = Refusal {
        waypoint: is_of_waypoint.then(|| "shop/wp".to_owned()),
        proxy: if is_of_waypoint {
            "shop/wp-5c9d8f7b6-x2x4q"
        } else {
            "node-a"
        }
        .to_owned(),
        type_url: type_url.to_owned(),
        name: (!name.is_empty()).then(|| name.to_owned()),
        message: message.to_owned(),
    };
    let refused = MODEL.with(|model| model.refused(&BTreeSet::from([refusal])));
    assert!(!refused.is_empty(), "nobody is told of it");
    assert_eq!(refused.gateways.len(), usize::from(is_of_waypoint));
});
