//! What came of a run: the suite's own counts of each profile, and what no profile counts.

use super::options::Proxy;
use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::{collections::BTreeMap, fmt};

/// How many tests passed, failed, and did not run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Counts {
    passed: u32,
    failed: u32,
    skipped: u32,
}

/// A profile's counts.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
struct Levels {
    core: Counts,
    extended: Counts,
}

/// What became of a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Passed,
    Failed,
    Skipped,
}

/// What came of a run.
#[derive(Debug)]
pub(super) struct Report {
    /// By the profile's name in small letters.
    profiles: BTreeMap<String, Levels>,
    /// Every test of a mesh that ran or was skipped, also those that no profile counts.
    tests: BTreeMap<String, Outcome>,
}

/// The suite's report, as far as it is read here.
#[derive(Deserialize)]
struct File {
    /// None when the suite gave up before its first test.
    profiles: Option<Vec<Profile>>,
}

#[derive(Deserialize)]
struct Profile {
    name: String,
    core: Level,
    extended: Option<Level>,
}

#[derive(Deserialize)]
struct Level {
    statistics: Statistics,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Statistics {
    passed: u32,
    failed: u32,
    skipped: u32,
}

impl Report {
    /// Reads the suite's report and its output.
    pub(super) fn read(report: &str, output: &str) -> Result<Self> {
        let file: File = serde_yaml_ng::from_str(report).context("the suite's report is not as expected")?;
        let profiles = file.profiles.into_iter().flatten().map(|profile| {
            let extended = profile.extended.map(|level| level.counts()).unwrap_or_default();
            let levels = Levels {
                core: profile.core.counts(),
                extended,
            };
            (profile.name.to_lowercase(), levels)
        });
        let tests: BTreeMap<_, _> = output.lines().filter_map(ended).collect();
        ensure!(!tests.is_empty(), "the suite ran no test");
        Ok(Self {
            profiles: profiles.collect(),
            tests,
        })
    }

    /// Whether every test passed, and none was skipped.
    pub(super) fn is_clean(&self) -> bool {
        let all = self
            .profiles
            .values()
            .flat_map(|levels| [&levels.core, &levels.extended]);
        let clean = |counts: &Counts| counts.failed == 0 && counts.skipped == 0;
        all.into_iter().all(clean) && clean(&self.all())
    }

    /// How many tests were chosen, and how many of them failed or were skipped.
    pub(super) fn ran_and_failed(&self) -> (u32, u32) {
        let Counts {
            passed,
            failed,
            skipped,
        } = self.all();
        (passed + failed + skipped, failed + skipped)
    }

    /// One line for programs.
    pub(super) fn json(&self, proxy: Proxy) -> String {
        let mut line = json!(self.profiles);
        let failed: Vec<&str> = self.of(Outcome::Failed).collect();
        line["all"] = json!(self.all());
        line["failed"] = json!(failed);
        line["proxy"] = json!(proxy.name());
        line.to_string()
    }

    /// Counts of every test, whichever profile it is of.
    fn all(&self) -> Counts {
        let count = |outcome| u32::try_from(self.of(outcome).count()).unwrap_or(u32::MAX);
        Counts {
            passed: count(Outcome::Passed),
            failed: count(Outcome::Failed),
            skipped: count(Outcome::Skipped),
        }
    }

    fn of(&self, outcome: Outcome) -> impl Iterator<Item = &str> {
        self.tests
            .iter()
            .filter(move |(_, is)| **is == outcome)
            .map(|(name, _)| name.as_str())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, outcome) in &self.tests {
            let outcome = match outcome {
                Outcome::Passed => "passed",
                Outcome::Failed => "FAILED",
                Outcome::Skipped => "SKIPPED",
            };
            writeln!(f, "  {outcome:<8} {name}")?;
        }
        for (profile, levels) in &self.profiles {
            writeln!(f, "  {profile:<10} core {}; extended {}", levels.core, levels.extended)?;
        }
        write!(f, "  {:<10} {}", "all", self.all())
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            passed,
            failed,
            skipped,
        } = self;
        write!(f, "{passed} passed, {failed} failed, {skipped} skipped")
    }
}

impl Level {
    fn counts(self) -> Counts {
        let Statistics {
            passed,
            failed,
            skipped,
        } = self.statistics;
        Counts {
            passed,
            failed,
            skipped,
        }
    }
}

/// The test of a mesh that a line says has ended, and how. Its steps are not told of here, nor tests of gateways.
fn ended(line: &str) -> Option<(String, Outcome)> {
    let (outcome, test) = line
        .trim_start()
        .strip_prefix("--- ")?
        .split_once(": TestConformance/")?;
    let outcome = match outcome {
        "PASS" => Outcome::Passed,
        "FAIL" => Outcome::Failed,
        "SKIP" => Outcome::Skipped,
        _ => return None,
    };
    let name = test.split(' ').next()?;
    (name.starts_with("Mesh") && !name.contains('/')).then(|| (name.to_owned(), outcome))
}

#[cfg(test)]
mod tests {
    use super::{Proxy, Report};

    const REPORT: &str = "\
apiVersion: gateway.networking.k8s.io/v1
kind: ConformanceReport
profiles:
- core:
    failedTests: [MeshHTTPRouteWeight]
    result: failure
    statistics: {Failed: 1, Passed: 6, Skipped: 0}
  extended:
    result: success
    statistics: {Failed: 0, Passed: 7, Skipped: 0}
    supportedFeatures: [MeshConsumerRoute]
  name: MESH-HTTP
- core:
    result: success
    statistics: {Failed: 0, Passed: 2, Skipped: 0}
  name: MESH-GRPC
";

    const OUTPUT: &str = "\
--- FAIL: TestConformance (90.00s)
    --- PASS: TestConformance/MeshBasic (0.50s)
        --- PASS: TestConformance/MeshBasic/Send_to_service (0.40s)
    --- FAIL: TestConformance/MeshHTTPRouteWeight (30.00s)
    --- SKIP: TestConformance/MeshPorts (0.00s)
    --- SKIP: TestConformance/GatewayInfrastructure (0.00s)
";

    #[test]
    fn the_counts_are_those_of_the_report_and_tests_of_no_profile_are_counted_beside() {
        let report = Report::read(REPORT, OUTPUT).unwrap();
        let line: serde_json::Value = serde_json::from_str(&report.json(Proxy::Culvert)).unwrap();
        assert_eq!(
            line,
            serde_json::json!({
                "mesh-http": {
                    "core": { "passed": 6, "failed": 1, "skipped": 0 },
                    "extended": { "passed": 7, "failed": 0, "skipped": 0 },
                },
                "mesh-grpc": {
                    "core": { "passed": 2, "failed": 0, "skipped": 0 },
                    "extended": { "passed": 0, "failed": 0, "skipped": 0 },
                },
                "all": { "passed": 1, "failed": 1, "skipped": 1 },
                "failed": ["MeshHTTPRouteWeight"],
                "proxy": "culvert",
            })
        );
        assert!(!report.is_clean());
    }

    #[test]
    fn a_test_that_is_skipped_is_no_success() {
        let passed = REPORT.replace("Failed: 1", "Failed: 0");
        let clean = Report::read(&passed, "    --- PASS: TestConformance/MeshBasic (0.50s)\n").unwrap();
        assert!(clean.is_clean());
        let skipped = Report::read(&passed, "    --- SKIP: TestConformance/MeshBasic (0.50s)\n").unwrap();
        assert!(!skipped.is_clean());
    }

    #[test]
    fn a_run_without_tests_is_an_error() {
        assert!(Report::read(REPORT, "PASS\n").is_err());
        let none = Report::read("profiles: null", "FAIL\n").unwrap_err().to_string();
        assert_eq!(none, "the suite ran no test");
        assert!(Report::read("profiles: 3", OUTPUT).is_err());
    }
}
