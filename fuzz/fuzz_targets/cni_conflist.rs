//! CNI configurations of others, which the agent adds its plug-in to and takes it out of again.
#![no_main]

use culvert_agent::gate::install::conflist::{from_single, with_entry, without_entry};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

const ENTRY: &str = r#"{"agentSocket":"/s","stateFile":"/f","type":"culvert-cni"}"#;

fuzz_target!(|text: &str| {
    if let Ok(single) = from_single(text, ENTRY) {
        assert_eq!(with_entry(&single, ENTRY).expect("a list"), None);
    }
    let Ok(edited) = with_entry(text, ENTRY) else { return };
    let with = edited.as_deref().unwrap_or(text);
    assert_eq!(with_entry(with, ENTRY).expect("still a list"), None, "once is enough");
    let without = without_entry(with).expect("still a list").expect("it is in it");
    assert_eq!(without_entry(&without).expect("still a list"), None);
    // What was there before is there afterwards, to the byte, unless there was an entry of ours.
    if without_entry(text).expect("a list").is_none() {
        assert_eq!(without, text);
    }
    // A number out of range is JSON, and no value.
    let (Ok(with), Ok(without)) = (
        serde_json::from_str::<Value>(with),
        serde_json::from_str::<Value>(&without),
    ) else {
        return;
    };
    let count = |list: &Value| list["plugins"].as_array().map_or(0, Vec::len);
    assert_eq!(count(&with), count(&without) + 1);
});
