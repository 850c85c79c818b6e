//! Culvert's own metadata of a cluster ([`CULVERT`](crate::CULVERT)): what Envoy has no field for, and does not do; and how the
//! certificates are called that its TLS towards endpoints trusts.

use crate::pb::google::protobuf::{ListValue, Struct, Value, value::Kind};

/// The file that stands for the certificates that the proxy's own system trusts: where Envoy's image has them. `culvert-waypoint` takes
/// those of its system, wherever they are, and no other file.
pub const SYSTEM_ROOTS: &str = "/etc/ssl/certs/ca-certificates.crt";

const BALANCER: &str = "load-balancer";
const PEAK_EWMA: &str = "peak-ewma";
const MESH_RANGES: &str = "mesh-ranges";

/// Metadata that asks for peak EWMA, in the place of the number of requests alone.
pub fn peak_ewma() -> Struct {
    let value = Value {
        kind: Some(Kind::StringValue(PEAK_EWMA.to_owned())),
    };
    Struct {
        fields: [(BALANCER.to_owned(), value)].into_iter().collect(),
    }
}

/// Whether metadata asks for it.
pub fn wants_peak_ewma(metadata: &Struct) -> bool {
    let asked = metadata.fields.get(BALANCER).and_then(|value| value.kind.as_ref());
    matches!(asked, Some(Kind::StringValue(text)) if text == PEAK_EWMA)
}

/// Says in metadata which ranges, as `ADDRESS/LENGTH`, are the mesh's own: nothing is reached there in clear, whatever a name leads to and a
/// client dials.
pub fn put_mesh_ranges(metadata: &mut Struct, ranges: impl Iterator<Item = String>) {
    let text = |text| Value {
        kind: Some(Kind::StringValue(text)),
    };
    let values: Vec<Value> = ranges.map(text).collect();
    if !values.is_empty() {
        let list = Value {
            kind: Some(Kind::ListValue(ListValue { values })),
        };
        metadata.fields.insert(MESH_RANGES.to_owned(), list);
    }
}

/// These ranges, as they are written. What is no text is an empty one, which is no range.
pub fn mesh_ranges(metadata: &Struct) -> Vec<String> {
    let Some(Kind::ListValue(list)) = metadata.fields.get(MESH_RANGES).and_then(|value| value.kind.as_ref()) else {
        return Vec::new();
    };
    let text = |value: &Value| match &value.kind {
        Some(Kind::StringValue(text)) => text.clone(),
        _ => String::new(),
    };
    list.values.iter().map(text).collect()
}
