//! What the monitor reads: messages of the agent with descriptors beside them, and reports of its own worker, which handles
//! strangers' bytes and so may be anybody.
//!
//! A message is a byte that says which descriptors come with it, a length of two bytes, and so many bytes.
#![no_main]
#![allow(dead_code, reason = "the monitor's files as they are")]

#[path = "../../ztunnel/src/monitor/pods.rs"]
mod pods;
#[path = "../../ztunnel/src/wire.rs"]
mod wire;

use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::LazyLock;

use culvert_proto::zds::{WorkloadRequest, workload_request::Payload};
use libfuzzer_sys::fuzz_target;
use pods::{Change, Pods};
use prost::Message as _;

static NAMESPACE: LazyLock<File> = LazyLock::new(|| File::open("/proc/self/ns/net").expect("proc is mounted"));
static OTHER: LazyLock<File> = LazyLock::new(|| File::open("/dev/null").expect("/dev is there"));

/// The lower bits say how many, the highest that the first is no namespace.
fn descriptors(code: u8) -> Vec<OwnedFd> {
    let first = if code & 0x80 == 0 { &NAMESPACE } else { &OTHER };
    let duplicate = |file: &File| OwnedFd::from(file.try_clone().expect("descriptors are left"));
    (0..code & 7)
        .map(|n| duplicate(if n == 0 { first } else { &OTHER }))
        .collect()
}

fuzz_target!(|input: &[u8]| {
    let mut pods = Pods::default();
    pods.begin_snapshot();
    let mut rest = input;
    while let [code, low, high, more @ ..] = rest {
        let (message, after) = more.split_at(usize::from(u16::from_le_bytes([*low, *high])).min(more.len()));
        rest = after;
        if let Ok(wire::ToMonitor { report: Some(report) }) = wire::ToMonitor::decode(message) {
            assert!(wire::ToMonitor::decode(wire::report(report).as_slice()).is_ok());
        }
        let Ok(WorkloadRequest { payload: Some(payload) }) = WorkloadRequest::decode(message) else {
            continue;
        };
        let before = pods.uids();
        let named = match &payload {
            Payload::Add(add) => Some(add.uid.clone()),
            _ => None,
        };
        match pods.apply(payload, descriptors(*code)) {
            Err(error) => {
                assert_eq!(pods.uids(), before, "a refusal changes nothing");
                assert!(!error.to_string().is_empty());
            }
            Ok(changes) => {
                for change in changes {
                    match change {
                        Change::Removed { uid } => assert!(before.contains(&uid) && pods.get(&uid).is_none()),
                        Change::Added { uid, listeners } => {
                            assert_eq!(Some(&uid), named.as_ref());
                            let pod = pods.get(&uid).expect("it was added");
                            assert_eq!(pod.description().roles.len(), pod.listeners().len());
                            assert_eq!(
                                pod.description_of(&listeners).roles.len(),
                                pod.listeners_in(&listeners).len()
                            );
                            assert!(!listeners.is_empty());
                        }
                    }
                }
            }
        }
    }
});
