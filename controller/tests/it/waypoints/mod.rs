//! What the model tells waypoints of the golden cases of layer 7, beside what Istio's control plane told them: both reduced to what a
//! request meets. Where ours is other on purpose, the reason is below and ours is kept in `ours.json` (`BLESS=1` writes it).
//!
//! | module | what |
//! |---|---|
//! | `reduce` | our messages, reduced |
//! | `telemetry` | spans and lines beside the recorded ones |
//! | `clusters` | what holds for connections to backends |
//! | `compiled` | our own waypoint takes them |
//! | `envoy` | Envoy itself takes our messages |
//! | `policies` | who may: filters of requests and connections beside the recorded ones |
//! | `recorded` | the recordings, reduced to the same |

mod clusters;
mod compiled;
mod envoy;
mod policies;
mod recorded;
mod reduce;
mod telemetry;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use culvert_controller::model::{Model, Settings};
use culvert_objects::Directory;
use serde_json::Value;
use tempfile::TempDir;

/// Where ours differs: case, chain, and why.
const DIFFERENCES: &[(&str, &str, &str)] = &[
    (
        "01-path-matches",
        "web.shop:80",
        "a regular expression is not cut off by the prefix of everything",
    ),
    (
        "03-precedence",
        "web.shop:80",
        "a regular expression is not behind the prefix of everything",
    ),
    (
        "04-several-routes",
        "web.shop:80",
        "host names of routes count, and no rule behind the prefix of everything is left out",
    ),
    (
        "06-missing-backends",
        "web.shop:80",
        "a rule without any backend that is there is a direct 500",
    ),
    (
        "07-header-modifiers",
        "web.shop:80",
        "a percent sign in a value is one, and Envoy takes the configuration",
    ),
    (
        "08-rewrites",
        "web.shop:80",
        "the prefix of everything is replaced without losing the slash behind it",
    ),
    (
        "14-reference-grant",
        "web.shop:80",
        "a backend in another namespace needs a ReferenceGrant",
    ),
    (
        "15-producer-consumer",
        "web.shop:80",
        "a consumer's route is for the clients of its namespace",
    ),
    (
        "16-grpc-route",
        "cart.shop:7000",
        "of HTTPRoutes and GRPCRoutes at one port the latter alone are in force, whichever is older (GEP-1426)",
    ),
    (
        "11-retries",
        "web.shop:80",
        "where a route asks for retries, a try that is cut or takes too long is tried again",
    ),
    (
        "18-virtual-service",
        "web.shop:80",
        "a rule's headers stand at its clusters where a destination has some of its own, so that these come last",
    ),
    (
        "19-virtual-service-matches",
        "web.shop:80",
        "sourceNamespace is the client's namespace, not the waypoint's",
    ),
    (
        "20-subsets",
        "web.shop:80",
        "a rule without any backend that is there is a direct 500",
    ),
    (
        "21-load-balancers",
        "lb-d.shop:80",
        "nothing is tried again by codes where none are named",
    ),
];

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden-l7")
}

fn cases() -> Vec<PathBuf> {
    let entries = fs::read_dir(golden()).unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<PathBuf> = entries.filter(|path| path.is_dir()).collect();
    found.sort();
    found
}

/// The case in the model, with the waypoint of our class.
fn modelled(case: &Path) -> Model {
    let dir = TempDir::new().unwrap();
    let base = fs::read_to_string(golden().join("base.yaml")).unwrap();
    fs::write(
        dir.path().join("base.yaml"),
        base.replace("istio-waypoint", "culvert-waypoint"),
    )
    .unwrap();
    let input = fs::read_to_string(case.join("input.yaml")).unwrap();
    let input = input.replace("name: istio-waypoint", "name: culvert-waypoint");
    fs::write(dir.path().join("input.yaml"), input).unwrap();
    let loaded = Directory::open(dir.path()).unwrap().loaded();
    let mut model = Model::new(Settings::default());
    model.update(&loaded.objects, Instant::now());
    assert_eq!(model.update(&loaded.objects, Instant::now()), Default::default());
    model
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

#[test]
fn requests_meet_what_istio_recorded_or_what_is_better_for_a_reason() {
    let base = json(&golden().join("base.json"));
    let bless = std::env::var_os("BLESS").is_some();
    let mut wrong = Vec::new();
    let mut unused: Vec<_> = DIFFERENCES.iter().map(|(case, chain, _)| (*case, *chain)).collect();
    for case in cases() {
        let name = case.file_name().unwrap().to_str().unwrap();
        let ours = reduce::chains(&modelled(&case));
        let recorded = recorded::chains(&base, &json(&case.join("expected.json")), &ours);
        let mut better: BTreeMap<String, Value> = BTreeMap::new();
        let known: BTreeMap<String, Value> = match fs::read(case.join("ours.json")) {
            Ok(text) => serde_json::from_slice(&text).unwrap(),
            Err(_) => BTreeMap::new(),
        };
        for (chain, expected) in &recorded {
            let made = ours.get(chain).unwrap_or(&Value::Null);
            if made == expected {
                continue;
            }
            let reason = DIFFERENCES
                .iter()
                .find(|(of, at, _)| (*of, *at) == (name, chain.as_str()));
            let Some((of, at, _)) = reason else {
                wrong.push(format!("{name} {chain}:\nrecorded {expected:#}\nours {made:#}"));
                continue;
            };
            unused.retain(|entry| entry != &(*of, *at));
            better.insert(chain.clone(), made.clone());
            if !bless && known.get(chain) != Some(made) {
                wrong.push(format!("{name} {chain}: differs in another way than before: {made:#}"));
            }
        }
        if bless && !better.is_empty() {
            let text = serde_json::to_string_pretty(&better).unwrap() + "\n";
            fs::write(case.join("ours.json"), text).unwrap();
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    assert!(unused.is_empty(), "these do not differ: {unused:?}");
}

#[test]
fn backends_are_where_istio_recorded_them() {
    let base = json(&golden().join("base.json"));
    for case in cases() {
        let name = case.file_name().unwrap().to_str().unwrap();
        let ours = reduce::endpoints(&modelled(&case));
        let recorded = recorded::endpoints(&base, &json(&case.join("expected.json")));
        for (cluster, endpoints) in &ours {
            let Some(expected) = recorded.get(cluster) else {
                continue;
            };
            assert_eq!(endpoints, expected, "{name}: {cluster}");
        }
        let missing: Vec<&String> = recorded
            .keys()
            .filter(|name| (name.contains(".shop:") || name.contains(".example:")) && !ours.contains_key(*name))
            .collect();
        assert!(missing.is_empty(), "{}: {missing:?}", case.display());
    }
}
