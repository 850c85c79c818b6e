//! What tells the agent where a pod's network namespace is: a container runtime's JSON, and `/proc/PID/cgroup`.
#![no_main]

use culvert_agent::cri::{cgroups, info};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(info) = info::parse(text) {
        assert!(info.netns.is_none_or(|path| path.is_absolute()));
        assert_ne!(info.pid, Some(0));
    }
    if let Some(uid) = cgroups::pod_uid(text) {
        assert!(uid.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-'));
        // The same pod is found by either manner of naming.
        let cgroupfs = format!("0::/kubepods/pod{uid}/c");
        assert_eq!(cgroups::pod_uid(&cgroupfs).as_ref(), Some(&uid));
        let systemd = format!("0::/kubepods.slice/kubepods-pod{}.slice/c.scope", uid.replace('-', "_"));
        assert_eq!(cgroups::pod_uid(&systemd), Some(uid));
    }
});
