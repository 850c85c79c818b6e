//! In strict mode nobody reads a byte of what pods say, whatever fails: each fault that the other tests cause, seen by a tap on the link
//! between the nodes and one in each pod.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests fail as tests do"
)]

use culvert_lab::MeshOptions;
use culvert_tests::{
    PATIENCE,
    authority::Authority,
    lab, probe,
    strict_town::{ECHO, StrictTown},
    town::PORT,
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    process::Command,
    time::Duration,
};

fn signal(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
}

fn start_ztunnel(strict: &mut StrictTown<'_>, node: u8) {
    strict.town.mesh.start_ztunnel(node).unwrap();
    strict.town.mesh.wait_for_ztunnel(node).unwrap();
}

fn start_agent(strict: &mut StrictTown<'_>, node: u8) {
    strict.town.mesh.start_agent(node).unwrap();
    strict.town.mesh.wait_for_agent(node).unwrap();
}

#[test]
fn no_byte_is_in_clear_while_a_proxy_is_killed_replaced_or_hangs() {
    let lab = lab("sf_proxy");
    let mut strict = StrictTown::start(&lab, MeshOptions::default());
    // Whose proxy it is: the client's, and the server's.
    for node in [1, 2] {
        strict.during(&format!("the worker of node {node} is killed"), |strict| {
            strict.town.mesh.kill_worker(node).unwrap();
            strict.everybody_tries();
        });
        strict.during(&format!("the proxy of node {node} is killed"), |strict| {
            strict.town.mesh.ztunnel(node).unwrap().kill().unwrap();
            strict.everybody_tries();
            start_ztunnel(strict, node);
        });
        strict.during(&format!("the proxy of node {node} hangs"), |strict| {
            let both = [
                strict.town.mesh.ztunnel(node).unwrap().pid(),
                strict.town.mesh.worker_pid(node).unwrap(),
            ];
            both.iter().for_each(|pid| signal(*pid, Signal::STOP));
            strict.everybody_tries();
            both.iter().rev().for_each(|pid| signal(*pid, Signal::CONT));
        });
        strict.during(
            &format!("the proxy of node {node} drains, and another begins"),
            |strict| {
                strict.town.mesh.ztunnel(node).unwrap().signal(libc::SIGTERM).unwrap();
                strict.everybody_tries();
                start_ztunnel(strict, node);
            },
        );
    }
}

#[test]
fn no_byte_is_in_clear_while_an_agent_is_killed_or_upgraded_with_or_without_its_proxy() {
    let lab = lab("sf_agent");
    let mut strict = StrictTown::start(&lab, MeshOptions::default());
    for node in [1, 2] {
        strict.during(&format!("the agent of node {node} is killed"), |strict| {
            strict.town.mesh.agent(node).unwrap().kill().unwrap();
            strict.everybody_tries();
            start_agent(strict, node);
        });
        strict.during(&format!("agent and proxy of node {node} are killed"), |strict| {
            strict.town.mesh.agent(node).unwrap().kill().unwrap();
            strict.town.mesh.ztunnel(node).unwrap().kill().unwrap();
            strict.everybody_tries();
            start_agent(strict, node);
            strict.everybody_tries();
            start_ztunnel(strict, node);
        });
        // Another layout of the maps: programs of both versions are attached until each pod has changed over.
        strict.during(
            &format!("the agent of node {node} is upgraded while its proxy hangs"),
            |strict| {
                strict.town.mesh.agent(node).unwrap().kill().unwrap();
                strict.town.mesh.ztunnel(node).unwrap().signal(libc::SIGSTOP).unwrap();
                *strict.town.mesh.agent_args() =
                    vec!["--map-flows".into(), "32768".into(), "--proxy-wait".into(), "1s".into()];
                start_agent(strict, node);
                strict.everybody_tries();
                strict.town.mesh.ztunnel(node).unwrap().signal(libc::SIGCONT).unwrap();
                strict.town.wait_enrolled(true);
                let is_one = || versions(strict, node).len() == 1;
                strict.wait("the earlier programs are gone", is_one);
            },
        );
    }
}

/// The folders of pins on a node, one for each version of the programs.
fn versions(strict: &StrictTown<'_>, node: u8) -> Vec<PathBuf> {
    let entries = fs::read_dir(strict.town.lab.node(node).bpffs()).unwrap().flatten();
    let links = entries.map(|entry| entry.path().join("links"));
    links.filter(|links| links.exists()).collect()
}

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
        nft("table inet lost { chain forward { type filter hook forward priority 0; oifname wire tcp dport 15008 drop; } }");
        strict.everybody_tries();
        nft("delete table inet lost");
    });
}

#[test]
fn no_byte_is_in_clear_while_the_controller_is_away_and_a_proxy_knows_nothing() {
    let lab = lab("sf_ctl");
    let mut strict = StrictTown::start(&lab, MeshOptions::default());
    strict.during("the controller is away", |strict| {
        strict.town.mesh.controller().unwrap().kill().unwrap();
        strict.everybody_is_answered();
        for node in [1, 2] {
            // The next one has nobody to learn from.
            strict.town.mesh.ztunnel(node).unwrap().kill().unwrap();
            strict.town.mesh.start_ztunnel(node).unwrap();
            strict.everybody_tries();
            strict.town.mesh.restart_agent(node).unwrap();
            strict.everybody_tries();
        }
        strict.town.mesh.start_controller().unwrap();
    });
}

#[test]
fn no_byte_is_in_clear_when_certificates_have_ended() {
    let lab = lab("sf_ended");
    let options = MeshOptions {
        controller_args: ["--leaf-ttl", "20s"].map(str::to_owned).into(),
        ztunnel_args: ["--tunnel-grace", "1s"].map(str::to_owned).into(),
        ..MeshOptions::default()
    };
    let mut strict = StrictTown::start(&lab, options);
    strict.during("no certificate is valid any more", |strict| {
        strict.town.mesh.controller().unwrap().kill().unwrap();
        strict.nobody_is_answered();
        strict.everybody_tries();
        strict.town.mesh.start_controller().unwrap();
    });
}

#[test]
fn no_byte_is_in_clear_when_a_certificate_is_revoked() {
    let lab = lab("sf_crl");
    let list = lab.dir().join("ca-crl.pem");
    let options = MeshOptions {
        controller_args: vec!["--ca-crl".into(), list.display().to_string()],
        ztunnel_args: ["--tunnel-grace", "1s"].map(str::to_owned).into(),
        ..MeshOptions::default()
    };
    let mut strict = StrictTown::start(&lab, options);
    strict.during("every pod's certificate is revoked", |strict| {
        let serials: Vec<String> = [1, 2].into_iter().flat_map(|node| serials(strict, node)).collect();
        let serials: Vec<&str> = serials.iter().map(String::as_str).collect();
        let authority = Authority::of(&lab);
        fs::write(&list, authority.revoke(&serials)).unwrap();
        strict.nobody_is_answered();
        fs::write(&list, authority.revoke(&[])).unwrap();
    });
}

/// The serial numbers of the certificates of a node's proxy.
fn serials(strict: &StrictTown<'_>, node: u8) -> Vec<String> {
    let page = strict.town.mesh.get(node, 15000, "/certificates").unwrap().body;
    let page: Value = serde_json::from_str(&page).unwrap();
    let all = page["certificates"].as_array().unwrap().iter();
    all.filter_map(|one| Some(one["serial"].as_str()?.to_owned())).collect()
}

#[test]
fn no_byte_is_in_clear_while_policies_change_or_break() {
    let lab = lab("sf_policy");
    let mut strict = StrictTown::start(&lab, MeshOptions::default());
    let mode = |mode: &str| json!({ "mtls": { "mode": mode } });
    lab.namespace("istio-system").unwrap();
    strict.during(
        "what makes pods strict changes from the namespace to the mesh and back",
        |strict| {
            strict.apply("istio-system", "everywhere", mode("STRICT"));
            is_known(strict, "everywhere");
            for _ in 0..3 {
                lab.delete("PeerAuthentication", "town", "default").unwrap();
                strict.everybody_tries();
                strict.apply("town", "default", mode("STRICT"));
                strict.everybody_tries();
            }
            lab.delete("PeerAuthentication", "istio-system", "everywhere").unwrap();
        },
    );
    strict.during("another port becomes an exception", |strict| {
        let other = json!({ "selector": { "matchLabels": { "app": "server" } }, "portLevelMtls": { PORT.to_string(): { "mode": "DISABLE" } } });
        strict.apply("town", "one", other);
        let reaches = || strict.stranger.connect((strict.town.server.ip4(), PORT), Duration::from_secs(1)).is_ok();
        strict.wait("it to be one", reaches);
        strict.everybody_tries();
        lab.delete("PeerAuthentication", "town", "one").unwrap();
        strict.wait_guarded();
    });
    strict.during("the policy's file is broken", |strict| {
        lab.write_config(
            "peerauthentication-town-default.yaml",
            "kind: PeerAuthentication\nspec: [",
        )
        .unwrap();
        let is_found = || {
            let findings = strict.town.mesh.get_controller("/findings").unwrap().body;
            findings.contains("peerauthentication-town-default.yaml")
        };
        strict.wait("the finding", is_found);
        strict.everybody_tries();
        strict.apply("town", "default", mode("STRICT"));
    });
    strict.during("all is denied, and allowed again", |strict| {
        let denied = json!({
            "apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
            "metadata": { "name": "nobody", "namespace": "town" }, "spec": {},
        });
        lab.apply(&denied).unwrap();
        strict.nobody_is_answered();
        lab.delete("AuthorizationPolicy", "town", "nobody").unwrap();
    });
    // What strangers say, when they are let in, is seen by the taps, and what pods of the mesh say is not even then.
    let strangers = |strict: &StrictTown<'_>, ends: &[SocketAddr; 2]| ends.iter().any(|end| strict.is_strangers(*end));
    strict.during_but("strict mode is given up and comes back", strangers, |strict| {
        strict.apply("town", "default", mode("PERMISSIVE"));
        strict.strangers_are_answered();
        strict.apply("town", "default", mode("STRICT"));
        strict.wait_guarded();
        strict.strangers_are_not_answered();
    });
    strict.during("nothing but the strict mode that has come back", |strict| {
        strict.everybody_tries()
    });
}

/// Waits until both proxies know a policy by its name.
fn is_known(strict: &StrictTown<'_>, name: &str) {
    for node in [1, 2] {
        let knows = || {
            let dump = strict
                .town
                .mesh
                .get(node, 15000, "/config_dump")
                .map(|answer| answer.body);
            dump.is_ok_and(|dump| dump.contains(name))
        };
        strict.wait("the proxy to know the policy", knows);
    }
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
        while let Some(stream) = answered(strict, to) {
            idle.push(stream);
            assert!(idle.len() < 300, "the limit has no effect");
        }
        assert!(idle.len() > 50, "only {} connections", idle.len());
        strict.everybody_tries();
    });
}

/// A connection of the client's that is answered soon.
fn answered(strict: &StrictTown<'_>, to: SocketAddr) -> Option<TcpStream> {
    let mut stream = strict.town.client.connect(to, PATIENCE).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    stream.write_all(b"?").ok()?;
    stream.read_exact(&mut [0]).ok()?;
    Some(stream)
}

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
