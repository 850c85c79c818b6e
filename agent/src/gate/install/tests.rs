//! Texts of CNIs, a node's folders, and tests of editing texts. The modules have the rest.

mod beside_multus;
mod list;
mod programs;

use std::{
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

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

/// What is in the folder of programs.
const PROGRAMS: [&str; 13] = [
    "bandwidth",
    "bridge",
    "calico",
    "calico-ipam",
    "cilium-cni",
    "flannel",
    "genie",
    "host-local",
    "istio-cni",
    "multus",
    "multus-shim",
    "portmap",
    "ptp",
];

/// The folders of a node.
struct Node {
    _folder: tempfile::TempDir,
    places: Places,
    memory: Memory,
    now: Instant,
}

impl Node {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("folder");
        let at = |name: &str| folder.path().join(name);
        for name in ["bin", "net.d", "root"] {
            fs::create_dir(at(name)).expect("folder");
        }
        for program in PROGRAMS {
            fs::write(at("bin").join(program), "").expect("program");
        }
        fs::write(at("plugin"), "program").expect("program");
        let places = Places {
            bin_dir: at("bin"),
            conf_dir: at("net.d"),
            plugin: at("plugin"),
            socket: "/run/culvert/cni.sock".into(),
            state: at("state.json"),
            network: None,
            host_root: at("root"),
        };
        Self {
            places,
            memory: Memory::default(),
            now: Instant::now(),
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
        look(&self.places, &mut self.memory, self.now)
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

    /// What container runtimes take: the first by name.
    fn in_force(&self) -> String {
        let is_one = |name: &String| folder::is_configuration(Path::new(name));
        self.names().into_iter().find(is_one).expect("a configuration")
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
