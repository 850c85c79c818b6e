//! What a waypoint is told of the recorded cases of layer 7, to begin from: a fuzzer would hardly come upon a listener with filters.

use std::{path::Path, sync::LazyLock};

use culvert_envoy::{CLUSTER_TYPE, ENDPOINT_TYPE, LISTENER_TYPE, ROUTE_TYPE, names};
use culvert_resources::files::{self, File, World};
use culvert_resources::model::Settings;
use culvert_xds::server::Resources as _;

/// The folder of the cases, a folder each.
const CASES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../controller/tests/golden-l7");

/// The objects that all of them share.
const BASE: &str = include_str!("../controller/tests/golden-l7/base.yaml");

/// Marks an input as an edit of what is known. No message begins like this: there is no such wire type.
pub const MARK: u8 = 0xff;

/// A resource of a waypoint.
pub struct Known {
    /// Its type.
    pub type_url: &'static str,
    /// The message.
    pub body: Vec<u8>,
}

static ALL: LazyLock<Vec<Known>> = LazyLock::new(|| {
    let mut cases: Vec<_> = Path::new(CASES)
        .read_dir()
        .expect("the folder of the cases")
        .map(|entry| entry.expect("a case").path().join("input.yaml"))
        .filter(|input| input.is_file())
        .collect();
    cases.sort();
    let all = cases.iter().flat_map(|case| {
        let text = std::fs::read_to_string(case).expect("a case is text");
        of_objects(&text)
    });
    all.collect()
});

fn of_objects(text: &str) -> Vec<Known> {
    let base = BASE.replace("istio-waypoint", "culvert-waypoint");
    let files = [("base.yaml", base.as_str()), ("case.yaml", text)].map(|(name, text)| File {
        name: name.to_owned(),
        text: text.to_owned(),
    });
    let model = World::of_files(&files::read(&files)).model(Settings::default());
    let mut all = Vec::new();
    for type_url in [LISTENER_TYPE, CLUSTER_TYPE, ENDPOINT_TYPE, ROUTE_TYPE] {
        for (name, entry) in model.snapshot().all(type_url).into_iter().flatten() {
            let is_inbound = name.ends_with("/inbound");
            if !names::is_plumbing(&name) && is_inbound == (type_url == LISTENER_TYPE) {
                all.push(Known {
                    type_url,
                    body: entry.body.to_vec(),
                });
            }
        }
    }
    all
}

/// The resource that an input names, edited as it says: a number of two bytes, and for each edit where (two bytes) and what (one).
pub fn edited(input: &[u8], wanted: impl Fn(&Known) -> bool) -> Option<Known> {
    let (number, edits) = input.split_first_chunk::<2>()?;
    let wanted: Vec<&Known> = ALL.iter().filter(|known| wanted(known)).collect();
    let known = wanted.get(usize::from(u16::from_le_bytes(*number)) % wanted.len().max(1))?;
    let mut body = known.body.clone();
    for edit in edits.chunks_exact(3) {
        let at = usize::from(u16::from_le_bytes([edit[0], edit[1]])) % body.len().max(1);
        if let Some(byte) = body.get_mut(at) {
            *byte = edit[2];
        }
    }
    Some(Known {
        type_url: known.type_url,
        body,
    })
}
