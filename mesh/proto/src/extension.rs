//! Extensions whose configuration is a text.

use prost::Message as _;
use prost_types::Any;

use crate::TEXT_TYPE;
use crate::workload::Extension;

/// An extension whose configuration is a `google.protobuf.StringValue`.
pub fn extension_of_text(name: &str, text: &str) -> Extension {
    Extension {
        name: name.to_owned(),
        config: Some(Any {
            type_url: TEXT_TYPE.to_owned(),
            // For prost, a text is the well-known type of it.
            value: text.to_owned().encode_to_vec(),
        }),
    }
}
