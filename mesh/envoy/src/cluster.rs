//! Culvert's own metadata of a cluster ([`CULVERT`](crate::CULVERT)): what Envoy has no field for, and does not do; and how the
//! certificates are called that its TLS towards endpoints trusts.

use crate::pb::google::protobuf::{Struct, Value, value::Kind};

/// The file that stands for the certificates that the proxy's own system trusts: where Envoy's image has them. `culvert-waypoint` takes
/// those of its system, wherever they are, and no other file.
pub const SYSTEM_ROOTS: &str = "/etc/ssl/certs/ca-certificates.crt";

const BALANCER: &str = "load-balancer";
const PEAK_EWMA: &str = "peak-ewma";

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
