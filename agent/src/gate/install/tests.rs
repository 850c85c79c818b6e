use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use tokio::sync::watch;

use super::*;

const FLANNEL: &str = r#"{
  "name": "cbr0",
  "cniVersion": "0.3.1",
  "plugins": [
    {
      "type": "flannel",
      "delegate": {
        "hairpinMode": true,
        "isDefaultGateway": true
      }
    },
    {
      "type": "portmap",
      "capabilities": {
        "portMappings": true
      }
    }
  ]
}
"#;

const CALICO: &str = r#"{
  "name": "k8s-pod-network",
  "cniVersion": "0.3.1",
  "plugins": [
    {"type": "calico", "log_level": "info", "log_file_path": "/var/log/calico/cni/cni.log", "datastore_type": "kubernetes",
     "nodename": "node-1", "mtu": 0, "ipam": {"type": "calico-ipam"}, "policy": {"type": "k8s"},
     "kubernetes": {"kubeconfig": "/etc/cni/net.d/calico-kubeconfig"}},
    {"type": "portmap", "snat": true, "capabilities": {"portMappings": true}},
    {"type": "bandwidth", "capabilities": {"bandwidth": true}}
  ]
}"#;

const CILIUM: &str = "\n{\n  \"cniVersion\": \"0.3.1\",\n  \"name\": \"cilium\",\n  \"plugins\": [\n    {\n       \"type\": \"cilium-cni\",\n       \
     \"enable-debug\": false,\n       \"log-file\": \"/var/run/cilium/cilium-cni.log\"\n    }\n  ]\n}\n";

const PTP: &str = r#"{"cniVersion":"1.0.0","name":"kt","plugins":[
 {"type":"ptp","ipMasq":false,"mtu":1500,"ipam":{"type":"host-local","ranges":[[{"subnet":"198.19.1.0/24"}]],"routes":[{"dst":"0.0.0.0/0"}]}},
 {"type":"portmap","capabilities":{"portMappings":true}}]}
"#;

/// Keys that nobody knows, numbers written oddly, a key twice, and the word inside a text.
const ODD: &str = "{\"x-note\":\"\\\"plugins\\\": [{\\\"type\\\": \\\"culvert-cni\\\"}]\",\"n\":1.50e0,\"plugins\":[],\t\"plugins\" : [ {\"type\":\"a\",\"z\":1,\"a\":2} ] ,\"disableCheck\":true}";

const SINGLE: &str =
    "{\n\t\"cniVersion\": \"0.4.0\",\n\t\"name\": \"net\",\n\t\"type\": \"bridge\",\n\t\"x\": 1.0\n}\n";

/// The folders of a node.
struct Node {
    _folder: tempfile::TempDir,
    places: Places,
    memory: Memory,
}

impl Node {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("folder");
        let at = |name: &str| folder.path().join(name);
        for name in ["bin", "net.d"] {
            fs::create_dir(at(name)).expect("folder");
        }
        fs::write(at("plugin"), "program").expect("program");
        let places = Places {
            bin_dir: at("bin"),
            conf_dir: at("net.d"),
            plugin: at("plugin"),
            socket: "/run/culvert/cni.sock".into(),
            state: at("state.json"),
        };
        Self {
            places,
            memory: Memory::default(),
            _folder: folder,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.places.conf_dir.join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).expect("write");
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).expect("read")
    }

    fn look(&mut self) -> Standing {
        look(&self.places, &mut self.memory)
    }

    fn names(&self) -> Vec<String> {
        let name = |path: &PathBuf| path.file_name().expect("name").to_string_lossy().into_owned();
        let mut names: Vec<String> = fs::read_dir(&self.places.conf_dir)
            .expect("list")
            .map(|entry| name(&entry.expect("entry").path()))
            .collect();
        names.sort();
        names
    }

    /// The types of a list's plug-ins.
    fn types(&self, name: &str) -> Vec<String> {
        let list: serde_json::Value = serde_json::from_str(&self.read(name)).expect("JSON");
        let plugins = list["plugins"].as_array().expect("plugins");
        plugins
            .iter()
            .map(|plugin| plugin["type"].as_str().expect("type").to_owned())
            .collect()
    }
}

#[test]
fn the_entry_comes_last_and_its_removal_restores_every_byte() {
    let entry = conflist::entry(
        Path::new("/run/culvert/cni.sock"),
        Path::new("/var/lib/culvert/cni-state.json"),
    );
    let windows = FLANNEL.replace('\n', "\r\n");
    for text in [FLANNEL, CALICO, CILIUM, PTP, ODD, &windows] {
        let with = conflist::with_entry(text, &entry).expect("a list").expect("edited");
        assert_eq!(
            conflist::with_entry(&with, &entry).expect("a list"),
            None,
            "once is enough"
        );
        assert_eq!(conflist::without_entry(&with).expect("a list").as_deref(), Some(text));
        assert_eq!(conflist::without_entry(text).expect("a list"), None);
        let list: serde_json::Value = serde_json::from_str(&with).expect("JSON");
        let plugins = list["plugins"].as_array().expect("plugins");
        assert_eq!(plugins.last().expect("last")["type"], "culvert-cni");
        // Nothing but the entry and what separates it has come in.
        let added = with.len() - text.len() - entry.len();
        assert!((1..12).contains(&added), "{with}");
    }
    let with = conflist::with_entry(&windows, &entry).expect("a list").expect("edited");
    assert!(with.contains(",\r\n    {\"agentSocket\""), "{with}");
}

#[test]
fn an_entry_is_corrected_where_it_is_old_or_first_or_there_twice_and_else_left() {
    let entry = conflist::entry(Path::new("/s"), Path::new("/f"));
    let list = |plugins: &str| format!("{{\"name\":\"n\",\"plugins\":[{plugins}]}}");
    let right = list(&format!("{{\"type\":\"a\"}},{entry}"));
    for wrong in [
        "{\"type\":\"a\"},{\"type\":\"culvert-cni\"}".to_owned(),
        format!("{entry},{{\"type\":\"a\"}}"),
        format!("{entry} , {{\"type\":\"a\"}},{entry},\n{entry}"),
    ] {
        let edited = conflist::with_entry(&list(&wrong), &entry).expect("a list");
        assert_eq!(edited.as_deref(), Some(right.as_str()), "{wrong}");
    }
    // Somebody else chained itself behind, or printed the file anew.
    let rewritten = "{\"type\": \"culvert-cni\", \"stateFile\": \"/f\", \"agentSocket\": \"/s\"}";
    for fine in [
        format!("{{\"type\":\"a\"}},{entry},{{\"type\":\"b\"}}"),
        format!("{{\"type\":\"a\"}},{rewritten}"),
    ] {
        assert_eq!(
            conflist::with_entry(&list(&fine), &entry).expect("a list"),
            None,
            "{fine}"
        );
    }
}

#[test]
fn what_is_no_configuration_is_refused() {
    for text in [
        "",
        "{",
        "[]",
        "{}",
        "{\"plugins\":{}}",
        "{\"plugins\":[]}",
        "{\"plugins\":[{\"name\":\"x\"}]}",
        "{\"plugins\":[7]}",
        "{\"plugins\":[{\"type\":\"culvert-cni\"}]}",
        "// comment\n{\"plugins\":[{\"type\":\"a\"}]}",
    ] {
        assert!(conflist::with_entry(text, "{}").is_err(), "{text}");
    }
    for text in [
        "",
        "{\"name\":\"n\"}",
        "{\"type\":7}",
        "{\"type\":\"culvert-cni\"}",
        PTP,
    ] {
        assert!(conflist::from_single(text, "{}").is_err(), "{text}");
    }
}

#[test]
fn the_first_list_gets_the_entry_and_looking_again_writes_nothing() {
    let mut node = Node::new();
    node.write("10-kt.conflist", PTP);
    node.write("20-other.conflist", FLANNEL);
    node.write("00-readme.txt", "not a configuration");
    fs::set_permissions(node.path("10-kt.conflist"), fs::Permissions::from_mode(0o640)).expect("mode");
    let standing = node.look();
    assert_eq!(standing.configuration, Some(node.path("10-kt.conflist")));
    assert_eq!((standing.problem(), standing.problem.clone()), (None, None));
    assert_eq!(node.types("10-kt.conflist"), ["ptp", "portmap", "culvert-cni"]);
    assert_eq!(node.read("20-other.conflist"), FLANNEL);
    let program = node.places.bin_dir.join("culvert-cni");
    assert_eq!(fs::read(&program).expect("program"), b"program");
    assert_eq!(
        fs::metadata(&program).expect("program").permissions().mode() & 0o7777,
        0o755
    );

    let before = fs::metadata(node.path("10-kt.conflist")).expect("file");
    assert_eq!(before.permissions().mode() & 0o7777, 0o640, "permissions stay");
    assert_eq!(node.look(), standing);
    let after = fs::metadata(node.path("10-kt.conflist")).expect("file");
    assert_eq!((before.ino(), before.ctime_nsec()), (after.ino(), after.ctime_nsec()));
    assert_eq!(
        node.names(),
        ["00-readme.txt", "10-kt.conflist", "20-other.conflist"],
        "no draft stays"
    );
}

#[test]
fn what_the_cnis_installer_does_is_put_right() {
    let mut node = Node::new();
    node.write("10-kt.conflist", PTP);
    node.look();
    node.write("10-kt.conflist", CALICO);
    node.look();
    assert_eq!(
        node.types("10-kt.conflist"),
        ["calico", "portmap", "bandwidth", "culvert-cni"]
    );
    // Another becomes the first.
    node.write("05-cilium.conflist", CILIUM);
    assert_eq!(node.look().configuration, Some(node.path("05-cilium.conflist")));
    assert_eq!(node.types("05-cilium.conflist"), ["cilium-cni", "culvert-cni"]);
    // Cilium puts the others aside.
    fs::rename(node.path("10-kt.conflist"), node.path("10-kt.conflist.cilium_bak")).expect("rename");
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
    assert_eq!(node.read("05-cilium.conflist"), CILIUM);
    assert_eq!(
        node.read("10-kt.conflist.cilium_bak"),
        CALICO,
        "also what was put aside"
    );
    assert!(!node.places.bin_dir.join("culvert-cni").exists());
    remove(&node.places).expect("again");
}

#[test]
fn a_single_configuration_stays_and_a_list_comes_before_it() {
    let mut node = Node::new();
    node.write("10-net.conf", SINGLE);
    let list = "10-net-culvert.conflist";
    assert_eq!(node.look().configuration, Some(node.path(list)));
    assert_eq!(node.names(), [list, "10-net.conf"], "it sorts before");
    assert_eq!(node.types(list), ["bridge", "culvert-cni"]);
    let text = node.read(list);
    assert!(
        text.contains("\"cniVersion\": \"0.4.0\"") && text.contains("\"name\": \"net\""),
        "{text}"
    );
    assert!(
        text.contains(SINGLE.trim()),
        "the configuration is in it as it is: {text}"
    );
    assert_eq!(node.read("10-net.conf"), SINGLE);

    node.write("10-net.conf", &SINGLE.replace("1.0", "2.0"));
    node.look();
    assert!(node.read(list).contains("\"x\": 2.0"), "it follows the original");

    node.write("05-kt.conflist", PTP);
    assert_eq!(node.look().configuration, Some(node.path("05-kt.conflist")));
    assert_eq!(
        node.names(),
        ["05-kt.conflist", "10-net.conf"],
        "what is not in force has no list"
    );

    fs::remove_file(node.path("05-kt.conflist")).expect("delete");
    node.look();
    assert_eq!(node.names(), [list, "10-net.conf"]);
    fs::remove_file(node.path("10-net.conf")).expect("delete");
    let standing = node.look();
    assert!(
        !standing.is_installed(),
        "a list outlives its original by one look at most"
    );
    assert_eq!(node.names(), [""; 0]);

    node.write("10-net.conf", SINGLE);
    node.look();
    remove(&node.places).expect("remove");
    assert_eq!(
        (node.names(), node.read("10-net.conf")),
        (vec!["10-net.conf".to_owned()], SINGLE.to_owned())
    );
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
fn an_entry_is_never_without_its_program() {
    let mut node = Node::new();
    node.write("10-kt.conflist", PTP);
    fs::remove_file(&node.places.plugin).expect("delete");
    assert!(!node.look().is_installed());
    assert_eq!(node.read("10-kt.conflist"), PTP);
}

#[test]
fn behind_a_symbolic_link_the_file_is_edited_and_the_link_stays() {
    let mut node = Node::new();
    fs::create_dir(node.path("real")).expect("folder");
    node.write("real/list", PTP);
    symlink("real/list", node.path("10-kt.conflist")).expect("link");
    symlink("nowhere", node.path("20-gone.conflist")).expect("link");
    assert!(node.look().is_installed());
    assert!(
        fs::symlink_metadata(node.path("10-kt.conflist"))
            .expect("link")
            .is_symlink()
    );
    assert_eq!(node.types("real/list"), ["ptp", "portmap", "culvert-cni"]);
    remove(&node.places).expect("remove");
    assert_eq!(node.read("real/list"), PTP);
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
        let deadline = Instant::now() + Duration::from_secs(10);
        while !is_so() {
            assert!(Instant::now() < deadline, "waited in vain until {what}");
            std::thread::yield_now();
        }
    };
    until("it waits for a configuration", &|| shown.borrow().problem.is_some());
    node.write(".draft", PTP);
    fs::rename(node.path(".draft"), node.path("10-kt.conflist")).expect("rename");
    until("the list has it", &|| shown.borrow().is_installed());
    node.write(".draft", CALICO);
    fs::rename(node.path(".draft"), node.path("10-kt.conflist")).expect("rename");
    until("it is back", &|| node.read("10-kt.conflist").contains("culvert-cni"));
    fs::remove_file(node.places.bin_dir.join("culvert-cni")).expect("delete");
    until("the program is back", &|| {
        node.places.bin_dir.join("culvert-cni").exists()
    });
}
