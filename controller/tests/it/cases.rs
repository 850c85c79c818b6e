//! Golden cases: their files, and resources rendered as the recordings have them.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use culvert_proto::workload::Address;
use prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};
use serde_json::Value;
use tempfile::TempDir;

/// The folder with the recordings.
pub(crate) fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// The folders of the cases, in order.
pub(crate) fn cases() -> Vec<PathBuf> {
    let mut found: Vec<_> = fs::read_dir(golden())
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.is_dir())
        .collect();
    found.sort();
    found
}

/// A configuration directory with the case in it.
pub(crate) fn directory(case: &Path) -> TempDir {
    let dir = TempDir::new().unwrap();
    fs::copy(golden().join("base.yaml"), dir.path().join("base.yaml")).unwrap();
    fs::copy(case.join("input.yaml"), dir.path().join("input.yaml")).unwrap();
    dir
}

/// The recorded resources, by name.
pub(crate) fn expected(case: &Path) -> BTreeMap<String, Value> {
    let all: Value = serde_json::from_slice(&fs::read(case.join("expected.json")).unwrap()).unwrap();
    serde_json::from_value(all["addresses"].clone()).unwrap()
}

/// A message as the recordings have it.
pub(crate) fn render(address: &Address) -> Value {
    let pool = DescriptorPool::decode(culvert_proto::DESCRIPTORS).unwrap();
    let descriptor = pool.get_message_by_name("istio.workload.Address").unwrap();
    let message = DynamicMessage::decode(descriptor, address.encode_to_vec().as_slice()).unwrap();
    let options = SerializeOptions::new()
        .use_proto_field_name(true)
        .skip_default_fields(true)
        .stringify_64_bit_integers(false);
    let json = message
        .serialize_with_options(serde_json::value::Serializer, &options)
        .unwrap();
    addresses_as_text(without_ours(json), address)
}

/// Without what leads and forces everybody through the waypoint of a Service: Istio's clients go past it by a pod's address.
fn without_ours(mut json: Value) -> Value {
    let Some(workload) = json.get_mut("workload").and_then(Value::as_object_mut) else {
        return json;
    };
    if let Some(Value::Array(policies)) = workload.get_mut("authorization_policies") {
        let is_ours = |policy: &Value| policy.as_str().is_some_and(|name| name.contains("/culvert_waypoint_"));
        policies.retain(|policy| !is_ours(policy));
        if policies.is_empty() {
            workload.remove("authorization_policies");
        }
    }
    if let Some(Value::Array(extensions)) = workload.get_mut("extensions") {
        let all = extensions.len();
        extensions.retain(|extension| extension["name"] != culvert_proto::WAYPOINT_PORTS);
        let is_ours = extensions.len() < all;
        if extensions.is_empty() {
            workload.remove("extensions");
        }
        if is_ours {
            workload.remove("waypoint");
        }
    }
    json
}

/// Protobuf's JSON has bytes in base64; the recordings have addresses as text.
fn addresses_as_text(mut json: Value, address: &Address) -> Value {
    use culvert_proto::workload::address::Type;
    let text = |octets: &[u8]| match octets.len() {
        4 => Value::from(IpAddr::from(<[u8; 4]>::try_from(octets).unwrap()).to_string()),
        _ => Value::from(IpAddr::from(<[u8; 16]>::try_from(octets).unwrap()).to_string()),
    };
    match address.r#type.as_ref().unwrap() {
        Type::Workload(w) if !w.addresses.is_empty() => {
            json["workload"]["addresses"] = w.addresses.iter().map(|a| text(a)).collect();
        }
        Type::Service(s) => {
            for (index, a) in s.addresses.iter().enumerate() {
                json["service"]["addresses"][index]["address"] =
                    allocated(&a.address).unwrap_or_else(|| text(&a.address));
            }
        }
        Type::Workload(_) => {}
    }
    json
}

/// The recordings do not say which of the mesh's own choice it is.
fn allocated(octets: &[u8]) -> Option<Value> {
    match octets {
        [240, 240, _, _] => Some("auto-v4".into()),
        [0x20, 0x01, 0, 2, 0, 0, ..] => Some("auto-v6".into()),
        _ => None,
    }
}

/// Compares resource by resource and returns what differs, leaving out what `ignore.txt` names.
pub(crate) fn differences(case: &Path, ours: &BTreeMap<String, Value>) -> Vec<String> {
    let text = fs::read_to_string(case.join("ignore.txt")).unwrap_or_default();
    let ignored = ignored(&text);
    let is_ignored = |difference: &Difference| ignored.iter().any(|line| line.is_for(difference));
    let found = compared(case, ours).into_iter();
    found
        .filter(|difference| !is_ignored(difference))
        .map(|difference| difference.text)
        .collect()
}

/// The lines of `ignore.txt` by which nothing is left out: they say what is true no longer.
pub(crate) fn unused(case: &Path, ours: &BTreeMap<String, Value>) -> Vec<String> {
    let text = fs::read_to_string(case.join("ignore.txt")).unwrap_or_default();
    let found = compared(case, ours);
    let is_unused = |line: &Ignored<'_>| !found.iter().any(|difference| line.is_for(difference));
    let unused = ignored(&text).into_iter().filter(is_unused);
    unused.map(|line| format!("{} {}", line.name, line.field)).collect()
}

/// What differs between a recorded resource and ours.
struct Difference {
    name: String,
    /// None where only one of both has the resource.
    field: Option<String>,
    text: String,
}

/// A line of `ignore.txt`: which fields of which resources differ, and why that is well.
struct Ignored<'a> {
    name: &'a str,
    field: &'a str,
}

impl Ignored<'_> {
    fn is_for(&self, difference: &Difference) -> bool {
        let is_field = |field: &String| glob(self.field, field);
        glob(self.name, &difference.name) && difference.field.as_ref().is_some_and(is_field)
    }
}

fn ignored(text: &str) -> Vec<Ignored<'_>> {
    let lines = text.lines();
    let lines = lines.filter_map(|line| line.split('#').next()?.trim().split_once(' '));
    lines
        .map(|(name, field)| Ignored {
            name: name.trim(),
            field: field.trim(),
        })
        .collect()
}

fn compared(case: &Path, ours: &BTreeMap<String, Value>) -> Vec<Difference> {
    let theirs = expected(case);
    let mut found = Vec::new();
    for name in theirs.keys().chain(ours.keys().filter(|n| !theirs.contains_key(*n))) {
        let (Some(a), Some(b)) = (theirs.get(name), ours.get(name)) else {
            let side = if ours.contains_key(name) { "ours" } else { "theirs" };
            found.push(Difference {
                name: name.clone(),
                field: None,
                text: format!("{name}: only in {side}"),
            });
            continue;
        };
        let (a, b) = (fields(a), fields(b));
        for field in a.keys().chain(b.keys().filter(|f| !a.contains_key(*f))) {
            let (a, b) = (a.get(field), b.get(field));
            if a != b {
                found.push(Difference {
                    name: name.clone(),
                    field: Some(field.clone()),
                    text: format!("{name}: {field}: istiod {a:?}, ours {b:?}"),
                });
            }
        }
    }
    found
}

/// Fields by path below the one member `workload` or `service`; lists as sorted text, since their order means nothing.
fn fields(resource: &Value) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for (kind, inner) in resource.as_object().unwrap() {
        found.insert("type".to_owned(), kind.clone());
        flatten("", inner, &mut found);
    }
    found
}

fn flatten(path: &str, value: &Value, found: &mut BTreeMap<String, String>) {
    match value {
        Value::Object(members) => {
            for (key, value) in members {
                let path = if path.is_empty() {
                    key.clone()
                } else {
                    format!("{path}.{key}")
                };
                flatten(&path, value, found);
            }
        }
        other => drop(found.insert(path.to_owned(), sorted(other))),
    }
}

fn sorted(value: &Value) -> String {
    match value {
        Value::Array(items) => {
            let mut items: Vec<_> = items.iter().map(sorted).collect();
            items.sort();
            format!("[{}]", items.join(", "))
        }
        other => other.to_string(),
    }
}

pub(crate) fn glob(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((head, tail)) => text.strip_prefix(head).is_some_and(|rest| {
            (0..=rest.len())
                .filter(|i| rest.is_char_boundary(*i))
                .any(|i| glob(tail, &rest[i..]))
        }),
    }
}
