//! Running the suite.

use super::{
    options::Options,
    place::Place,
    programs::{self, Programs},
};
use crate::shell;
use anyhow::{Context as _, Result};
use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Command, Stdio},
    time::Instant,
};

/// Profiles that the suite reports on.
const PROFILES: &str = "MESH-HTTP,MESH-GRPC";

/// Every feature that a test of a mesh asks for.
const FEATURES: &[&str] = &[
    // Core of both profiles.
    "Mesh",
    "HTTPRoute",
    "GRPCRoute",
    // Extended.
    "MeshClusterIPMatching",
    "MeshConsumerRoute",
    "MeshHTTPRouteBackendRequestHeaderModification",
    "MeshHTTPRouteNamedRouteRule",
    "MeshHTTPRouteQueryParamMatching",
    "MeshHTTPRouteRedirectPath",
    "MeshHTTPRouteRedirectPort",
    "MeshHTTPRouteRewritePath",
    "MeshHTTPRouteSchemeRedirect",
    // Of no mesh profile: tests that ask for them run, and are in no report.
    "HTTPRoute303RedirectStatusCode",
    "HTTPRoute307RedirectStatusCode",
    "HTTPRoute308RedirectStatusCode",
    "HTTPRouteParentRefPort",
    "HTTPRouteResponseHeaderModification",
];

/// What `--short` runs: a test of each kind of thing that a route does.
const SHORT: &[&str] = &[
    "MeshBasic",
    "MeshFrontend",
    "MeshGRPCRouteWeight",
    "MeshHTTPRouteMatching",
    "MeshHTTPRouteRedirectHostAndStatus",
    "MeshHTTPRouteRequestHeaderModifier",
    "MeshHTTPRouteWeight",
];

/// Runs the suite, shows which test is under way, and returns all that it printed. That tests failed is no error here.
pub(super) fn run(place: &Place, programs: &Programs, options: &Options, report: &Path) -> Result<String> {
    if report.exists() {
        fs::remove_file(report).with_context(|| format!("cannot remove {}", report.display()))?;
    }
    let log = programs::folder().join(format!("suite-{}.log", options.proxy.name()));
    let mut file = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
    shell::say(&format!("the suite runs; what it prints is in {}", log.display()));
    let started = Instant::now();
    let mut child = command(place, programs, options, report)
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start the suite")?;
    let mut output = String::new();
    let printed = child.stdout.take().context("the suite has no output")?;
    for line in BufReader::new(printed).lines() {
        let line = line.context("cannot read what the suite prints")?;
        writeln!(file, "{line}").with_context(|| format!("cannot write {}", log.display()))?;
        if let Some(test) = begun(&line) {
            shell::say(&format!("{:>4.0} s  {test}", started.elapsed().as_secs_f32()));
        }
        output.push_str(&line);
        output.push('\n');
    }
    child.wait().context("cannot wait for the suite")?;
    shell::took("conformance suite", started.elapsed());
    Ok(output)
}

fn command(place: &Place, programs: &Programs, options: &Options, report: &Path) -> Command {
    let mut suite = Command::new(&programs.suite);
    suite
        .env("KUBECONFIG", place.kubeconfig())
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .args(["-test.v", "-test.timeout=90m"])
        .arg(format!("-test.run={}", selection(options)))
        .args(["-conformance-profiles", PROFILES])
        .args(["-supported-features", &FEATURES.join(",")])
        .args(["-mesh-name", "culvert", "-mode", options.proxy.name()])
        .arg(format!("-cleanup-base-resources={}", place.stays()))
        .arg("-timeout-config-overrides")
        .arg(format!("RequiredConsecutiveSuccesses:{}", options.answers))
        .args(["-organization", "Culvert", "-project", "culvert"])
        .args([
            "-url",
            env!("CARGO_PKG_REPOSITORY"),
            "-version",
            env!("CARGO_PKG_VERSION"),
        ])
        .args(["-contact", env!("CARGO_PKG_REPOSITORY"), "-report-output"])
        .arg(report);
    let labels = place.namespace_labels();
    if !labels.is_empty() {
        suite.args(["-namespace-labels", &labels]);
    }
    suite
}

/// Go's way of saying which tests are to run. What does not run is in no report, other than what is skipped.
fn selection(options: &Options) -> String {
    let chosen = match &options.test {
        Some(test) => format!("/^{test}$"),
        None if options.short => format!("/^({})$", SHORT.join("|")),
        // Tests of a feature that is not among ours skip themselves.
        None => "/^Mesh".to_owned(),
    };
    format!("^TestConformance${chosen}")
}

/// The test that a line says is beginning.
fn begun(line: &str) -> Option<&str> {
    let test = line.strip_prefix("=== RUN   TestConformance/")?;
    (!test.contains('/')).then_some(test)
}

#[cfg(test)]
mod tests {
    use super::begun;

    #[test]
    fn a_test_is_told_of_when_it_begins_and_its_steps_are_not() {
        assert_eq!(begun("=== RUN   TestConformance/MeshBasic"), Some("MeshBasic"));
        assert_eq!(begun("=== RUN   TestConformance/MeshBasic/Send_to_service"), None);
        assert_eq!(begun("=== RUN   TestConformance"), None);
    }
}
