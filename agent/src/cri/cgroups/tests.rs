use super::pod_uid;

const UID: &str = "0b3a3d2c-7d0c-4f7f-9a54-0c6a0c9b9d11";
const ESCAPED: &str = "0b3a3d2c_7d0c_4f7f_9a54_0c6a0c9b9d11";
const STATIC: &str = "d9c8f2a47b1e4c5da0f3b6e7c8d9e0f1";

#[test]
fn every_manner_of_naming_is_understood() {
    let scope = "cri-containerd-5c7a.scope";
    let paths = [
        format!("0::/kubepods/burstable/pod{UID}/5c7a"),
        format!("0::/kubepods/pod{UID}/5c7a"),
        format!("0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{ESCAPED}.slice/{scope}"),
        format!("0::/kubepods.slice/kubepods-pod{ESCAPED}.slice/{scope}"),
        format!(
            "0::/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{ESCAPED}.slice/crio-77.scope/container"
        ),
        // Seen from another cgroup namespace.
        format!("0::/../../kubepods-burstable-pod{ESCAPED}.slice/{scope}"),
        // A kubelet below a slice of its own (`--cgroup-root`), as kind has it.
        format!(
            "0::/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-burstable.slice/kubelet-kubepods-burstable-pod{ESCAPED}.slice/{scope}"
        ),
        // Version 1, cgroupfs and systemd, with the path that containerd writes through systemd: colons inside.
        format!(
            "12:cpu,cpuacct:/kubepods/besteffort/pod{UID}/5c7a\n1:name=systemd:/kubepods/besteffort/pod{UID}/5c7a\n"
        ),
        format!(
            "11:devices:/system.slice/containerd.service/kubepods-burstable-pod{ESCAPED}.slice:cri-containerd:5c7a"
        ),
        // A hybrid: version 2 is there, but the kubelet uses version 1.
        format!("0::/system.slice/containerd.service\n3:memory:/kubepods/burstable/pod{UID}/5c7a\n"),
        // A node inside a pod: the inner one.
        format!("0::/kubepods/burstable/podaaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa/1/kubelet/kubepods/pod{UID}/5c7a"),
    ];
    for path in paths {
        assert_eq!(pod_uid(&path).as_deref(), Some(UID), "{path}");
    }
    let mirror = format!(
        "0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{STATIC}.slice/{}",
        "x.scope"
    );
    assert_eq!(pod_uid(&mirror).as_deref(), Some(STATIC));
}

#[test]
fn what_is_no_pods_cgroup_names_none() {
    for path in [
        "",
        "0::/",
        "0::",
        "no colons",
        "0::/user.slice/user-0.slice/session-1.scope",
        "0::/kubepods/burstable",
        "0::/kubepods.slice/kubepods-burstable.slice",
        "0::/podman/pod/x",
        "0::/machine.slice/libpod_pod_5c7a.slice/x.scope",
        "0::/user.slice/evil-pod0b3a3d2c_7d0c_4f7f_9a54_0c6a0c9b9d11.slice/x",
    ] {
        assert_eq!(pod_uid(path), None, "{path}");
    }
}
