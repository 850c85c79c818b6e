//! DNS messages of pods and of their resolvers, as far as whoever forwards them looks into them.
#![no_main]

use culvert_dns::forward::{Asked, Head, id, set_id};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|messages: (Vec<u8>, Vec<u8>)| {
    let (query, mut reply) = messages;
    let _ = (Asked(&query).to_string(), Asked(&query).kind());
    let Some(head) = Head::of(&query) else {
        assert!(query.len() < 12);
        return;
    };
    let is_answer = head.is_answered_by(&reply);
    // Under which identifier it comes makes no difference.
    let other = id(&reply).wrapping_add(1);
    set_id(&mut reply, other);
    assert_eq!(head.is_answered_by(&reply), is_answer);
    let failure = head.server_failure();
    assert!(failure.len() >= 12 && failure.len() <= query.len());
    assert_eq!(id(&failure), head.id());
    assert!(head.is_answered_by(&failure), "whoever asked takes it");
});
