//! The list of our own: made of the configuration in force, and following it.

use std::{
    fs, io,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink},
    time::Duration,
};

use tokio::sync::watch;

use super::*;
use crate::gate::install::folder::OWN;

#[test]
fn a_list_of_ours_comes_first_and_looking_again_writes_nothing() {
    let mut node = Node::new();
    node.write("10-kt.conflist", PTP);
    node.write("20-other.conflist", FLANNEL);
    node.write("00-readme.txt", "not a configuration");
    fs::set_permissions(node.path("10-kt.conflist"), fs::Permissions::from_mode(0o640)).expect("mode");
    let standing = node.look();
    assert_eq!(standing.configuration, Some(node.path(OWN)));
    assert_eq!(standing.original, Some(node.path("10-kt.conflist")));
    assert_eq!((standing.problem(), standing.problem.clone()), (None, None));
    assert_eq!(node.in_force(), OWN);
    assert_eq!(node.types(OWN), ["ptp", "portmap", "culvert-cni"]);
    assert_eq!(node.read("10-kt.conflist"), PTP, "the CNI's own file is the CNI's own");
    assert_eq!(node.read("20-other.conflist"), FLANNEL);
    let program = node.places.bin_dir.join("culvert-cni");
    assert_eq!(fs::read(&program).expect("program"), b"program");
    assert_eq!(
        fs::metadata(&program).expect("program").permissions().mode() & 0o7777,
        0o755
    );

    let before = fs::metadata(node.path(OWN)).expect("file");
    assert_eq!(
        before.permissions().mode() & 0o7777,
        0o640,
        "permissions are the original's"
    );
    assert_eq!(node.look(), standing);
    let after = fs::metadata(node.path(OWN)).expect("file");
    assert_eq!((before.ino(), before.ctime_nsec()), (after.ino(), after.ctime_nsec()));
    assert_eq!(
        node.names(),
        [OWN, "00-readme.txt", "10-kt.conflist", "20-other.conflist"],
        "no draft stays"
    );
}

/// Flannel, Calico, kindnet and Cilium write their file at each boot, before any agent runs.
#[test]
fn a_cni_that_writes_its_file_anew_leaves_the_gate_in_force_without_an_agent() {
    for (name, text) in [
        ("10-flannel.conflist", FLANNEL),
        ("10-calico.conflist", CALICO),
        ("05-cilium.conflist", CILIUM),
        ("10-kindnet.conflist", PTP),
        ("00-aaa.conflist", PTP),
        ("!first.conflist", PTP),
        ("10-net.conf", SINGLE),
    ] {
        let mut node = Node::new();
        node.write(name, text);
        node.look();
        // The node boots; nobody looks.
        fs::remove_file(node.path(name)).expect("delete");
        node.write(name, text);
        let in_force = node.in_force();
        assert_eq!(
            node.types(&in_force).last().expect("last"),
            "culvert-cni",
            "{name}: {in_force}"
        );
        assert!(node.look().is_installed());
        assert_eq!(node.names().len(), 2, "{name}: {:?}", node.names());
        remove(&node.places).expect("remove");
        assert_eq!(
            (node.names(), node.read(name)),
            (vec![name.to_owned()], text.to_owned())
        );
    }
}

#[test]
fn the_list_follows_the_configuration_that_would_be_in_force_without_it() {
    let mut node = Node::new();
    node.write("10-kt.conflist", PTP);
    node.look();
    node.write("10-kt.conflist", CALICO);
    node.look();
    assert_eq!(node.types(OWN), ["calico", "portmap", "bandwidth", "culvert-cni"]);
    // Another becomes the first.
    node.write("05-cilium.conflist", CILIUM);
    assert_eq!(node.look().original, Some(node.path("05-cilium.conflist")));
    assert_eq!(node.types(OWN), ["cilium-cni", "culvert-cni"]);
    // One that sorts before ours.
    node.write("00-aaa.conflist", PTP);
    assert_eq!(node.look().configuration, Some(node.path("00-aaa-culvert.conflist")));
    assert_eq!(node.in_force(), "00-aaa-culvert.conflist");
    assert!(!node.names().contains(&OWN.to_owned()), "one list is enough");
    for name in ["00-aaa.conflist", "05-cilium.conflist", "10-kt.conflist"] {
        fs::remove_file(node.path(name)).expect("delete");
    }
    assert!(!node.look().is_installed());
    assert_eq!(
        node.names(),
        [""; 0],
        "a list of a network that is gone would be in force"
    );

    // The program.
    node.write("10-kt.conflist", PTP);
    fs::remove_file(node.places.bin_dir.join("culvert-cni")).expect("delete");
    assert!(node.look().is_installed());
    assert!(node.places.bin_dir.join("culvert-cni").exists());
    fs::write(node.places.bin_dir.join("culvert-cni"), "programX").expect("write");
    node.look();
    assert_eq!(
        fs::read(node.places.bin_dir.join("culvert-cni")).expect("program"),
        b"program"
    );
    remove(&node.places).expect("remove");
    assert!(!node.places.bin_dir.join("culvert-cni").exists());
    remove(&node.places).expect("again");
}

#[test]
fn a_single_configuration_is_in_the_list_as_it_is() {
    let mut node = Node::new();
    node.write("10-net.conf", SINGLE);
    assert_eq!(node.look().configuration, Some(node.path(OWN)));
    assert_eq!(node.types(OWN), ["bridge", "culvert-cni"]);
    let text = node.read(OWN);
    assert!(
        text.contains("\"cniVersion\": \"0.4.0\"") && text.contains("\"name\": \"net\""),
        "{text}"
    );
    assert!(text.contains(SINGLE.trim()), "{text}");
    node.write("10-net.conf", &SINGLE.replace("1.0", "2.0"));
    node.look();
    assert!(node.read(OWN).contains("\"x\": 2.0"), "it follows the original");
}

#[test]
fn what_earlier_versions_wrote_is_taken_over_and_taken_away() {
    let mut node = Node::new();
    let entry = node.places.entry();
    let with = conflist::with_entry(FLANNEL, &entry).expect("a list").expect("edited");
    node.write("10-flannel.conflist", &with);
    node.write("20-net.conf", SINGLE);
    node.write(
        "20-net-culvert.conflist",
        &conflist::from_single(SINGLE, &entry).expect("a list"),
    );
    assert!(node.look().is_installed());
    assert_eq!(node.names(), [OWN, "10-flannel.conflist", "20-net.conf"]);
    assert_eq!(node.types(OWN), ["flannel", "portmap", "culvert-cni"]);
    assert_eq!(node.read("10-flannel.conflist"), FLANNEL, "to the byte");
    // Somebody makes his file of ours: that is not fought.
    node.write("10-flannel.conflist", &with);
    node.look();
    assert_eq!(node.read("10-flannel.conflist"), with);
    assert_eq!(node.types(OWN), ["flannel", "portmap", "culvert-cni"], "once is enough");
    remove(&node.places).expect("remove");
    assert_eq!(node.read("10-flannel.conflist"), FLANNEL);
}

/// Istio's and Linkerd's plug-ins chain themselves to the first file, which is ours.
#[test]
fn what_others_chain_to_our_list_stays_there() {
    let mut node = Node::new();
    node.write("10-calico.conflist", CALICO);
    node.look();
    let mut list: serde_json::Value = serde_json::from_str(&node.read(OWN)).expect("JSON");
    let plugins = list["plugins"].as_array_mut().expect("plugins");
    plugins.push(serde_json::json!({ "type": "istio-cni", "log_level": "info" }));
    node.write(OWN, &format!("{list:#}\n"));
    let before = node.read(OWN);
    assert!(node.look().is_installed());
    assert_eq!(node.read(OWN), before, "it says the same, so nothing is written");
    // It stays also when the original changes.
    node.write("10-calico.conflist", FLANNEL);
    node.look();
    assert_eq!(node.types(OWN), ["flannel", "portmap", "culvert-cni", "istio-cni"]);
    // When the original has it, ours has it once.
    let with_istio = FLANNEL.replace("\"plugins\": [", "\"plugins\": [\n    {\"type\": \"istio-cni\"},");
    node.write("10-calico.conflist", &with_istio);
    node.look();
    assert_eq!(node.types(OWN), ["istio-cni", "flannel", "portmap", "culvert-cni"]);
}

/// As a plug-in with a file of its own makes it: of the first file, with its own entry last.
#[test]
fn who_makes_a_file_of_the_first_file_comes_to_rest() {
    let mut node = Node::new();
    node.write("10-calico.conflist", CALICO);
    let mut sizes = Vec::new();
    for _ in 0..6 {
        node.look();
        let first = node.names().remove(0);
        let mut list: serde_json::Value = serde_json::from_str(&node.read(&first)).expect("JSON");
        let plugins = list["plugins"].as_array_mut().expect("plugins");
        plugins.retain(|plugin| plugin["type"] != "istio-cni");
        plugins.push(serde_json::json!({ "type": "istio-cni" }));
        node.write("02-istio-cni.conflist", &list.to_string());
        sizes.push(node.read("02-istio-cni.conflist").len());
    }
    node.look();
    assert_eq!(
        node.types(OWN),
        ["calico", "portmap", "bandwidth", "istio-cni", "culvert-cni"]
    );
    assert_eq!(sizes[2..], [sizes[2]; 4], "it does not grow");
}

#[test]
fn while_the_original_is_being_written_the_list_stays() {
    let mut node = Node::new();
    node.write("10-kt.conflist", PTP);
    node.write("20-other.conflist", FLANNEL);
    let before = node.look();
    for half in ["", "{\"name\": \"kt\", \"plugi"] {
        node.write("10-kt.conflist", half);
        let standing = node.look();
        assert_eq!(standing.configuration, before.configuration);
        assert!(standing.problem.expect("told").contains("10-kt.conflist"));
        assert_eq!(node.types(OWN), ["ptp", "portmap", "culvert-cni"]);
    }
    node.write("10-kt.conflist", CALICO);
    assert_eq!(node.look(), before);
    assert_eq!(node.types(OWN), ["calico", "portmap", "bandwidth", "culvert-cni"]);
}

#[test]
fn what_is_missing_or_malformed_is_said() {
    let mut node = Node::new();
    let problem = node.look().problem().expect("a problem");
    assert!(problem.contains("waiting for the node's CNI"), "{problem}");

    node.write("05-bad.conflist", "{\"name\": ");
    let problem = node.look().problem().expect("a problem");
    assert!(
        problem.contains("05-bad.conflist") && problem.contains("not JSON"),
        "{problem}"
    );
    assert_eq!(node.read("05-bad.conflist"), "{\"name\": ", "it is left alone");

    node.write("10-kt.conflist", PTP);
    let standing = node.look();
    assert!(standing.is_installed() && standing.problem().is_none());
    assert!(
        standing
            .problem
            .expect("told all the same")
            .contains("containerd stops at it")
    );

    fs::remove_file(&node.places.plugin).expect("delete");
    let problem = node.look().problem().expect("a problem");
    assert!(problem.contains("cannot find the CNI plug-in's program"), "{problem}");

    node.places.conf_dir = "/nowhere".into();
    fs::write(&node.places.plugin, "program").expect("write");
    assert!(node.look().problem().expect("a problem").contains("/nowhere"));
    remove(&node.places).expect("nothing there is nothing to remove");
}

#[test]
fn a_runtime_that_takes_a_network_by_name_gets_the_gate_in_that_one() {
    let mut node = Node::new();
    node.places.network = Some("k8s-pod-network".to_owned());
    node.write("05-kt.conflist", PTP);
    node.write("10-calico.conflist", CALICO);
    let standing = node.look();
    assert_eq!(standing.original, Some(node.path("10-calico.conflist")));
    assert_eq!(conflist::network(&node.read(OWN)).as_deref(), Some("k8s-pod-network"));
    fs::remove_file(node.path("10-calico.conflist")).expect("delete");
    let problem = node.look().problem().expect("a problem");
    assert!(problem.contains("--cni-network"), "{problem}");
}

#[test]
fn a_symbolic_link_is_followed_also_out_of_what_is_mounted() {
    let mut node = Node::new();
    fs::create_dir(node.path("real")).expect("folder");
    node.write("real/list", PTP);
    symlink("real/list", node.path("10-kt.conflist")).expect("link");
    symlink("nowhere", node.path("20-gone.conflist")).expect("link");
    assert!(node.look().is_installed());
    assert_eq!(node.types(OWN), ["ptp", "portmap", "culvert-cni"]);
    remove(&node.places).expect("remove");
    assert_eq!(node.read("real/list"), PTP);

    // NixOS: the file is in a store that is not mounted here.
    let mut node = Node::new();
    let store = node.places.host_root.join("nix/store/1-cni");
    fs::create_dir_all(&store).expect("folder");
    fs::write(store.join("10.conflist"), CALICO).expect("write");
    symlink("/nix/store/1-cni/10.conflist", node.path("10-nix.conflist")).expect("link");
    let standing = node.look();
    assert!(standing.is_installed() && standing.problem.is_none(), "{standing:?}");
    assert_eq!(node.types(OWN), ["calico", "portmap", "bandwidth", "culvert-cni"]);
}

#[test]
fn cilium_in_its_exclusive_mode_is_recognised_and_not_fought() {
    let mut node = Node::new();
    node.write("05-cilium.conflist", CILIUM);
    let mut writes = 0;
    let mut last = Standing::default();
    for _ in 0..1000 {
        last = node.look();
        let own = node.path(OWN);
        if own.exists() {
            writes += 1;
            // What Cilium does when it sees another configuration.
            fs::rename(&own, node.path(&format!("{OWN}.cilium_bak"))).expect("rename");
        }
        node.now += Duration::from_millis(20);
    }
    assert!(writes < 10, "{writes} writes in 20 s");
    let problem = last.problem().expect("it is said");
    assert!(problem.contains("cni.exclusive=false"), "{problem}");
    assert_eq!(
        node.read("05-cilium.conflist"),
        CILIUM,
        "Cilium's own file is left alone"
    );

    // The setting is changed.
    node.now += Duration::from_secs(3600);
    assert!(node.look().is_installed());
    node.now += Duration::from_secs(3600);
    assert!(node.look().is_installed());
    remove(&node.places).expect("remove");
    assert_eq!(node.names(), ["05-cilium.conflist"], "also what was put aside");
}

#[test]
fn a_file_that_was_put_aside_with_the_entry_of_an_earlier_version_loses_it() {
    let node = Node::new();
    let entry = node.places.entry();
    node.write("05-cilium.conflist", CILIUM);
    let with = conflist::with_entry(CALICO, &entry).expect("a list").expect("edited");
    node.write("10-calico.conflist.cilium_bak", &with);
    remove(&node.places).expect("remove");
    assert_eq!(node.read("10-calico.conflist.cilium_bak"), CALICO);
}

#[test]
fn what_somebody_else_writes_meanwhile_stays() {
    let node = Node::new();
    node.write("10-kt.conflist", CALICO);
    let path = node.path("10-kt.conflist");
    let error = files::exchange(&path, PTP.as_bytes(), b"ours").expect_err("not what was read");
    assert_eq!(error.kind(), io::ErrorKind::Interrupted);
    assert_eq!(node.read("10-kt.conflist"), CALICO);
    assert_eq!(node.names(), ["10-kt.conflist"]);
}

#[test]
fn the_keeper_notices_what_changes() {
    let node = Node::new();
    let standing = watch::Sender::new(Standing::default());
    let shown = standing.subscribe();
    keep(node.places.clone(), standing, watch::channel(false).1);
    let until = |what: &str, is_so: &dyn Fn() -> bool| {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !is_so() {
            assert!(Instant::now() < deadline, "waited in vain until {what}");
            std::thread::yield_now();
        }
    };
    let own = || fs::read_to_string(node.path(OWN)).unwrap_or_default();
    until("it waits for a configuration", &|| shown.borrow().problem.is_some());
    node.write(".draft", PTP);
    fs::rename(node.path(".draft"), node.path("10-kt.conflist")).expect("rename");
    until("the list has it", &|| shown.borrow().is_installed());
    node.write(".draft", CALICO);
    fs::rename(node.path(".draft"), node.path("10-kt.conflist")).expect("rename");
    until("it follows", &|| {
        own().contains("calico") && own().contains("culvert-cni")
    });
    fs::remove_file(node.path(OWN)).expect("delete");
    until("it is back", &|| own().contains("culvert-cni"));
    fs::remove_file(node.places.bin_dir.join("culvert-cni")).expect("delete");
    until("the program is back", &|| {
        node.places.bin_dir.join("culvert-cni").exists()
    });
}
