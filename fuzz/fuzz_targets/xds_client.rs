//! What a controller says to the proxy's side of xDS. Each answer of a known type is acknowledged; when the client connects again,
//! what it refused is claimed in its last good version, or in none.
//!
//! A response is a byte whose bits say which resources are refused, a length of two bytes, and so many bytes.
#![no_main]

use std::collections::{BTreeMap, BTreeSet};

use culvert_proto::{
    ADDRESS_TYPE,
    discovery::{DeltaDiscoveryResponse, Node},
};
use culvert_xds::client::{Client, Mode, Rejection};
use libfuzzer_sys::fuzz_target;
use prost::Message as _;

fuzz_target!(|input: &[u8]| {
    let mut client = Client::new(Node::default(), [(ADDRESS_TYPE, Mode::OnDemand)]);
    let mut rest = input;
    let mut held = BTreeMap::new();
    while let [refuse, low, high, more @ ..] = rest {
        let (bytes, after) = more.split_at(usize::from(u16::from_le_bytes([*low, *high])).min(more.len()));
        rest = after;
        let Ok(response) = DeltaDiscoveryResponse::decode(bytes) else {
            continue;
        };
        let refused = |(at, _): &(usize, _)| refuse >> (at % 8) & 1 == 1;
        let names = response
            .resources
            .iter()
            .map(|resource| resource.name.clone())
            .enumerate();
        let rejected: BTreeSet<String> = names.filter(refused).map(|(_, name)| name).collect();
        let outcome = client.receive(&response, |update| {
            assert_eq!(update.resources.len(), response.resources.len());
            let rejection = |name: &String| Rejection {
                name: name.clone(),
                reason: "no".to_owned(),
            };
            rejected.iter().map(rejection).collect()
        });
        match outcome {
            Ok(answer) => {
                assert_eq!(
                    (answer.type_url.as_str(), &answer.response_nonce),
                    (ADDRESS_TYPE, &response.nonce)
                );
                assert_eq!(answer.error_detail.is_some(), !rejected.is_empty());
                for resource in response.resources {
                    if rejected.contains(&resource.name) {
                        held.entry(resource.name).or_default();
                    } else {
                        held.insert(resource.name, resource.version);
                    }
                }
                for name in &response.removed_resources {
                    held.remove(name);
                }
            }
            Err(error) => assert_eq!(error.0, response.type_url),
        }
    }
    let first = client.connect();
    let claimed: BTreeMap<_, _> = first[0].initial_resource_versions.clone().into_iter().collect();
    assert_eq!(claimed, held);
});
