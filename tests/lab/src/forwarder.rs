//! Services before there is a mesh: a program on each node that listens at their virtual addresses.
//!
//! `bin/culvert-lab-services.rs` is the program. It gets the whole table, as one line of JSON, each time that something
//! changes: an object from "address:port" to a list of the same. It lives on with the last one when the line closes.

use crate::{node::Node, process::Process, sockets};
use anyhow::{Context, Result, bail};
use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, PipeReader, PipeWriter, Write},
    net::SocketAddr,
    process::Command,
};

/// A node's forwarder.
#[derive(Debug)]
pub(crate) struct Forwarder {
    process: Process,
    tell: PipeWriter,
    answers: BufReader<PipeReader>,
}

impl Forwarder {
    pub(crate) fn start(node: &Node) -> Result<Self> {
        let (theirs, tell) = std::io::pipe().context("pipe")?;
        let (answers, answer) = std::io::pipe().context("pipe")?;
        let mut command = Command::new(sockets::program("culvert-lab-services")?);
        let process = node.spawn_piped("services", "agent", &mut command, theirs.into(), answer.into())?;
        Ok(Self {
            process,
            tell,
            answers: BufReader::new(answers),
        })
    }

    /// Makes this table the one in force, and waits until it is.
    pub(crate) fn tell(&mut self, table: &BTreeMap<SocketAddr, Vec<SocketAddr>>) -> Result<()> {
        let line = serde_json::to_string(table).context("write JSON")? + "\n";
        let mut answer = String::new();
        let talked = self
            .tell
            .write_all(line.as_bytes())
            .and_then(|()| self.answers.read_line(&mut answer));
        talked.with_context(|| format!("{}:\n{}", self.process.name(), self.process.log_tail(5)))?;
        if answer != "ok\n" {
            bail!(
                "{}: {}\n{}",
                self.process.name(),
                answer.trim(),
                self.process.log_tail(5)
            );
        }
        Ok(())
    }
}
