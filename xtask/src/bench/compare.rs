//! `cargo xtask bench --compare REVISION`: another revision of this repository beside this one, in turns in one run.
//!
//! The other revision is checked out into a worktree of its own under `target/compare/`, and built there as this one is. What measures is
//! this revision's for both: it starts two meshes on nodes of their own, and sends each load through one and then through the other in
//! each round. The worktree is removed afterwards; its build stays, so that the next comparison is quick.

use super::{Options, release_build};
use crate::{ebpf, setup, shell};
use anyhow::{Context, Result, bail, ensure};
use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// Builds both, and measures.
pub(super) fn run(revision: &str, options: &Options) -> Result<()> {
    let programs = [("cc", "build-essential"), ("ip", "iproute2"), ("git", "git")];
    setup::ensure_programs(&programs, "build and compare two revisions")?;
    let commit = commit(&shell::root(), revision)?;
    let folder = shell::root().join(shell::target()).join("compare");
    std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    if is_dirty(&shell::root())? {
        shell::say("this tree has changes that are not committed: they are measured, too");
    }
    let tree = Worktree::add(&shell::root(), &folder.join("tree"), &commit)?;
    let before =
        build_before(&tree, &folder.join("build")).with_context(|| format!("{revision} ({commit}) does not build"))?;
    ebpf::build()?;
    shell::run("release build", &mut release_build())?;
    let release = shell::root().join(shell::target()).join("release");
    let mut bench = Command::new(release.join("culvert-bench"));
    bench
        .current_dir(shell::root())
        .args(["run", "--modes", "culvert-before,culvert", "--before"])
        .arg(&before)
        .arg("--before-version")
        .arg(&commit);
    if !options.loads.is_empty() {
        bench.args(["--loads", &options.loads.join(",")]);
    }
    bench.arg("--out").arg(options.out.clone().unwrap_or(folder));
    for (wanted, flag) in [(options.quick, "--quick"), (options.json, "--json")] {
        if wanted {
            bench.arg(flag);
        }
    }
    // A child, and not in the place of this program: the worktree has to go afterwards, also when ctrl-C ends the measurement.
    let status = setup::as_root(bench)?.status().context("cannot start culvert-bench")?;
    drop(tree);
    ensure!(status.success(), "the comparison ended with {status}");
    Ok(())
}

/// The commit that a revision is.
fn commit(repository: &Path, revision: &str) -> Result<String> {
    // A revision that begins with a hyphen would be an option.
    let asked = git(repository)
        .args(["rev-parse", "--verify", "--quiet", "--end-of-options"])
        .arg(format!("{revision}^{{commit}}"))
        .output()
        .context("cannot start git")?;
    let commit = String::from_utf8_lossy(&asked.stdout).trim().to_owned();
    ensure!(
        asked.status.success() && !commit.is_empty(),
        "there is no revision {revision:?} in this repository"
    );
    Ok(commit)
}

/// Whether what is built here is something else than the last commit.
fn is_dirty(repository: &Path) -> Result<bool> {
    let status = shell::output(git(repository).args(["status", "--porcelain", "--untracked-files=no"]))?;
    Ok(!status.trim().is_empty())
}

fn git(repository: &Path) -> Command {
    let mut git = shell::command("git");
    git.current_dir(repository);
    git
}

/// Builds kernel programs and programs of the other revision, the way that revision does it, and returns the folder with the programs.
fn build_before(tree: &Worktree, target: &Path) -> Result<PathBuf> {
    let there = |mut command: Command| {
        command.current_dir(&tree.path).env("CARGO_TARGET_DIR", target);
        command
    };
    if !tree.path.join("xtask").is_dir() {
        bail!("it has no chores (xtask) to build its kernel programs with");
    }
    let mut kernel = there(shell::cargo());
    kernel.args(["run", "--quiet", "--locked", "--package", "xtask", "--", "build-ebpf"]);
    shell::run("kernel programs of the other revision", &mut kernel)?;
    shell::run("release build of the other revision", &mut there(release_build()))?;
    Ok(target.join("release"))
}

/// A second working tree of a repository, for as long as this lives.
struct Worktree {
    repository: PathBuf,
    path: PathBuf,
}

impl Worktree {
    /// Checks a commit out. What an earlier run may have left there is removed first.
    fn add(repository: &Path, path: &Path, commit: &str) -> Result<Self> {
        let tree = Self {
            repository: repository.to_owned(),
            path: path.to_owned(),
        };
        tree.remove();
        let mut add = git(repository);
        add.args(["worktree", "add", "--quiet", "--detach"])
            .arg(path)
            .arg(commit);
        shell::output(&mut add).context("cannot check the other revision out")?;
        Ok(tree)
    }

    fn remove(&self) {
        if self.path.exists() {
            let removed = git(&self.repository)
                .args(["worktree", "remove", "--force"])
                .arg(&self.path)
                .stderr(Stdio::null())
                .status();
            if !removed.is_ok_and(|status| status.success())
                && let Err(error) = std::fs::remove_dir_all(&self.path)
            {
                shell::say(&format!("cannot remove {}: {error}", self.path.display()));
            }
        }
        // Of worktrees whose folder is gone.
        let _pruned = git(&self.repository).args(["worktree", "prune"]).status();
    }
}

impl Drop for Worktree {
    fn drop(&mut self) {
        self.remove();
    }
}

#[cfg(test)]
mod tests {
    use super::{Worktree, commit, git, is_dirty};
    use std::path::Path;

    /// A repository with one commit of one file.
    fn repository(path: &Path) -> String {
        std::fs::write(path.join("file"), "first").unwrap();
        for arguments in [
            &["init", "--quiet"][..],
            &["add", "file"],
            &[
                "-c",
                "user.name=a",
                "-c",
                "user.email=a@example.com",
                "commit",
                "--quiet",
                "-m",
                "first",
            ],
            &["tag", "v1"],
        ] {
            assert!(git(path).args(arguments).status().unwrap().success());
        }
        commit(path, "HEAD").unwrap()
    }

    #[test]
    fn a_revision_that_is_not_there_is_said_by_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let first = repository(folder.path());
        assert_eq!(commit(folder.path(), "v1").unwrap(), first);
        for unknown in ["v2", "--help", "", "HEAD~1"] {
            let error = commit(folder.path(), unknown).unwrap_err().to_string();
            assert_eq!(error, format!("there is no revision {unknown:?} in this repository"));
        }
    }

    #[test]
    fn changes_that_are_not_committed_are_seen() {
        let folder = tempfile::tempdir().unwrap();
        repository(folder.path());
        assert!(!is_dirty(folder.path()).unwrap());
        std::fs::write(folder.path().join("file"), "second").unwrap();
        assert!(is_dirty(folder.path()).unwrap());
    }

    #[test]
    fn a_worktree_has_the_revision_and_is_gone_afterwards_even_after_a_run_that_was_killed() {
        let folder = tempfile::tempdir().unwrap();
        let (one, path) = (folder.path().join("one"), folder.path().join("tree"));
        std::fs::create_dir(&one).unwrap();
        let first = repository(&one);
        std::fs::write(one.join("file"), "second").unwrap();
        let killed = Worktree::add(&one, &path, &first).unwrap();
        std::mem::forget(killed);
        let tree = Worktree::add(&one, &path, &first).unwrap();
        assert_eq!(std::fs::read_to_string(path.join("file")).unwrap(), "first");
        drop(tree);
        assert!(!path.exists());
        let left = crate::shell::output(git(&one).args(["worktree", "list"])).unwrap();
        assert_eq!(left.lines().count(), 1, "{left}");
    }
}
