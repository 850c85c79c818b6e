//! What the proxies hold: freshly started, and with many open connections.

use super::{
    course::Course,
    loads::{FIRST, Load, Program},
    notes::{missing, say, tell},
    options::Options,
};
use crate::{
    load::Kind,
    record::{Memory, Run},
    usage::settle,
};
use anyhow::{Context, Result};
use culvert_lab::Process;
use std::time::Duration;

/// How long a proxy is left alone before it is looked at.
const SETTLES: Duration = Duration::from_millis(500);
const PATIENCE: Duration = Duration::from_secs(60);

/// Each number of connections for all modes with proxies, before the next: modes that share a proxy find it with what the others left.
pub(super) fn measure(courses: &[Course<'_>], options: &Options, run: &mut Run) {
    for connections in options.held() {
        for course in courses.iter().filter(|course| !course.ends.is_empty()) {
            let mode = course.mode.name();
            say(&format!("memory with {connections} connections, {mode}"));
            match held(course, *connections) {
                Ok(pss_mb) => run.memory.push(Memory {
                    mode: mode.to_owned(),
                    connections: *connections,
                    pss_mb,
                }),
                Err(error) => {
                    let why = format!("memory with {connections} connections: {error:#}");
                    tell(&format!("NOT MEASURED: {why}"));
                    run.missing.push(missing(mode, None, why));
                }
            }
        }
    }
}

fn held(course: &Course<'_>, connections: u64) -> Result<f64> {
    let client = (connections > 0).then(|| hold(course, connections)).transpose()?;
    settle(SETTLES);
    let pss_mb = course.pss_mb();
    if let Some(mut client) = client {
        let still = client.is_running();
        client.kill()?;
        anyhow::ensure!(still, "{}", client.log_tail(5));
    }
    pss_mb
}

/// A client that holds so many connections: of bytes, or of HTTP where that is what the proxies understand.
fn hold(course: &Course<'_>, connections: u64) -> Result<Process> {
    let program = if course.mode.is_http() {
        FIRST.program
    } else {
        Program::Plain(Kind::Hold)
    };
    let load = Load {
        program,
        connections: usize::try_from(connections)?,
        ..FIRST
    };
    let mut command = course.program(&load, 0.0, 0.0)?;
    if course.mode.is_http() {
        command.arg("--hold");
    }
    let mut client = course.client.spawn(&format!("hold-{connections}"), &mut command)?;
    client
        .wait_for_log("\"event\":\"started\"", PATIENCE)
        .context("they were not opened")?;
    Ok(client)
}
