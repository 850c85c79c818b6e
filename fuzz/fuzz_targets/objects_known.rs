//! Any JSON as an object of the kinds that Culvert knows by name.
#![no_main]

use culvert_objects::{Kind, known};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fuzz_target!(|text: &str| {
    let Ok(object) = serde_json::from_str::<Value>(text) else {
        return;
    };
    for one in known::ALL {
        for (path, instead) in known::unserved_fields(one, &object) {
            assert!(!instead.is_empty(), "{path} is named without a reason");
        }
        let Some(kind) = Kind::named(one.title) else { continue };
        if let Ok(object) = kind.descriptor().read(object.clone()) {
            let name = object.name();
            assert!(!name.name.is_empty() && !name.name.contains('/') && !name.namespace.contains('/'));
            // Who restricts nobody binds nobody.
            assert!(object.binding().is_none() || one.restricts != known::Restricts::Never);
        }
    }
});
