//! A node for one test: cgroups, a bpffs and the programs, with the test's own process as agent, proxy or application.

use culvert_agent::kernel::{Exclusions, GuardHook, Kernel, KernelConfig, LocalLegs, MapSizes};
use std::{
    ffi::CString,
    fs, io,
    path::{Path, PathBuf},
    process,
    ptr::null,
};

/// Applications run here, as a kubelet would have them.
pub(crate) const PODS: &str = "kubepods";

/// Everything of it is gone when it is dropped; the bpffs also when the process dies.
pub(crate) struct Node {
    pub(crate) config: KernelConfig,
    cgroup: PathBuf,
    before: PathBuf,
    bpffs: PathBuf,
}

impl Node {
    pub(crate) fn new() -> Self {
        let mount = cgroup2();
        let own = fs::read_to_string("/proc/self/cgroup").expect("own cgroup");
        let own = own
            .lines()
            .find_map(|line| line.strip_prefix("0::/"))
            .expect("a cgroup2")
            .to_owned();
        let cgroup = mount.join(format!("cvk-{}", process::id()));
        for role in ["agent", "proxy/worker", PODS] {
            fs::create_dir_all(cgroup.join(role)).expect("make cgroups (needs root)");
        }
        let bpffs = std::env::temp_dir().join(format!("cvk-{}", process::id()));
        fs::create_dir_all(&bpffs).expect("make a mount point");
        mount_bpffs(&bpffs);
        let config = KernelConfig {
            cgroup: Some(cgroup.clone()),
            proxy_cgroup: Some(cgroup.join("proxy")),
            proxies_in_pods: false,
            bpffs: bpffs.join("culvert"),
            sizes: MapSizes {
                pods: 16,
                addresses: 32,
                flows: 64,
                flows_per_pod: 64,
                exclusions: 16,
            },
            exclusions: Exclusions::default(),
            guard_hook: GuardHook::Auto,
            local_legs: LocalLegs::Tcp,
            node_network: "/proc/self/ns/net".into(),
        };
        let node = Self {
            config,
            cgroup,
            before: mount.join(own),
            bpffs,
        };
        node.enter("agent");
        node
    }

    pub(crate) fn open(&self) -> Kernel {
        Kernel::open(&self.config).expect("open the kernel side")
    }

    /// The folder with the pins of the one version of the programs that there is.
    pub(crate) fn version(&self) -> PathBuf {
        let entries = fs::read_dir(&self.config.bpffs).expect("read").flatten();
        let version = entries
            .map(|entry| entry.path())
            .find(|path| path.join("links").exists());
        version.expect("a version")
    }

    /// The folder of a cgroup of this node.
    pub(crate) fn folder(&self, role: &str) -> PathBuf {
        self.cgroup.join(role)
    }

    /// From now on, what the test does is done by a process in this cgroup.
    pub(crate) fn enter(&self, role: &str) {
        move_to(&self.cgroup.join(role));
    }

    /// Does something as the proxy, and becomes an application again.
    pub(crate) fn as_proxy<T>(&self, job: impl FnOnce() -> T) -> T {
        self.enter("proxy/worker");
        let result = job();
        self.enter(PODS);
        result
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        move_to(&self.before);
        let path = CString::new(self.bpffs.to_str().expect("UTF-8")).expect("no zero");
        // SAFETY: a terminated string.
        unsafe { libc::umount2(path.as_ptr(), libc::MNT_DETACH) };
        let _ = fs::remove_dir(&self.bpffs);
        for role in ["agent", "first", "proxy/worker", "proxy", PODS, ""] {
            let _ = fs::remove_dir(self.cgroup.join(role));
        }
    }
}

fn move_to(cgroup: &Path) {
    fs::write(cgroup.join("cgroup.procs"), process::id().to_string()).expect("move to a cgroup");
}

/// Where cgroup2 is mounted: alone, or beside version 1.
pub(crate) fn cgroup2() -> PathBuf {
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    let line = mounts
        .lines()
        .find(|line| line.contains(" - cgroup2 "))
        .expect("cgroup2 is mounted");
    line.split(' ').nth(4).expect("a mount point").into()
}

/// In a mount namespace of this thread (and those that it starts), so that nothing is left behind.
fn mount_bpffs(at: &Path) {
    let at = CString::new(at.to_str().expect("UTF-8")).expect("no zero");
    let check = |result: i32| assert_eq!(result, 0, "needs root: {}", io::Error::last_os_error());
    // SAFETY: terminated strings, and null where nothing is meant.
    unsafe {
        check(libc::unshare(libc::CLONE_NEWNS));
        check(libc::mount(
            c"none".as_ptr(),
            c"/".as_ptr(),
            null(),
            libc::MS_REC | libc::MS_PRIVATE,
            null(),
        ));
        check(libc::mount(c"bpf".as_ptr(), at.as_ptr(), c"bpf".as_ptr(), 0, null()));
    }
}

/// Detaches a link as `bpftool link detach` does.
pub(crate) fn detach(pin: &Path) {
    #[repr(C)]
    struct Get {
        path: u64,
        rest: u64,
    }
    let path = CString::new(pin.to_str().expect("UTF-8")).expect("no zero");
    let get = Get {
        path: path.as_ptr() as u64,
        rest: 0,
    };
    // SAFETY: the attributes of BPF_OBJ_GET and BPF_LINK_DETACH; the path outlives the call.
    let detached = unsafe {
        let link = libc::syscall(libc::SYS_bpf, 7, &get, size_of::<Get>());
        assert!(link >= 0, "{}: {}", pin.display(), io::Error::last_os_error());
        let detached = libc::syscall(libc::SYS_bpf, 34, &(link as u64), size_of::<u64>());
        libc::close(link as i32);
        detached
    };
    assert_eq!(detached, 0, "{}: {}", pin.display(), io::Error::last_os_error());
}
