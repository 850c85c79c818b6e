//! Which pod a process belongs to, by its cgroups.
//!
//! The kubelet makes one cgroup for each pod and names it by the pod's uid, in one of two manners:
//! | driver | path |
//! |---|---|
//! | cgroupfs | `/kubepods/burstable/pod<uid>/<container>` |
//! | systemd | `/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod<uid, `-` written `_`>.slice/<container>.scope` |
//!
//! `/proc/PID/cgroup` has one line for each hierarchy: many under version 1, one under version 2, both kinds in hybrids.

/// The uid of the pod in the text of a `/proc/PID/cgroup`; the innermost where nodes run inside pods.
pub fn pod_uid(text: &str) -> Option<String> {
    text.lines().find_map(|line| {
        // ID ":" CONTROLLERS ":" PATH, where the path may contain colons.
        let path = line.splitn(3, ':').nth(2)?;
        path.split('/').rev().find_map(uid_of)
    })
}

/// The uid in one component of a path.
fn uid_of(component: &str) -> Option<String> {
    // containerd without systemd's driver under a kubelet with it appends `:cri-containerd:<container>`.
    let component = component.split(':').next()?;
    let uid = match component.strip_suffix(".slice") {
        // Systemd's slices are named after all that are above them.
        Some(slice) => {
            let (above, uid) = slice.rsplit_once("-pod")?;
            let above = above
                .strip_suffix("-burstable")
                .or(above.strip_suffix("-besteffort"))
                .unwrap_or(above);
            above.ends_with("kubepods").then_some(uid)?
        }
        None => component.strip_prefix("pod")?,
    };
    is_uid(uid).then(|| uid.replace('_', "-"))
}

/// Uids are UUIDs, or, of static pods, the hash of their file.
fn is_uid(text: &str) -> bool {
    let digits = text.bytes().filter(u8::is_ascii_hexdigit).count();
    let others = text.bytes().filter(|byte| matches!(byte, b'-' | b'_')).count();
    digits >= 16 && digits + others == text.len()
}

#[cfg(test)]
mod tests;
