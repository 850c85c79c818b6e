//! Zipkin, as Maven Central has it: tests send spans to it and look them up. It runs on the Java that other tests need as well.

use crate::{setup, shell};
use anyhow::{Result, ensure};

/// The program without what keeps spans anywhere but in memory. Tests find it by its name (`tests/tests/waypoint_telemetry.rs`).
const ARTIFACT: &str = "io.zipkin:zipkin-server:3.4.4:jar:slim";
const FILE: &str = "zipkin-server-3.4.4-slim.jar";
/// What copies it, by version so that it stays the same.
const COPY: &str = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy";

/// Makes the program present: 44 MB, once.
pub(crate) fn ensure() -> Result<()> {
    let folder = shell::tools().join("zipkin");
    let file = folder.join(FILE);
    if file.is_file() {
        return Ok(());
    }
    setup::ensure_programs(&[("mvn", "maven")], "fetch Zipkin, which receives spans in tests")?;
    let mut maven = shell::command("mvn");
    maven
        .args(["--batch-mode", "--quiet", COPY])
        .arg(format!("-Dartifact={ARTIFACT}"))
        .arg(format!("-DoutputDirectory={}", folder.display()));
    shell::run("fetch Zipkin", &mut maven)?;
    ensure!(file.is_file(), "Maven left no {}", file.display());
    Ok(())
}
