//! Answers of resolvers to the proxy's own questions about names of endpoints.
#![no_main]

use std::{net::SocketAddr, sync::Arc, time::Instant};

use culvert_dns::{Asking, Look, Names, Wanted};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|answers: Vec<(bool, Vec<u8>)>| {
    let (pod, host): (Arc<str>, Arc<str>) = ("pod".into(), "db.example.com".into());
    let asking = Asking {
        pod: &pod,
        host: &host,
        families: (true, true),
    };
    let wanted = Wanted { v4: true, tried: &[] };
    let resolvers = || vec![SocketAddr::from(([198, 18, 0, 1], 53))];
    let (mut names, now) = (Names::default(), Instant::now());
    assert_eq!(names.look(asking, wanted, resolvers, 1, now), Look::Wait);
    let queries = names.take_queries();
    for (v6, answer) in answers {
        let query = &queries[usize::from(v6)];
        names.answered(query.part, &answer, now);
        // As if it were one to the question: its header and question before what comes.
        let mut close = query.message.clone();
        close[2] |= 0x80;
        close[6..12].copy_from_slice(&[0, 3, 0, 0, 0, 0]);
        close.truncate(12 + "db.example.com".len() + 2 + 4);
        close.extend(&answer);
        names.answered(query.part, &close, now);
    }
    if let Look::Known(address) = names.look(asking, wanted, resolvers, 2, now) {
        assert!(!address.is_loopback() && !address.is_unspecified() && !address.is_multicast());
    }
});
