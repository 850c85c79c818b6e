//! What the CNI plug-in reads: its configuration and arguments from a container runtime, lines from an agent, its state file.
#![no_main]

use culvert_cni::{
    caller::Pod,
    config::{Config, addresses},
    span::Json,
    state::State,
    wire::{Answer, Request},
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(config) = Config::parse(bytes)
        && let Some(previous) = config.previous
    {
        // What is passed through is a value of its own, and the one that a parser finds (which refuses 1e999).
        if let Ok(whole) = serde_json::from_slice::<serde_json::Value>(bytes) {
            let part: serde_json::Value = serde_json::from_str(previous.text()).expect("a value");
            assert_eq!(whole["prevResult"], part);
        }
        assert!(addresses(previous).len() <= bytes.len());
    }
    if let Ok(request) = Request::parse(bytes) {
        assert_eq!(
            Request::parse(request.line().as_bytes()).expect("our own line"),
            request
        );
    }
    if let Ok(answer) = Answer::parse(bytes) {
        assert_eq!(Answer::parse(answer.line().as_bytes()).expect("our own line"), answer);
    }
    if let Ok(state) = State::parse(bytes) {
        assert_eq!(State::parse(state.json().as_bytes()).expect("our own file"), state);
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Some(pod) = Pod::parse(text) {
        assert!(!pod.namespace.is_empty() && !pod.name.is_empty());
    }
    if let Ok(json) = Json::parse(text)
        && let Some(elements) = json.elements()
    {
        let Ok(whole) = serde_json::from_str::<Vec<serde_json::Value>>(text) else {
            return;
        };
        assert_eq!(elements.len(), whole.len());
        for (element, value) in elements.into_iter().zip(whole) {
            assert!(element.offset_in(text).is_some());
            assert_eq!(
                serde_json::from_str::<serde_json::Value>(element.text()).expect("a value"),
                value
            );
        }
    }
});
