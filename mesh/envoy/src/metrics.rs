//! Culvert's own metadata of a filter chain ([`CULVERT`](crate::CULVERT)): what of the metrics of its requests is otherwise than Istio's, as
//! a JSON text of `{METRIC: {"disabled": bool, "tags": {TAG: EXPRESSION or null}}}`. Envoy counts none of these metrics, and reads no metadata of
//! a chain. A text, since fields of a `Struct` have no order, and the same objects are to come to the same bytes.

use crate::pb::envoy::config::core::v3::Metadata;
use crate::pb::google::protobuf::{Struct, Value, value::Kind};

/// The field with the text.
const FIELD: &str = "metrics";

/// Names of the metrics that waypoints count, as Istio's objects have them.
pub const METRICS: [&str; 6] = [
    "GRPC_REQUEST_MESSAGES",
    "GRPC_RESPONSE_MESSAGES",
    "REQUEST_COUNT",
    "REQUEST_DURATION",
    "REQUEST_SIZE",
    "RESPONSE_SIZE",
];

/// The metadata with this text.
pub fn to_metadata(overrides: String) -> Metadata {
    let value = Value {
        kind: Some(Kind::StringValue(overrides)),
    };
    let fields = [(FIELD.to_owned(), value)].into();
    Metadata {
        filter_metadata: [(crate::CULVERT.to_owned(), Struct { fields })].into(),
        ..Metadata::default()
    }
}

/// The text; none where there is none.
pub fn of(metadata: &Metadata) -> Option<&str> {
    match &metadata.filter_metadata.get(crate::CULVERT)?.fields.get(FIELD)?.kind {
        Some(Kind::StringValue(text)) => Some(text),
        _ => None,
    }
}
