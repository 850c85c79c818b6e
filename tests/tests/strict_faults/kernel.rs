//! What the kernel holds for the mesh is taken away: pins, packets, descriptors.

use super::versions;
use culvert_lab::MeshOptions;
use culvert_tests::{
    echo, lab,
    strict_town::{ECHO, StrictTown},
};
use std::{
    fs, io,
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    process::Command,
    time::Duration,
};

#[test]
fn no_byte_is_in_clear_while_pins_are_removed_or_the_network_loses_the_tunnel() {
    let lab = lab("sf_pins");
    let mut strict = StrictTown::start(&lab, MeshOptions::default());
    for node in [1, 2] {
        strict.during(&format!("the pins of node {node} are removed"), |strict| {
            let links = versions(strict, node).remove(0);
            let pins: Vec<PathBuf> = fs::read_dir(links).unwrap().map(|pin| pin.unwrap().path()).collect();
            assert!(pins.len() > 2, "{pins:?}");
            pins.iter().for_each(|pin| fs::remove_file(pin).unwrap());
            strict.everybody_tries();
            strict.wait("the pins to be back", || pins.iter().all(|pin| pin.exists()));
        });
    }
    strict.during("the tunnel's packets are lost between the nodes", |strict| {
        let nft = |rules: &str| {
            let output = lab.node(1).output(Command::new("nft").arg(rules)).unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        };
        nft("table inet lost {\nchain x {\ntype filter hook forward priority 0;\noifname wire tcp dport 15008 drop\n}\n}");
        strict.everybody_tries();
        nft("delete table inet lost");
    });
}

#[test]
fn no_byte_is_in_clear_while_descriptors_run_out() {
    let lab = lab("sf_fd");
    let options = MeshOptions {
        ztunnel_descriptors: Some(300),
        ..MeshOptions::default()
    };
    let mut strict = StrictTown::start(&lab, options);
    strict.during("the proxies can open hardly anything more", |strict| {
        let to = SocketAddr::from((strict.town.server.ip4(), ECHO));
        let mut idle: Vec<TcpStream> = Vec::new();
        let refused = loop {
            match answered(strict, to) {
                Ok(stream) => idle.push(stream),
                Err(error) => break error,
            }
            assert!(idle.len() < 300, "the limit has no effect");
        };
        assert!(idle.len() > 50, "only {} connections: {refused}", idle.len());
        strict.everybody_tries();
    });
}

/// A connection of the client's that is answered soon.
fn answered(strict: &StrictTown<'_>, to: SocketAddr) -> io::Result<TcpStream> {
    echo::connect(&strict.town.client, to, Duration::from_secs(5))
}
