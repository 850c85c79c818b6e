//! `cargo xtask fuzz`: builds the fuzz targets and lets each run for a while.
//!
//! They are built by the usual compiler: what libFuzzer needs of it (counters of edges, a table of their addresses, traces of
//! comparisons) LLVM adds by options that every release has. `cargo fuzz` asks nightly for sanitizers as well, which find what
//! `unsafe` code does wrong; these targets hold hardly any.

use crate::{ebpf, setup, shell};
use anyhow::{Context as _, Result, bail, ensure};
use std::{
    fs,
    path::PathBuf,
    process::{Command, Stdio},
};

/// What `cargo fuzz` gives the compiler, but for sanitizers.
const FLAGS: [&str; 9] = [
    "--cfg=fuzzing",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Cdebug-assertions",
    "-Coverflow-checks",
    "-Ccodegen-units=1",
];

/// Options of `cargo xtask fuzz`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Only these targets [default: all]
    targets: Vec<String>,
    /// How long each runs, in seconds
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,
}

/// Builds, runs, and fails where a target found something, which it has written down.
pub(crate) fn run(options: &Options) -> Result<()> {
    let known = known()?;
    // Before anything is installed or built.
    let targets = chosen(&known, &options.targets)?;
    setup::ensure_programs(&[("c++", "build-essential")], "build the fuzzer")?;
    // One target takes the agent in, which carries them.
    ebpf::build()?;
    let triple = triple()?;
    let built = shell::target().join("fuzz");
    let mut build = shell::cargo();
    build
        .current_dir(folder())
        .env("RUSTFLAGS", FLAGS.join(" "))
        .env("CARGO_TARGET_DIR", &built)
        .args([
            "build",
            "--release",
            "--locked",
            "--features",
            "agent",
            "--target",
            &triple,
        ]);
    for target in targets {
        build.args(["--bin", target]);
    }
    shell::run("build of the fuzz targets", &mut build)?;
    let mut found = Vec::new();
    for target in targets {
        let program = built.join(&triple).join("release").join(target);
        if !ran(target, program, options.seconds)? {
            found.push(target.as_str());
        }
    }
    println!("{} targets ran, {} found something", targets.len(), found.len());
    if !found.is_empty() {
        bail!("{} found something: see fuzz/artifacts", found.join(", "));
    }
    Ok(())
}

/// The targets that are asked for; all of them where none is.
fn chosen<'a>(known: &'a [String], asked: &'a [String]) -> Result<&'a [String]> {
    for target in asked {
        ensure!(
            known.contains(target),
            "no target {target}; there are: {}",
            known.join(", ")
        );
    }
    Ok(if asked.is_empty() { known } else { asked })
}

/// Whether all targets still compile: they are a workspace of their own, which nothing else builds. What they depend on is in the
/// workspace's folder already, where that was linted: `fuzz/Cargo.toml` asks for the same features and the same profile.
pub(crate) fn check() -> Result<()> {
    let mut check = shell::cargo();
    check
        .current_dir(folder())
        .env("CARGO_TARGET_DIR", shell::root().join(shell::target()))
        .args(["check", "--locked", "--quiet", "--features", "agent"]);
    shell::run("compile check of the fuzz targets", &mut check)
}

/// Lets a target run, and says whether it found nothing.
fn ran(target: &str, program: PathBuf, seconds: u32) -> Result<bool> {
    let corpus = folder().join("corpus").join(target);
    let artifacts = folder().join("artifacts").join(target);
    for folder in [&corpus, &artifacts] {
        fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    shell::say(&format!("{target}: {seconds} s"));
    let mut command = Command::new(program);
    command
        .current_dir(folder())
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-artifact_prefix={}/", artifacts.display()))
        .args([
            "-print_final_stats=1",
            "-verbosity=0",
            "-timeout=10",
            "-rss_limit_mb=2048",
        ])
        .arg(&corpus)
        .stdout(Stdio::null());
    let seeds = folder().join("seeds").join(target);
    if seeds.is_dir() {
        command.arg(seeds);
    }
    let status = command.status().with_context(|| format!("cannot start {target}"))?;
    Ok(status.success())
}

/// The targets' names: each is a file.
fn known() -> Result<Vec<String>> {
    let folder = folder().join("fuzz_targets");
    let entries = fs::read_dir(&folder).with_context(|| folder.display().to_string())?;
    let mut names: Vec<String> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned()))
        .collect();
    names.sort();
    Ok(names)
}

fn folder() -> PathBuf {
    shell::root().join("fuzz")
}

/// What the compiler builds for here. Named, so that what runs while building is built without [`FLAGS`].
fn triple() -> Result<String> {
    let version = shell::output(shell::command("rustc").arg("-vV"))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc -vV names no host")?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::{chosen, known};

    /// Seen: the kernel programs were built, for minutes, before a slip of the finger was told.
    #[test]
    fn a_fuzz_target_that_is_none_is_named_with_those_that_there_are() {
        let known = known().unwrap();
        let asked = ["nosuch".to_owned()];
        let error = chosen(&known, &asked).unwrap_err().to_string();
        assert!(error.contains("nosuch") && error.contains(&known[0]), "{error}");
        assert_eq!(chosen(&known, &[]).unwrap(), known);
    }
}
