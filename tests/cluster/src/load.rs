//! Connections from a pod while something is changed around them.

use crate::{PodSpec, Space, until};
use culvert_cluster::Node;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::{fs, path::PathBuf};

/// `probe load` in a pod: 50 new connections a second, and 20 open ones with a question every 100 ms.
///
/// It is watched by its log file on the node and ended by a signal, so that the API server may be away.
#[derive(Debug)]
pub struct Load {
    node: Node,
    uid: String,
    log: PathBuf,
    /// Where the pod's control group is told from others.
    what: String,
}

/// What a [`Load`] went through.
#[derive(Debug, Clone)]
pub struct Report {
    /// New connections that were attempted.
    pub attempts: u64,
    /// Those that did not come to a good answer.
    pub failures: u64,
    /// The longest that a good one took, milliseconds.
    pub slowest_ms: u64,
    /// When that was, milliseconds since 1970.
    pub slowest_at_ms: u64,
    /// Open connections that were in use to the end.
    pub open_survived: u64,
    /// Open connections that broke, or were never opened.
    pub open_broken: u64,
    /// The longest that an answer on an open connection took, milliseconds.
    pub slowest_ping_ms: u64,
    /// Answers on open connections.
    pub pings: u64,
    /// Half of those took no longer, microseconds; known at the end.
    pub ping_p50_us: Option<u64>,
    /// 99% of those took no longer, microseconds; known at the end.
    pub ping_p99_us: Option<u64>,
    /// Each failure, with time, stage, errno.
    pub errors: Vec<Value>,
}

impl Load {
    /// Starts a pod `name` on `node` that asks `to`; returns when all open connections are in use and new ones succeed.
    pub fn start(space: &Space<'_>, name: &str, node: &str, to: impl AsRef<str>) -> Self {
        Self::start_with(space, PodSpec::new(name, &["load", "--to", to.as_ref()]).on(node))
    }

    /// As [`start`](Self::start), from a pod whose arguments begin with `load`.
    pub fn start_with(space: &Space<'_>, pod: PodSpec) -> Self {
        space.create_pods(std::slice::from_ref(&pod));
        until(&format!("load {} to run", pod.name), || {
            let phase = space.get(&["pod", &pod.name])["status"]["phase"].clone();
            assert_ne!(phase, "Failed", "{}", space.kubectl(&["logs", &pod.name]));
            phase == "Running"
        });
        let found = space.get(&["pod", &pod.name]);
        let uid = found["metadata"]["uid"].as_str().unwrap().to_owned();
        let node = space.world().node(found["spec"]["nodeName"].as_str().unwrap()).clone();
        let folder = format!("/var/log/pods/{}_{}_{uid}/probe/0.log", space.name(), pod.name);
        let load = Self {
            log: node.own(&folder),
            node,
            uid,
            what: pod.name,
        };
        until(&format!("load {} to be under way", load.what), || {
            load.now().is_some_and(|report| report.attempts > report.failures)
        });
        load
    }

    /// How it stands; it tells so every second.
    pub fn now(&self) -> Option<Report> {
        let lines = self.lines();
        let last = lines.iter().rev().find(|line| line["attempts"].is_u64())?;
        Some(Report::of(last, &lines))
    }

    /// Waits until as many more connections were attempted and answered.
    pub fn wait_more(&self, count: u64) {
        let done = |report: &Report| report.attempts - report.failures;
        let before = self.now().as_ref().map_or(0, done);
        until(&format!("{count} more connections of {}", self.what), || {
            self.now().as_ref().map_or(0, done) >= before + count
        });
    }

    /// Ends it, and what came of it.
    pub fn stop(self) -> Report {
        for process in self.node.pids_of("probe").unwrap() {
            let groups = fs::read_to_string(format!("/proc/{}/cgroup", process.pid())).unwrap_or_default();
            let underscores = self.uid.replace('-', "_");
            if groups.contains(&self.uid) || groups.contains(&underscores) {
                let pid = Pid::from_raw(process.pid()).unwrap();
                let _ = kill_process(pid, Signal::TERM);
            }
        }
        until(&format!("the last report of {}", self.what), || {
            self.lines().iter().any(|line| line["final"] == true)
        });
        let report = self.now().unwrap();
        eprintln!(
            "{}: {} new connections, {} failed, slowest {} ms; {} open ones survived, {} broke, slowest answer {} ms",
            self.what,
            report.attempts,
            report.failures,
            report.slowest_ms,
            report.open_survived,
            report.open_broken,
            report.slowest_ping_ms,
        );
        report
    }

    /// The lines of its log. The runtime puts a time, the stream and a tag before each.
    fn lines(&self) -> Vec<Value> {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        text.lines()
            .filter_map(|line| serde_json::from_str(line.splitn(4, ' ').nth(3)?).ok())
            .collect()
    }
}

impl Report {
    fn of(line: &Value, all: &[Value]) -> Self {
        let number = |name: &str| line[name].as_u64().unwrap();
        Self {
            attempts: number("attempts"),
            failures: number("failed"),
            slowest_ms: number("slowest_ms"),
            slowest_at_ms: number("slowest_at_ms"),
            open_survived: number("open").saturating_sub(number("open_broken")),
            open_broken: number("open_broken"),
            slowest_ping_ms: number("slowest_ping_ms"),
            pings: number("pings"),
            ping_p50_us: line["ping_p50_us"].as_u64(),
            ping_p99_us: line["ping_p99_us"].as_u64(),
            errors: all.iter().filter(|line| line["failure"].is_string()).cloned().collect(),
        }
    }

    /// Asserts that something was done, that no attempt failed and that no open connection broke.
    pub fn assert_unharmed(&self, what: &str) {
        self.assert_no_failure(what);
        assert!(self.open_survived > 0, "{what}: no connection was open");
        assert_eq!(
            self.open_broken, 0,
            "{what}: open connections broke: {:#?}",
            self.errors
        );
    }

    /// Asserts that no attempt failed that began after `at_ms`, milliseconds since 1970.
    ///
    /// What is under way when the proxy that carries it is killed breaks like every connection through it.
    pub fn assert_no_failure_of_later(&self, at_ms: u64, what: &str) {
        let number = |line: &Value, name: &str| line[name].as_u64().unwrap();
        let later: Vec<_> = self
            .errors
            .iter()
            .filter(|line| line["failure"] == "new" && number(line, "at_ms") - number(line, "after_ms") > at_ms)
            .collect();
        assert!(later.is_empty(), "{what}: failed, and began later: {later:#?}");
    }

    /// Asserts that something was done and no attempt failed, whatever became of open connections.
    pub fn assert_no_failure(&self, what: &str) {
        assert!(self.attempts > 0, "{what}: nothing was attempted");
        assert_eq!(
            self.failures,
            0,
            "{what}: {} of {} new connections failed: {:#?}",
            self.failures,
            self.attempts,
            self.errors.iter().take(10).collect::<Vec<_>>()
        );
    }
}
