//! `cargo xtask bench --instructions`: how many instructions the cores' functions take, beside what they took.
//!
//! The benches of the cores run under `valgrind --tool=callgrind`, as the test profile builds them. What they take does not depend on how
//! busy the machine is, so that a test can hold it; it does depend on compiler, C library, valgrind and what the processor can do, and is
//! compared only where these are the same as those of the baseline, a file of the repository.

use super::baseline::{Baseline, Environment, Finding};
use crate::{setup, shell};
use anyhow::{Context, Result, bail, ensure};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::Instant,
};

/// The benches of the cores, by name of the target.
const BENCHES: [&str; 5] = ["allocate", "decide", "evaluate", "routes", "tunnel"];
/// The function whose instructions count, and the variable that asks for it: see `bench/cases`.
const COUNTED: &str = "culvert_bench_cases::counted_rounds";
const COUNT: &str = "CULVERT_COUNT_INSTRUCTIONS";
/// Instead of a comparison, writes a new baseline.
const BLESS: &str = "BLESS";

/// Counts and compares, prints a table, and fails where a function takes more than it may.
pub(super) fn run(json: bool) -> Result<()> {
    setup::ensure_programs(&[("valgrind", "valgrind")], "count instructions")?;
    let programs = build()?;
    let started = Instant::now();
    let found = Baseline {
        environment: environment()?,
        cases: count(&programs)?,
    };
    shell::took("count of instructions", started.elapsed());
    let file = shell::root().join("bench/instructions.json");
    if std::env::var_os(BLESS).is_some_and(|value| !value.is_empty()) {
        let text = serde_json::to_string_pretty(&found)?;
        fs::write(&file, text + "\n").with_context(|| file.display().to_string())?;
        shell::say(&format!("wrote {} cases to {}", found.cases.len(), file.display()));
        return Ok(());
    }
    let text = fs::read_to_string(&file).with_context(|| format!("{}: {BLESS}=1 makes it", file.display()))?;
    let baseline: Baseline = serde_json::from_str(&text).with_context(|| file.display().to_string())?;
    let findings = baseline.compare(&found);
    let differs = baseline.environment.differs_from(&found.environment);
    print(&findings, json)?;
    if let Some(differs) = differs {
        shell::say(&format!("not compared with the baseline: {differs}"));
        return Ok(());
    }
    let rose: Vec<&str> = findings
        .iter()
        .filter(|finding| finding.rose())
        .map(|finding| finding.case.as_str())
        .collect();
    if findings.iter().any(Finding::asks_to_renew) {
        shell::say(&format!(
            "the baseline is out of date: {BLESS}=1 cargo xtask bench --instructions renews it"
        ));
    }
    ensure!(
        rose.is_empty(),
        "more instructions than the baseline allows: {}. If that is what the change is worth, {BLESS}=1 renews the baseline",
        rose.join(", ")
    );
    Ok(())
}

fn print(findings: &[Finding], json: bool) -> Result<()> {
    for finding in findings {
        println!("{finding}");
    }
    if json {
        let cases: BTreeMap<_, _> = findings.iter().map(|finding| (&finding.case, finding.now)).collect();
        println!(
            "{}",
            serde_json::to_string(&serde_json::json!({ "instructions": cases }))?
        );
    }
    Ok(())
}

/// Builds with the features of the whole workspace, as the tests are built, so that nothing is built twice; returns the programs.
fn build() -> Result<Vec<PathBuf>> {
    let mut cargo = shell::cargo();
    cargo.args([
        "build",
        "--workspace",
        "--locked",
        "--message-format=json-render-diagnostics",
    ]);
    for bench in BENCHES {
        cargo.args(["--bench", bench]);
    }
    shell::say("build of the cores' benches");
    let output = cargo.stderr(Stdio::inherit()).output().context("cannot start cargo")?;
    ensure!(output.status.success(), "the benches do not build");
    let said = String::from_utf8_lossy(&output.stdout);
    let programs = said.lines().filter_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        let name = message["target"]["name"].as_str()?;
        let is_bench = message["target"]["kind"].as_array()?.iter().any(|kind| kind == "bench");
        let wanted = is_bench && BENCHES.contains(&name);
        wanted
            .then(|| message["executable"].as_str().map(PathBuf::from))
            .flatten()
    });
    let programs: Vec<_> = programs.collect();
    ensure!(
        programs.len() == BENCHES.len(),
        "cargo built {programs:?} instead of {BENCHES:?}"
    );
    Ok(programs)
}

/// Instructions of one round, by case. The programs run side by side: what they count is their own.
fn count(programs: &[PathBuf]) -> Result<BTreeMap<String, u64>> {
    let folder = shell::target().join("instructions");
    fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let folder = fs::canonicalize(&folder)?;
    let counted: Vec<Result<Vec<(String, u64)>>> = thread::scope(|scope| {
        let folder = &folder;
        let run = |program: &PathBuf| {
            let program = program.clone();
            scope.spawn(move || count_one(&program, folder))
        };
        let threads: Vec<_> = programs.iter().map(run).collect();
        let join =
            |thread: thread::ScopedJoinHandle<'_, _>| thread.join().unwrap_or_else(|_| bail!("a count panicked"));
        threads.into_iter().map(join).collect()
    });
    let mut cases = BTreeMap::new();
    for counted in counted {
        cases.extend(counted?);
    }
    Ok(cases)
}

fn count_one(program: &Path, folder: &Path) -> Result<Vec<(String, u64)>> {
    let name = program.file_name().unwrap_or_default().to_string_lossy();
    let out = folder.join(format!("{name}.out"));
    let mut valgrind = Command::new("valgrind");
    // Nothing of the environment, which lies on the stack that is counted in.
    valgrind
        .env_clear()
        .env(COUNT, "1")
        .current_dir(folder)
        .args(["--quiet", "--tool=callgrind"])
        .arg(format!("--callgrind-out-file={}", out.display()))
        // The same pattern for both would let the second option undo the first (seen with valgrind 3.19).
        .arg(format!("--toggle-collect=*{COUNTED}*"))
        .arg(format!("--dump-after={COUNTED}"))
        .arg(program)
        .arg("--bench");
    let said = shell::output(&mut valgrind)?;
    let mut cases = Vec::new();
    // One file for each time that the function was left, in that order.
    for (number, line) in said.lines().filter_map(|line| line.strip_prefix("case ")).enumerate() {
        let (rounds, case) = line.split_once(' ').with_context(|| format!("{name} said {line:?}"))?;
        let file = folder.join(format!("{name}.out.{}", number + 1));
        let dump = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        let total = dump.lines().find_map(|line| line.strip_prefix("summary: "));
        let total: u64 = total
            .with_context(|| format!("{} has no sum", file.display()))?
            .trim()
            .parse()?;
        ensure!(total > 0, "nothing was counted of {case}");
        cases.push((case.to_owned(), total / rounds.parse::<u64>()?.max(1)));
        fs::remove_file(&file)?;
    }
    fs::remove_file(&out)?;
    ensure!(!cases.is_empty(), "{name} has no cases");
    Ok(cases)
}

/// What counts depend on beside the code.
fn environment() -> Result<Environment> {
    let rustc = shell::output(shell::command("rustc").arg("--version"))?;
    let valgrind = shell::output(Command::new("valgrind").arg("--version"))?;
    let libc = shell::output(Command::new("getconf").arg("GNU_LIBC_VERSION"))?;
    let processor = fs::read_to_string("/proc/cpuinfo").context("/proc/cpuinfo")?;
    Ok(Environment::new(&rustc, &libc, &valgrind, &processor))
}
