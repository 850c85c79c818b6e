//! Authorization policies as a controller may send them, well-formed or not, and what they then say about connections.
#![no_main]

use culvert_identity::SpiffeId;
use culvert_policy::{Connection, Policy, Verdict, evaluate};
use culvert_proto::security::Authorization;
use libfuzzer_sys::fuzz_target;
use prost::Message as _;

fuzz_target!(|bytes: &[u8]| {
    let Ok(wire) = Authorization::decode(bytes) else { return };
    let Ok(policy) = Policy::from_proto(&wire) else { return };
    let identity = SpiffeId::new("cluster.local", "shop", "web").expect("well-formed");
    for identity in [None, Some(&identity)] {
        let connection = Connection {
            identity,
            source: [198, 18, 0, 1].into(),
            destination: ([198, 18, 0, 2], 8080).into(),
        };
        let verdict = evaluate([&policy], &connection);
        // Alone, a policy decides by its match, and not at all when it is tried out or audits.
        let deny = policy.action() == culvert_policy::Action::Deny;
        let allowed = !policy.is_enforced() || policy.matches(&connection) != deny;
        assert_eq!(verdict == Verdict::Allow, allowed, "{policy:?}");
    }
});
