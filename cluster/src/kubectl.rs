//! `kubectl`, with the uses that a test has most often.

use crate::{Error, error::Doing, process, wait};
use std::{
    io::Write as _,
    path::PathBuf,
    process::{Command, Stdio},
    time::Duration,
};

/// `kubectl` of one cluster.
#[derive(Debug, Clone)]
pub struct Kubectl {
    program: PathBuf,
    kubeconfig: PathBuf,
}

impl Kubectl {
    pub(crate) fn new(program: PathBuf, kubeconfig: PathBuf) -> Self {
        Self { program, kubeconfig }
    }

    /// The command without arguments.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        // As an environment variable it also holds for plug-ins, and leaves the arguments to the caller.
        command.env("KUBECONFIG", &self.kubeconfig).stdin(Stdio::null());
        command
    }

    /// Runs it to its end; what it printed.
    ///
    /// # Errors
    /// [`Error::Program`] with its standard error.
    pub fn run(&self, arguments: &[&str]) -> Result<String, Error> {
        process::output(self.command().args(arguments))
    }

    /// Applies manifests, YAML or JSON.
    ///
    /// # Errors
    /// [`Error::Program`] with the API server's objection.
    pub fn apply(&self, manifests: &str) -> Result<(), Error> {
        self.feed(&["apply", "--filename=-"], manifests)
    }

    /// Deletes what manifests name, and waits until it is gone.
    ///
    /// # Errors
    /// [`Error::Program`] with the API server's objection.
    pub fn delete(&self, manifests: &str) -> Result<(), Error> {
        self.feed(&["delete", "--ignore-not-found", "--filename=-"], manifests)
    }

    /// An object, or a list of objects, as JSON: `["pods", "--all-namespaces"]`.
    ///
    /// # Errors
    /// [`Error::Program`] if it is not there.
    pub fn get(&self, arguments: &[&str]) -> Result<serde_json::Value, Error> {
        let text = process::output(self.command().arg("get").args(arguments).arg("--output=json"))?;
        serde_json::from_str(&text).map_err(|source| Error::Record {
            path: arguments.join(" ").into(),
            source,
        })
    }

    fn feed(&self, arguments: &[&str], input: &str) -> Result<(), Error> {
        let shown = format!("kubectl {}", arguments.join(" "));
        let mut child = self
            .command()
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .doing(|| format!("start {shown}"))?;
        if let Some(mut stdin) = child.stdin.take() {
            // It may refuse before it has read everything: then its message says more than the broken pipe.
            let _ = stdin.write_all(input.as_bytes());
        }
        let output = child.wait_with_output().doing(|| format!("wait for {shown}"))?;
        if output.status.success() {
            return Ok(());
        }
        Err(Error::Program {
            program: shown,
            message: format!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim()),
        })
    }

    /// Runs it, and looks every now and then whether it still makes sense to wait for it.
    pub(crate) fn wait(
        &self,
        what: &str,
        timeout: Duration,
        check: &dyn Fn() -> Result<(), Error>,
        arguments: &[&str],
    ) -> Result<(), Error> {
        let mut child = self
            .command()
            .args(arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .doing(|| "start kubectl".into())?;
        let ended = wait::wait_for(what, timeout, || {
            check()?;
            child.try_wait().doing(|| "wait for kubectl".into())
        });
        if ended.is_err() {
            let _ = child.kill();
        }
        let output = child.wait_with_output().doing(|| "wait for kubectl".into())?;
        if ended?.success() {
            return Ok(());
        }
        Err(Error::Timeout {
            what: what.to_owned(),
            after: timeout,
            detail: format!(": {}", String::from_utf8_lossy(&output.stderr).trim()),
        })
    }
}
