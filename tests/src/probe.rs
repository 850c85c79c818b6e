//! Running `probe` in pods.

use crate::patience::PATIENCE;
use culvert_lab::{Pod, Process};
use serde_json::Value;
use std::{net::SocketAddr, path::PathBuf, process::Command};

/// The program, to be given arguments.
pub fn command() -> Command {
    let own: PathBuf = std::env::current_exe().unwrap();
    // Test programs are in `deps`, one folder below the programs.
    let found = own
        .ancestors()
        .skip(1)
        .take(2)
        .map(|folder| folder.join("probe"))
        .find(|path| path.is_file());
    Command::new(found.expect("`probe` is not built: run `cargo build -p culvert-tests`"))
}

/// Starts the server on all of a pod's addresses.
pub fn serve(pod: &Pod, port: u16) -> Process {
    serve_with(pod, port, &[])
}

/// As [`serve`], with further arguments.
pub fn serve_with(pod: &Pod, port: u16, arguments: &[&str]) -> Process {
    let listen = format!("[::]:{port}");
    let name = format!("serve-{port}");
    let mut process = pod
        .spawn(&name, command().args(["serve", "--listen", &listen]).args(arguments))
        .unwrap();
    process
        .wait_for_log("listening", PATIENCE)
        .unwrap_or_else(|error| panic!("{error:#}"));
    process
}

/// Dials once from a pod; what was found out, or the error's text.
pub fn dial(pod: &Pod, to: impl Into<SocketAddr>, arguments: &[&str]) -> Result<Value, String> {
    let to = to.into().to_string();
    let output = pod
        .output(command().args(["dial", "--to", &to]).args(arguments))
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let report: Value = serde_json::from_str(text.trim())
        .unwrap_or_else(|_| panic!("probe said {text:?} {}", String::from_utf8_lossy(&output.stderr)));
    match report["error"].as_str() {
        Some(error) => Err(error.to_owned()),
        None => Ok(report["found"].clone()),
    }
}

/// The addresses in the answer of a [`dial`]: `side` is client or server, `call` accept, getpeername or getsockname.
pub fn address(found: &Value, side: &str, call: &str) -> SocketAddr {
    let text = found[side][call]
        .as_str()
        .unwrap_or_else(|| panic!("no {side}.{call} in {found}"));
    let address: SocketAddr = text.parse().unwrap();
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// `probe storm` or `probe hold` that is under way.
pub struct Crowd {
    process: Process,
}

/// What a crowd went through.
#[derive(Debug)]
pub struct Outcome {
    /// Sessions, or messages on open connections.
    pub done: u64,
    /// What failed: attempts, or open connections that broke.
    pub failed: u64,
    /// The longest that one of the successful took, milliseconds.
    pub longest_ms: u64,
    /// The first few errors.
    pub errors: Vec<String>,
}

/// New connections without pause.
pub fn storm(pod: &Pod, to: impl Into<SocketAddr>) -> Crowd {
    crowd("storm", pod, to.into())
}

/// Open connections in use without pause.
pub fn hold(pod: &Pod, to: impl Into<SocketAddr>) -> Crowd {
    crowd("hold", pod, to.into())
}

fn crowd(kind: &str, pod: &Pod, to: SocketAddr) -> Crowd {
    static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let name = format!("{kind}-{}", COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
    let mut process = pod
        .spawn(&name, command().args([kind, "--to", &to.to_string()]))
        .unwrap();
    process
        .wait_for_log("going", PATIENCE)
        .unwrap_or_else(|error| panic!("{error:#}"));
    Crowd { process }
}

impl Crowd {
    /// How many were done by now.
    pub fn is_going(&mut self) -> bool {
        self.process.is_running()
    }

    /// Ends it.
    pub fn stop(mut self) -> Outcome {
        self.process.stop(PATIENCE).unwrap_or_else(|error| panic!("{error:#}"));
        let log = self.process.log();
        let report: Value = log
            .lines()
            .rev()
            .find_map(|line| serde_json::from_str(line).ok())
            .unwrap_or_else(|| panic!("no report: {log}"));
        let errors = report["errors"].as_array().map(Vec::as_slice).unwrap_or_default();
        Outcome {
            done: report["done"].as_u64().unwrap(),
            failed: report["failed"].as_u64().unwrap(),
            longest_ms: report["longest_ms"].as_u64().unwrap(),
            errors: errors.iter().map(ToString::to_string).collect(),
        }
    }
}

impl Outcome {
    /// Asserts that something was done and nothing failed.
    pub fn assert_unharmed(&self, what: &str) {
        assert!(self.done > 0, "{what}: nothing was done");
        assert_eq!(
            self.failed, 0,
            "{what}: {:?} after {} successes",
            self.errors, self.done
        );
    }
}
