//! Versions of what is measured, as the programs say them.

use super::options::Options;
use std::{collections::BTreeMap, path::Path, process::Command};

/// By program. One that does not say its version is left out.
pub(super) fn of(options: &Options) -> BTreeMap<String, String> {
    let mut versions = BTreeMap::from([("culvert".to_owned(), env!("CARGO_PKG_VERSION").to_owned())]);
    if let Some(envoy) = &options.envoy
        && let Some(said) = said(envoy, &["--version"])
    {
        // `envoy  version: COMMIT/1.40.0/Clean/RELEASE/BoringSSL`
        let version = said.rsplit("version: ").next().and_then(|rest| rest.split('/').nth(1));
        let version = version.unwrap_or(&said).to_owned();
        versions.insert("envoy".to_owned(), version);
    }
    if let Some(before) = &options.before_version {
        versions.insert("culvert-before".to_owned(), before.clone());
    }
    if let Some(peer) = &options.peer
        && let Some(said) = said(peer, &["version"])
    {
        versions.insert("ztunnel".to_owned(), said);
    }
    versions
}

/// The first line that is not empty.
fn said(program: &Path, arguments: &[&str]) -> Option<String> {
    // Whatever program was named may have other plans than to say its version.
    let output = Command::new("timeout")
        .arg("3")
        .arg(program)
        .args(arguments)
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().find(|line| !line.trim().is_empty())?;
    output.status.success().then(|| line.trim().to_owned())
}
