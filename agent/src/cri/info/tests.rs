use std::path::PathBuf;

use super::{Info, parse};

fn info(netns: Option<&str>, pid: Option<u32>) -> Info {
    Info {
        netns: netns.map(PathBuf::from),
        pid,
    }
}

/// As `crictl inspectp` shows it, shortened.
const CONTAINERD_1_6: &str = r#"{"sandboxID":"5c7a","pid":4177,"processStatus":"running","netNamespaceClosed":false,
  "image":"registry.k8s.io/pause:3.6","snapshotKey":"5c7a","snapshotter":"overlayfs","runtimeHandler":"",
  "runtimeType":"io.containerd.runc.v2","runtimeOptions":{"systemd_cgroup":true},
  "config":{"metadata":{"name":"web-0","uid":"0b3a3d2c-7d0c-4f7f-9a54-0c6a0c9b9d11","namespace":"shop"},
    "linux":{"cgroup_parent":"/kubepods/besteffort/pod0b3a3d2c-7d0c-4f7f-9a54-0c6a0c9b9d11"}},
  "runtimeSpec":{"ociVersion":"1.0.2-dev","process":{"args":["/pause"]},"linux":{"namespaces":[
    {"type":"pid"},{"type":"ipc"},{"type":"uts"},{"type":"mount"},
    {"type":"network","path":"/var/run/netns/cni-b19a3d8f-2d3f-7a8e-0c52-5f3a7ae54f2e"}]}},
  "cniResult":{"Interfaces":{"eth0":{"IPConfigs":[{"IP":"198.19.1.7","Gateway":"198.19.1.1"}]}}}}"#;

const CONTAINERD_2: &str = r#"{"pid":981,"processStatus":"SANDBOX_READY","netNamespaceClosed":false,"image":"",
  "runtimeHandler":"runc","runtimeType":"io.containerd.runc.v2","runtimeOptions":null,"config":{},
  "runtimeSpec":{"linux":{"namespaces":[{"type":"network","path":"/run/netns/cni-1d"},{"type":"pid"}]}},
  "cniResult":null,"metadata":{"NetNSPath":"/run/netns/cni-1d","RuntimeHandler":"runc"}}"#;

const CRIO: &str = r#"{"image":"registry.k8s.io/pause:3.9","pid":0,"runtimeSpec":{"ociVersion":"1.0.2",
  "linux":{"namespaces":[{"type":"pid"},{"type":"network","path":"/var/run/netns/7f0e"},{"type":"ipc","path":"/var/run/ipcns/7f0e"}]}}}"#;

const HOST_NETWORK: &str = r#"{"pid":12,"runtimeSpec":{"linux":{"namespaces":[{"type":"pid"},{"type":"mount"}]}}}"#;

#[test]
fn what_each_runtime_tells_is_understood() {
    let of_1_6 = info(
        Some("/var/run/netns/cni-b19a3d8f-2d3f-7a8e-0c52-5f3a7ae54f2e"),
        Some(4177),
    );
    assert_eq!(parse(CONTAINERD_1_6).expect("containerd 1.6"), of_1_6);
    assert_eq!(
        parse(CONTAINERD_2).expect("containerd 2"),
        info(Some("/run/netns/cni-1d"), Some(981))
    );
    assert_eq!(parse(CRIO).expect("CRI-O"), info(Some("/var/run/netns/7f0e"), None));
    assert_eq!(parse(HOST_NETWORK).expect("host network"), info(None, Some(12)));
}

#[test]
fn a_namespace_that_the_runtime_has_closed_does_not_count() {
    let closed = CONTAINERD_1_6.replace("\"netNamespaceClosed\":false", "\"netNamespaceClosed\":true");
    assert_eq!(parse(&closed).expect("parse").netns, None);
}

#[test]
fn what_is_of_another_kind_tells_nothing_and_what_is_no_json_is_an_error() {
    for strange in [
        "{}",
        "[]",
        "null",
        r#"{"pid":-1}"#,
        r#"{"pid":5000000000}"#,
        r#"{"runtimeSpec":{"linux":{"namespaces":{"type":"network"}}}}"#,
        r#"{"runtimeSpec":{"linux":{"namespaces":[null,{"type":"network","path":"relative"},{"type":"network","path":"/second"}]}}}"#,
        r#"{"runtimeSpec":{"linux":{"namespaces":[{"type":"network","path":""}]}}}"#,
    ] {
        assert_eq!(parse(strange).expect("parse"), Info::default(), "{strange}");
    }
    assert!(parse("").is_err() && parse("{").is_err());
}
