//! Any text to the reader of Kubernetes YAML and JSON.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    for json in [false, true] {
        let parsed = culvert_objects::parse(text, json);
        for document in parsed.documents {
            assert!(document.number > 0 && document.line > 0);
            // Names become parts of resource names and identities, where a slash would make them somebody else's.
            let name = document.object.name();
            assert!(!name.name.is_empty() && !name.name.contains('/') && !name.namespace.contains('/'));
        }
    }
});
