//! What is left, and what is said, when a run ends early.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Far more than what is waited for takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// A run whose temporary files are in this folder.
fn start(files: &Path) -> Child {
    Command::new(env!("CARGO_BIN_EXE_culvert-bench-scale"))
        .arg("--short")
        .env("TMPDIR", files)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// The controller of a run, once it has been started and has made its files.
fn controller_of(run: &Child, files: &Path) -> i32 {
    let begin = Instant::now();
    loop {
        assert!(begin.elapsed() < PATIENCE, "no controller");
        let has_files = fs::read_dir(files)
            .unwrap()
            .any(|state| state.unwrap().path().join("ca/root.pem").is_file());
        let children = format!("/proc/{0}/task", run.id());
        let children = fs::read_dir(children).unwrap().filter_map(|task| {
            let children = fs::read_to_string(task.ok()?.path().join("children")).ok()?;
            children.split_whitespace().next()?.parse().ok()
        });
        match children.last() {
            Some(child) if has_files => return child,
            _ => std::thread::yield_now(),
        }
    }
}

fn signal(process: i32, signal: libc::c_int) {
    // SAFETY: sends a signal to a process that this test has started, or that one it has started did.
    assert_eq!(unsafe { libc::kill(process, signal) }, 0);
}

fn left_in(files: &Path) -> Vec<std::ffi::OsString> {
    fs::read_dir(files)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_run_that_is_interrupted_says_so_and_leaves_neither_processes_nor_files() {
    let files = tempfile::tempdir().unwrap();
    let run = start(files.path());
    let controller = controller_of(&run, files.path());
    signal(i32::try_from(run.id()).unwrap(), libc::SIGTERM);
    let output = run.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("interrupted"), "{}", said(&output));
    assert!(left_in(files.path()).is_empty(), "{:?}", left_in(files.path()));
    let begin = Instant::now();
    while Path::new(&format!("/proc/{controller}")).exists() {
        assert!(begin.elapsed() < PATIENCE, "the controller is still there");
        std::thread::yield_now();
    }
}

#[test]
fn sizes_without_addresses_and_a_folder_that_cannot_be_made_are_refused_at_once() {
    for (arguments, why) in [
        (&["--pods", "0"][..], "0 is not in 1..=500000"),
        (&["--nodes", "1000000"], "1000000 is not in 1..=10000"),
        (
            &["--short", "--out", "/proc/report"],
            "cannot make the folder /proc/report",
        ),
    ] {
        let refused = Command::new(env!("CARGO_BIN_EXE_culvert-bench-scale"))
            .args(arguments)
            .output()
            .unwrap();
        assert!(
            !refused.status.success() && said(&refused).contains(why),
            "{}",
            said(&refused)
        );
    }
}
