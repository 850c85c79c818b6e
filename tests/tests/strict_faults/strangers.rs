//! Strangers send what no protocol allows.

use culvert_lab::MeshOptions;
use culvert_tests::{
    lab, probe,
    strict_town::{ECHO, StrictTown},
};
use std::{net::SocketAddr, time::Duration};

#[test]
fn no_byte_is_in_clear_while_garbage_comes_to_every_port() {
    let lab = lab("sf_garbage");
    let mut strict = StrictTown::start(&lab, MeshOptions::default());
    // What is sent to the proxies' ports is the stranger's own.
    let garbage = |strict: &StrictTown<'_>, ends: &[SocketAddr; 2]| {
        ends.iter().any(|end| strict.is_strangers(*end)) && ends.iter().any(|end| end.port() == 15008)
    };
    strict.during_but("garbage comes to every port", garbage, |strict| {
        let (client, server) = (&strict.town.client, &strict.town.server);
        for ip in server.addresses() {
            for port in [15001, 15006, ECHO] {
                let answer = strict.stranger.connect((ip, port), Duration::from_secs(1));
                assert!(answer.is_err(), "{ip}, {port}: {answer:?}");
            }
        }
        for (from, to) in [
            (&strict.stranger, SocketAddr::from((server.ip4(), 15008))),
            (&strict.stranger, (server.ip6(), 15008).into()),
            (client, (server.ip4(), ECHO).into()),
            // As a malicious application in the pod would.
            (client, (client.ip4(), 15001).into()),
            (client, (client.ip4(), 15006).into()),
            (client, (client.ip4(), 15008).into()),
        ] {
            let mut command = probe::command();
            command.args(["garbage", "--count", "16", "--to", &to.to_string()]);
            let output = from.output(&mut command).unwrap();
            let error = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{to}: {error}");
        }
        strict.everybody_tries();
    });
}
