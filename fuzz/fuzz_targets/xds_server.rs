//! What node proxies say to the controller's side of xDS. Whatever it was, the stream comes to rest once its answers are acknowledged.
//!
//! A request is a length of two bytes and so many bytes.
#![no_main]

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use culvert_proto::{ADDRESS_TYPE, discovery::DeltaDiscoveryRequest};
use culvert_xds::server::{Entry, Named, Stream, TypeSpec, View};
use libfuzzer_sys::fuzz_target;
use prost::Message as _;

struct World(BTreeMap<Arc<str>, Entry>);

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let entry = |name: &str| Entry {
        digest: 1,
        body: Arc::from(*b"x"),
        aliases: Arc::new([format!("@{name}").into()]),
    };
    World(["a", "b", "c"].map(|name| (name.into(), entry(name))).into())
});

const TYPES: [TypeSpec; 1] = [TypeSpec {
    url: ADDRESS_TYPE,
    after: &[],
    piece: None,
    followed_by: None,
}];

impl View for World {
    fn types(&self) -> &'static [TypeSpec] {
        &TYPES
    }

    fn all<'a>(&'a self, _: &str) -> Named<'a> {
        Box::new(self.0.iter())
    }

    fn get(&self, _: &str, name: &str) -> Option<&Entry> {
        self.0.get(name)
    }

    /// `b` brings `c`, as a service brings its workloads.
    fn expand(&self, _: &str, name: &str) -> Vec<Arc<str>> {
        match name.trim_start_matches('@') {
            "b" => vec!["b".into(), "c".into()],
            name if self.0.contains_key(name) => vec![name.into()],
            _ => vec![],
        }
    }

    fn keys(&self, _: &str, name: &str) -> Vec<Arc<str>> {
        let own = [name.into(), format!("@{name}").into()];
        let services = (name == "c").then(|| ["b".into(), "@b".into()]);
        own.into_iter().chain(services.into_iter().flatten()).collect()
    }

    fn shared(&self, _: &str, name: &str) -> Option<Arc<str>> {
        let (name, _) = self.0.get_key_value(name)?;
        Some(Arc::clone(name))
    }

    fn initial(&self, _: &str) -> Vec<Arc<str>> {
        vec!["a".into()]
    }
}

fuzz_target!(|input: &[u8]| {
    let mut stream = Stream::new();
    let (mut rest, mut answers, mut last) = (input, 0, None);
    let acknowledge = |stream: &mut Stream, nonce: String| {
        let type_url = ADDRESS_TYPE.to_owned();
        stream.receive(
            &DeltaDiscoveryRequest {
                type_url,
                response_nonce: nonce,
                ..Default::default()
            },
            &*WORLD,
        );
    };
    while let [low, high, more @ ..] = rest {
        let (bytes, after) = more.split_at(usize::from(u16::from_le_bytes([*low, *high])).min(more.len()));
        rest = after;
        let Ok(request) = DeltaDiscoveryRequest::decode(bytes) else {
            continue;
        };
        stream.receive(&request, &*WORLD);
        if let Some(response) = stream.next(&*WORLD) {
            answers += 1;
            assert_eq!(response.nonce, answers.to_string());
            assert!(
                stream.next(&*WORLD).is_none(),
                "an answer waits for its acknowledgement"
            );
            last = Some(response.nonce);
        }
    }
    for _ in 0..3 {
        let Some(nonce) = last.take() else { break };
        acknowledge(&mut stream, nonce);
        last = stream.next(&*WORLD).map(|response| response.nonce);
    }
    assert_eq!(last, None, "nothing changes, and yet the stream goes on talking");
    assert!(stream.held(ADDRESS_TYPE) <= WORLD.0.len());
});
