//! The program `culvert`, asked about a namespace of a test.

use crate::Space;
use serde_json::Value;
use std::process::Output;

impl Space<'_> {
    /// Runs `culvert` with these arguments and the namespace.
    pub fn culvert(&self, arguments: &[&str]) -> Output {
        let mut command = self.world().culvert();
        command.args(arguments).args(["--namespace", self.name()]);
        command.output().unwrap()
    }

    /// What `culvert ARGUMENTS -o json` prints, whatever its exit code: the command need not know of namespaces.
    pub fn culvert_json(&self, arguments: &[&str]) -> Value {
        let mut command = self.world().culvert();
        let output = command.args(arguments).args(["-o", "json"]).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        serde_json::from_slice(&output.stdout).unwrap_or_else(|fault| panic!("{arguments:?}: {fault}: {error}"))
    }

    /// Makes a waypoint, and waits until it serves.
    pub fn waypoint(&self, name: &str) {
        let output = self.culvert(&["waypoint", "apply", name, "--wait"]);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{error}");
    }
}
