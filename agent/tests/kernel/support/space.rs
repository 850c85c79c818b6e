//! Network namespaces without names: each lives on a thread of its own and vanishes with it, whatever becomes of the test.

use std::{
    fs::File,
    io,
    net::IpAddr,
    os::fd::{AsFd, AsRawFd, BorrowedFd},
    path::PathBuf,
    process::Command,
    sync::mpsc,
    thread::{self, JoinHandle},
    time::Instant,
};

type Job = Box<dyn FnOnce() + Send>;

/// A network namespace with its loopback interface up.
pub(crate) struct Space {
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
    netns: File,
    tid: i32,
}

impl Space {
    pub(crate) fn new() -> Self {
        let (jobs, inbox) = mpsc::channel::<Job>();
        let (ready, is_ready) = mpsc::channel();
        let thread = thread::spawn(move || {
            // SAFETY: changes this thread alone.
            let result = unsafe { libc::unshare(libc::CLONE_NEWNET) };
            assert_eq!(result, 0, "{}", io::Error::last_os_error());
            // SAFETY: no argument.
            let tid = unsafe { libc::gettid() };
            let netns = File::open("/proc/thread-self/ns/net").expect("open own network namespace");
            ready.send((netns, tid)).expect("the test waits");
            for job in inbox {
                job();
            }
        });
        let (netns, tid) = is_ready.recv().expect("the thread answers");
        let space = Self {
            jobs: Some(jobs),
            thread: Some(thread),
            netns,
            tid,
        };
        space.ip("link set lo up");
        space
    }

    /// Joins this one's `eth0` to another's `eth0`, with these addresses (prefix lengths 24 and 64).
    pub(crate) fn join(&self, own: &[IpAddr], other: &Self, others: &[IpAddr]) {
        self.join_by("eth0", 10, own, other, others);
    }

    /// Joins two interfaces of this name, whose indices are this one and the next.
    pub(crate) fn join_by(&self, name: &str, index: u32, own: &[IpAddr], other: &Self, others: &[IpAddr]) {
        // With the same number on both sides, Linux takes a second to notice that the link is up.
        let (tid, next) = (other.tid, index + 1);
        self.ip(&format!(
            "link add {name} index {index} type veth peer name {name} index {next} netns {tid}"
        ));
        for (space, addresses) in [(self, own), (other, others)] {
            for address in addresses {
                space.add_address_to(name, *address);
            }
            space.ip(&format!("link set {name} up"));
        }
        let begun = Instant::now();
        for space in [self, other] {
            // IPv6 asks for no neighbour before.
            while !space.ip(&format!("-oneline link show {name}")).contains("state UP") {
                assert!(begun.elapsed() < super::sock::PATIENCE, "the link does not come up");
            }
        }
        // Before, the kernel takes an address of its own for that of a neighbour.
        for (space, addresses) in [(self, own), (other, others)] {
            for address in addresses.iter().filter(|address| address.is_ipv6()) {
                let is_local = || {
                    space
                        .ip("-6 route show table local")
                        .contains(&format!("local {address} "))
                };
                while !is_local() {
                    assert!(
                        begun.elapsed() < super::sock::PATIENCE,
                        "{address} does not become local"
                    );
                }
            }
        }
    }

    pub(crate) fn add_address(&self, address: IpAddr) {
        self.add_address_to("eth0", address);
    }

    fn add_address_to(&self, name: &str, address: IpAddr) {
        match address {
            IpAddr::V4(v4) => self.ip(&format!("addr add {v4}/24 dev {name}")),
            IpAddr::V6(v6) => self.ip(&format!("addr add {v6}/64 dev {name} nodad")),
        };
    }

    /// The link-local address of `eth0`, once the kernel has made sure that nobody else has it.
    pub(crate) fn link_local(&self) -> std::net::Ipv6Addr {
        let begun = Instant::now();
        loop {
            let shown = self.ip("-oneline -6 addr show dev eth0 scope link -tentative");
            let address = shown.split_whitespace().skip_while(|word| *word != "inet6").nth(1);
            if let Some(address) = address.and_then(|address| address.split('/').next()) {
                return address.parse().expect("an address");
            }
            assert!(begun.elapsed() < super::sock::PATIENCE, "no link-local address");
            thread::yield_now();
        }
    }

    /// Runs something inside.
    pub(crate) fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (done, is_done) = mpsc::channel();
        let job = Box::new(move || done.send(job()).expect("the test waits"));
        self.jobs
            .as_ref()
            .expect("alive")
            .send(job)
            .expect("the thread is alive");
        is_done.recv().expect("nothing panicked inside")
    }

    pub(crate) fn ip(&self, arguments: &str) -> String {
        self.output("ip", arguments)
    }

    pub(crate) fn tc(&self, arguments: &str) -> String {
        self.output("tc", arguments)
    }

    fn output(&self, program: &'static str, arguments: &str) -> String {
        let words: Vec<String> = arguments.split(' ').map(ToOwned::to_owned).collect();
        let output = self
            .run(move || Command::new(program).args(words).output())
            .unwrap_or_else(|error| panic!("run {program}: {error}"));
        assert!(
            output.status.success(),
            "{program} {arguments}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// By which the namespace can be opened as long as it is there.
    pub(crate) fn path(&self) -> PathBuf {
        format!("/proc/self/task/{}/ns/net", self.tid).into()
    }

    /// `SO_NETNS_COOKIE`.
    pub(crate) fn cookie(&self) -> u64 {
        self.run(|| {
            let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("socket");
            let mut cookie = 0_u64;
            let mut length = size_of::<u64>() as u32;
            // SAFETY: the option is a u64.
            let result = unsafe {
                let value = std::ptr::from_mut(&mut cookie).cast();
                libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, 71, value, &mut length)
            };
            assert_eq!(result, 0, "{}", io::Error::last_os_error());
            cookie
        })
    }
}

impl AsFd for Space {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.netns.as_fd()
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
