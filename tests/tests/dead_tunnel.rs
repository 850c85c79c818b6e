//! A tunnel that the network has forgotten is noticed when it is asked to carry something.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests fail as tests do"
)]
#![allow(clippy::disallowed_methods, reason = "a tunnel must have been silent for a while")]

use culvert_tests::{PATIENCE, Town, lab, probe, town::PORT};
use std::{process::Command, thread, time::Duration};

/// Local ports of the client's connections to the server's tunnel port.
fn tunnel_ports(town: &Town<'_>) -> Vec<String> {
    // As `198.18.2.10:15008` or `[::ffff:198.18.2.10]:15008`.
    let ip = town.server.ip4().to_string();
    let is_far = |field: &&str| field.contains(&ip) && field.ends_with(":15008");
    let mut list = Command::new("ss");
    list.args(["-Htn", "state", "established"]);
    let output = town.client.output(&mut list).unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let lines = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let tunnels = lines.filter(|fields| fields.iter().any(&is_far));
    let near = |fields: Vec<&str>| {
        fields
            .into_iter()
            .find(|field| field.contains(':') && !is_far(field))?
            .rsplit(':')
            .next()
            .map(ToOwned::to_owned)
    };
    tunnels.filter_map(near).collect()
}

#[test]
fn a_connection_over_a_tunnel_that_the_network_forgot_is_made_over_another() {
    let lab = lab("dt_drop");
    let town = Town::meshed(&lab);
    let to = (town.server.ip4(), PORT);
    probe::dial(&town.client, to, &[]).unwrap();
    let ports = tunnel_ports(&town);
    assert!(!ports.is_empty(), "no tunnel is open");
    // What a firewall does that has lost its state: packets of these connections vanish, others pass.
    let mut rules = "table ip f {\nchain x {\ntype filter hook forward priority 0;\n".to_owned();
    for port in &ports {
        rules += &format!("tcp sport {port} drop\ntcp dport {port} drop\n");
    }
    rules += "}\n}\n";
    let mut nft = Command::new("nft");
    let output = lab.node(1).output(nft.arg(rules)).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // A tunnel that has just been heard of is not doubted; this one is idle, as tunnels are that die unnoticed.
    thread::sleep(Duration::from_secs(2));
    // Another tunnel is dialled after about a second. The dead one alone would make them wait for twice ten, in vain.
    let mut stream = town.client.connect(to, PATIENCE).unwrap();
    drop(probe::dial(&town.client, to, &["--timeout", "20"]).unwrap());
    // The first connection works as well.
    use std::io::Write as _;
    stream.write_all(b"hello").unwrap();
    let now = tunnel_ports(&town);
    assert!(now.iter().any(|port| !ports.contains(port)), "{ports:?}, {now:?}");
}
