//! `baggage` and `forwarded`, as strangers write them.
#![no_main]

use culvert_hbone::{Baggage, Forwarded};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let baggage = Baggage::parse(text);
    let encoded = baggage.encode();
    assert!(encoded.bytes().all(|byte| byte.is_ascii_graphic()));
    assert_eq!(Baggage::parse(&encoded), baggage);
    let forwarded = Forwarded::parse(text);
    let encoded = forwarded.encode();
    assert!(encoded.bytes().all(|byte| byte.is_ascii_graphic()));
    assert_eq!(Forwarded::parse(&encoded).client, forwarded.client);
});
