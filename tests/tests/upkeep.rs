//! What outlives agents in the kernel: upgrades to another layout of the maps, what somebody removes, one pod's excess.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests fail as tests do"
)]

use culvert_lab::{Capture, MeshOptions, Pod, PodSpec, Seen, wait_until};
use culvert_tests::{PATIENCE, Town, accept, lab, probe, town::PORT};
use serde_json::{Value, json};
use socket2::Socket;
use std::{
    fs,
    io::{self, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr},
    os::fd::AsRawFd,
    path::PathBuf,
    process::Command,
};

/// What the agent of node 1 shows at `/pods`.
fn page(town: &Town<'_>) -> Value {
    let page = town.mesh.get(1, 15022, "/pods").map(|answer| answer.body);
    page.ok()
        .and_then(|body| serde_json::from_str(&body).ok())
        .unwrap_or_default()
}

/// A line of the metrics of node 1's agent, by its name and labels.
fn metric(town: &Town<'_>, start: &str) -> Option<f64> {
    metric_of(town, 1, start)
}

fn metric_of(town: &Town<'_>, node: u8, start: &str) -> Option<f64> {
    let metrics = town.mesh.get(node, 15022, "/metrics").ok()?.body;
    let line = metrics.lines().find(|line| line.starts_with(start))?;
    line.rsplit(' ').next()?.parse().ok()
}

/// The folders of pins on node 1, one for each version of the programs.
fn versions(town: &Town<'_>) -> Vec<PathBuf> {
    let entries = fs::read_dir(town.lab.node(1).bpffs()).unwrap().flatten();
    entries
        .map(|entry| entry.path())
        .filter(|path| path.join("links").exists())
        .collect()
}

#[track_caller]
fn wait(town: &Town<'_>, what: &str, mut is_so: impl FnMut(&Value) -> bool) {
    let mut last = Value::Null;
    let waited = wait_until(what, PATIENCE, || {
        last = page(town);
        is_so(&last)
    });
    waited.unwrap_or_else(|error| panic!("{error:#}: {last:#}\n{}", town.lab.logs(30)));
}

fn state(page: &Value, pod: &str) -> String {
    let pods = page["pods"].as_array().into_iter().flatten();
    let found = pods
        .filter(|found| found["name"] == pod)
        .find_map(|found| found["state"].as_str());
    found.unwrap_or_default().to_owned()
}

#[track_caller]
fn assert_nothing_in_plaintext(seen: &Seen) {
    assert!(seen.encrypted_bytes > 0, "nothing crossed the link");
    assert_eq!(seen.clear_bytes, 0, "{:?}", seen.clear_flows);
    assert!(seen.opened_in_clear.is_empty(), "{:?}", seen.opened_in_clear);
}

/// A proxy in its back-off, or one that starts with the agent, is stood for by one that is stopped.
#[test]
fn agents_with_other_sizes_of_maps_take_over_under_load_without_a_byte_in_plaintext() {
    let lab = lab("up_sizes");
    let mut town = Town::meshed(&lab);
    let to = (town.server.ip4(), PORT);
    let storm = probe::storm(&town.client, to);
    let hold = probe::hold(&town.client, to);
    let capture = Capture::start(lab.node(1).namespace(), "wire", &[]).unwrap();
    for (flows, reaches_pods_first) in [("32768", true), ("16384", false), ("65536", true)] {
        town.mesh.agent(1).unwrap().kill().unwrap();
        town.mesh.ztunnel(1).unwrap().signal(libc::SIGSTOP).unwrap();
        *town.mesh.agent_args() = vec!["--map-flows".into(), flows.into(), "--proxy-wait".into(), "1s".into()];
        town.mesh.start_agent(1).unwrap();
        town.mesh
            .wait_for_agent(1)
            .unwrap_or_else(|error| panic!("{error:#}\n{}", lab.logs(30)));
        if reaches_pods_first {
            // Captured without a proxy, as its time is up.
            town.wait_enrolled(true);
        }
        town.mesh.ztunnel(1).unwrap().signal(libc::SIGCONT).unwrap();
        town.wait_enrolled(true);
        wait(&town, "the earlier programs are gone", |page| {
            versions(&town).len() == 1 && page["problems"].as_array().is_some_and(Vec::is_empty)
        });
        probe::dial(&town.client, to, &[]).unwrap_or_else(|error| panic!("{error}\n{}", lab.logs(30)));
    }
    let seen = capture.take();
    storm.stop().assert_unharmed("new connections");
    hold.stop().assert_unharmed("open connections");
    assert_nothing_in_plaintext(&seen);
}

/// The agent is told of a pod whose network namespace cannot be opened for now: it may be one that is captured.
#[test]
fn earlier_programs_stay_while_a_wanted_pod_cannot_be_told_from_those_that_they_capture() {
    let lab = lab("up_unknown");
    let mut town = Town::meshed(&lab);
    let netns = town.neighbour.netns().name().to_owned();
    town.mesh.agent(1).unwrap().kill().unwrap();
    let hidden = format!("/proc/{}/ns/net", u32::MAX);
    town.lab.apply(&described(&town.neighbour, &hidden)).unwrap();
    *town.mesh.agent_args() = vec!["--map-flows".into(), "32768".into()];
    town.mesh.start_agent(1).unwrap();
    town.mesh
        .wait_for_agent(1)
        .unwrap_or_else(|error| panic!("{error:#}\n{}", lab.logs(30)));
    wait(&town, "the one is captured, the other is not", |page| {
        state(page, "client") == "captured" && state(page, "neighbour") == "failed"
    });
    wait(&town, "it says what it waits for", |page| {
        page["problems"].to_string().contains("town/neighbour")
    });
    assert_eq!(versions(&town).len(), 2, "both versions capture");
    wait(&town, "the metric says so", |_| {
        metric(&town, "culvert_agent_takeover_pending") == Some(1.0)
    });
    let neighbour = town.neighbour.clone();
    town.in_the_tunnel(|| probe::dial(&neighbour, (town.server.ip4(), PORT), &[]))
        .unwrap();
    town.lab.apply(&described(&neighbour, &netns)).unwrap();
    wait(&town, "the earlier programs go", |page| {
        state(page, "neighbour") == "captured" && versions(&town).len() == 1
    });
    town.assert_works();
}

/// As the lab describes a pod, with another name of its network namespace.
fn described(pod: &Pod, netns: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": pod.name(), "namespace": pod.namespace(), "labels": { "app": pod.name() },
            "annotations": { "culvert.dev/netns": netns },
        },
        "spec": {
            "nodeName": format!("node{}", pod.node()), "serviceAccountName": pod.name(),
            "containers": [{ "name": "app", "image": "culvert.dev/lab" }],
        },
        "status": {
            "phase": "Running", "podIP": pod.ip4().to_string(),
            "podIPs": pod.addresses().map(|ip| json!({ "ip": ip.to_string() })),
            "conditions": [{ "type": "Ready", "status": "True" }],
        },
    })
}

#[test]
fn pins_that_somebody_removes_are_brought_back_and_nothing_is_in_plaintext_meanwhile() {
    let lab = lab("up_pins");
    let town = Town::meshed(&lab);
    let storm = probe::storm(&town.client, (town.server.ip4(), PORT));
    let capture = Capture::start(lab.node(1).namespace(), "wire", &[]).unwrap();
    let links = versions(&town).remove(0).join("links");
    let pods: Vec<PathBuf> = fs::read_dir(&links)
        .unwrap()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("pod-"))
        .collect();
    assert_eq!(pods.len(), 2, "client and neighbour");
    let rounds = [vec![links.join("culvert_connect4")], pods];
    for pins in rounds {
        for pin in &pins {
            fs::remove_file(pin).unwrap();
        }
        probe::dial(&town.client, (town.server.ip4(), PORT), &[]).unwrap();
        wait(&town, "the pins are back", |_| pins.iter().all(|pin| pin.exists()));
    }
    storm.stop().assert_unharmed("new connections");
    assert_nothing_in_plaintext(&capture.take());
    wait(&town, "the page shows it", |page| {
        page["repairs"]["pin"].as_u64() >= Some(3) && page["last_repair"].to_string().contains("pod-")
    });
    wait(&town, "metrics and log show it", |_| {
        let log = fs::read_to_string(lab.dir().join("log/node1-agent.log")).unwrap();
        metric(&town, "culvert_agent_repairs_total{kind=\"pin\"}") >= Some(3.0)
            && log.contains("culvert_connect4")
            && log.contains("repaired")
    });
}

/// Of a pod's network namespace.
fn setting(pod: &Pod, name: &'static str) -> String {
    // At once: whoever comes back for the rest of such a file gets nothing.
    let read = move || {
        let mut text = [0; 4096];
        let mut file = fs::File::open(format!("/proc/sys/net/ipv4/{name}")).unwrap();
        let length = file.read(&mut text).unwrap();
        String::from_utf8_lossy(&text[..length]).trim().to_owned()
    };
    pod.run(read).unwrap()
}

#[test]
fn settings_of_a_pod_are_put_back_when_something_undoes_them_and_given_back_when_it_leaves() {
    let lab = lab("up_settings");
    let town = Town::unlabelled(&lab, MeshOptions::default());
    let names = ["tcp_tw_reuse", "tcp_no_metrics_save", "ip_local_reserved_ports"];
    let before = names.map(|name| setting(&town.client, name));
    town.join();
    let during = names.map(|name| setting(&town.client, name));
    assert_ne!(during, before);
    // All but the ports that tell of the other settings.
    let undo = || fs::write("/proc/sys/net/ipv4/ip_local_reserved_ports", "15003,15005\n").unwrap();
    town.client.run(undo).unwrap();
    wait(&town, "they are put back", |page| {
        page["repairs"]["sysctl"].as_u64() >= Some(1)
    });
    assert_eq!(names.map(|name| setting(&town.client, name)), during);
    town.leave();
    wait(&town, "they are given back", |_| {
        names.map(|name| setting(&town.client, name)) == before
    });
}

/// As on a node where no process stays as long as the pod does.
#[test]
fn a_pod_is_captured_on_when_the_process_ends_that_named_its_network_namespace() {
    let lab = lab("up_process");
    let town = Town::meshed(&lab);
    let mut sleeper = town.client.spawn("sleeper", Command::new("sleep").arg("1000")).unwrap();
    let netns = format!("/proc/{}/ns/net", sleeper.pid());
    let hold = probe::hold(&town.client, (town.server.ip4(), PORT));
    let log = || fs::read_to_string(lab.dir().join("log/node1-agent.log")).unwrap();
    let begun = log().len();
    lab.apply(&described(&town.client, &netns)).unwrap();
    let storm = probe::storm(&town.client, (town.server.ip4(), PORT));
    let capture = Capture::start(lab.node(1).namespace(), "wire", &[]).unwrap();
    // Any change that comes after that of the name: it has been read by then.
    lab.apply(&described(&town.neighbour, town.neighbour.netns().name()))
        .unwrap();
    wait_until("the agent has read it", PATIENCE, || {
        log()[begun..].contains("network namespace has another name")
    })
    .unwrap_or_else(|error| panic!("{error:#}\n{}", log()));
    sleeper.kill().unwrap();
    wait_until("the agent has noticed", PATIENCE, || {
        log()[begun..].matches("network namespace has another name").count() == 2
    })
    .unwrap_or_else(|error| panic!("{error:#}\n{}", log()));
    wait(&town, "the client is captured", |page| {
        state(page, "client") == "captured"
    });
    probe::dial(&town.client, (town.server.ip4(), PORT), &[]).unwrap();
    storm.stop().assert_unharmed("new connections");
    hold.stop().assert_unharmed("open connections");
    assert_nothing_in_plaintext(&capture.take());
    assert!(!log()[begun..].contains("leaves the mesh"), "{}", log());
}

/// A pool of connections, opened before the label came.
fn open_before(town: &Town<'_>) -> (std::net::TcpStream, std::net::TcpListener, std::net::TcpStream) {
    let listener = town.server.listen((Ipv4Addr::UNSPECIFIED, 9000)).unwrap();
    let client = town.client.connect((town.server.ip4(), 9000), PATIENCE).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    let (server, _) = accept(&listener);
    (client, listener, server)
}

fn before<'a>(page: &'a Value, pod: &str) -> &'a Value {
    let pods = page["pods"].as_array().map(Vec::as_slice).unwrap_or_default();
    let found = pods.iter().find(|found| found["name"] == pod);
    found.map_or(&Value::Null, |pod| &pod["open_before_capture"])
}

#[test]
fn connections_from_before_a_pod_joined_are_shown_until_they_end() {
    let lab = lab("up_before");
    let mut town = Town::unlabelled(&lab, MeshOptions::default());
    let (mut client, _listener, mut server) = open_before(&town);
    town.join();
    let to = format!("{}:9000", town.server.ip4());
    let is_shown = |page: &Value| {
        let shown = before(page, "client");
        let notices = page["notices"].to_string();
        shown["open"] == 1 && notices.contains(&to) && notices.contains("town/client")
    };
    wait(&town, "it is shown", is_shown);
    assert_eq!(page(&town)["problems"], json!([]));
    let labels = "culvert_agent_connections_before_capture{namespace=\"town\",pod=\"client\"}";
    wait(&town, "it is counted", |_| metric(&town, labels) == Some(1.0));
    // What is captured is not among them, also for the next agent.
    let hold = probe::hold(&town.client, (town.server.ip4(), PORT));
    town.mesh.restart_agent(1).unwrap();
    town.wait_enrolled(true);
    wait(&town, "the next agent shows it", is_shown);
    client.write_all(b"on").unwrap();
    let mut read = [0; 2];
    server.read_exact(&mut read).unwrap();
    hold.stop().assert_unharmed("open connections");
    drop((client, server));
    wait(&town, "it has ended", |page| {
        before(page, "client")["open"] == 0 && page["notices"] == json!([])
    });
}

#[test]
fn connections_from_before_a_pod_joined_are_closed_where_the_namespace_asks_for_it() {
    let lab = lab("up_close");
    let town = Town::unlabelled(&lab, MeshOptions::default());
    let (mut client, _listener, _server) = open_before(&town);
    lab.apply(&json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": {
            "name": "town",
            "labels": { "culvert.dev/mesh": "ambient" },
            "annotations": { "culvert.dev/close-open-connections": "true" },
        },
    }))
    .unwrap();
    town.wait_enrolled(true);
    let error = client.read(&mut [0]).expect_err("it was closed");
    let closed = [io::ErrorKind::ConnectionAborted, io::ErrorKind::ConnectionReset];
    assert!(closed.contains(&error.kind()), "{error}");
    // By the agent that was first: it has two ends.
    wait_until("one of the agents counts it", PATIENCE, || {
        let count = |node| metric_of(&town, node, "culvert_agent_connections_closed_total").unwrap_or_default();
        count(1) + count(2) >= 1.0
    })
    .unwrap_or_else(|error| panic!("{error:#}\n{}", lab.logs(30)));
    town.wait_in_the_tunnel(&town.server, PORT);
    let again = town.in_the_tunnel(|| probe::dial(&town.client, (town.server.ip4(), PORT), &[]));
    again.unwrap();
}

#[test]
fn a_pod_that_opens_more_than_its_share_of_connections_is_denied_alone_and_named() {
    let lab = lab("up_share");
    let mut town = Town::with(
        &lab,
        MeshOptions {
            agent_args: vec!["--map-flows".into(), "512".into()],
            ..MeshOptions::default()
        },
    );
    let greedy = lab.pod(PodSpec::new("greed", "greedy").on(1)).unwrap();
    lab.label("greed", Some("ambient")).unwrap();
    town.mesh.wait_enrolled(&[&greedy], true, PATIENCE).unwrap();
    let mut open = Vec::new();
    let mut denied = 0;
    for number in 0..600_u16 {
        let to = SocketAddr::from((
            Ipv4Addr::new(198, 18, 100 + (number / 250) as u8, (number % 250) as u8),
            80,
        ));
        let socket = greedy.tcp_socket(to).unwrap();
        socket.set_nonblocking(true).unwrap();
        never_answered(&socket);
        match socket.connect(&to.into()) {
            Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => open.push(socket),
            Ok(()) => open.push(socket),
            Err(_) => denied += 1,
        }
    }
    assert_eq!(
        (open.len(), denied),
        (64, 536),
        "an eighth of the map is one pod's share"
    );
    town.assert_works();
    let neighbour = town.neighbour.clone();
    probe::dial(&neighbour, (town.server.ip4(), PORT), &[]).unwrap();
    let labels = "{namespace=\"greed\",pod=\"greedy\"}";
    assert_eq!(metric(&town, &format!("culvert_agent_pod_flows{labels}")), Some(64.0));
    assert_eq!(
        metric(&town, &format!("culvert_agent_pod_flows_denied_total{labels}")),
        Some(536.0)
    );
    wait(&town, "the page names it", |page| {
        page["problems"].to_string().contains("greed/greedy")
    });
    town.mesh
        .agent(1)
        .unwrap()
        .wait_for_log("connect of pod greed/greedy to 198.18.100.64", PATIENCE)
        .unwrap();
    drop(open);
    greedy.connect((town.server.ip4(), PORT), PATIENCE).expect("room again");
}

/// `IP_MINTTL`, as no answer from the same machine has.
fn never_answered(socket: &Socket) {
    let (value, length) = (255, size_of::<libc::c_int>() as u32);
    // SAFETY: the option is an int.
    let result = unsafe {
        let value = std::ptr::from_ref::<libc::c_int>(&value).cast();
        libc::setsockopt(socket.as_raw_fd(), libc::IPPROTO_IP, libc::IP_MINTTL, value, length)
    };
    assert_eq!(result, 0, "{}", io::Error::last_os_error());
}
