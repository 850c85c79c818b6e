//! Layers: trees of files as archives that are known by their digests.

use super::{
    catalogue::{Base, Recipe},
    debian::Package,
    digest,
    profile::Profile,
    tree::Tree,
};
use crate::shell;
use anyhow::{Context, Result, bail};
use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    path::PathBuf,
    process::{Command, Stdio},
};

/// A layer, ready to be put into any number of images.
pub(super) struct Layer {
    /// What it was made from.
    pub(super) tree: Tree,
    /// SHA-256 of the archive before compression.
    pub(super) diff_id: String,
    /// The archive as it is stored.
    pub(super) blob: Vec<u8>,
    /// SHA-256 of `blob`.
    pub(super) sha256: String,
    pub(super) compressed: bool,
    /// A line for the image's history.
    pub(super) made_of: String,
}

impl Layer {
    /// Makes the layer's archive: compressed for a release, and plain otherwise, because a test imports it at once.
    pub(super) fn new(tree: Tree, made_of: String, profile: Profile) -> Result<Self> {
        let archive = tree.to_tar()?;
        let diff_id = digest::sha256(&archive);
        let compressed = profile == Profile::Release;
        let blob = if compressed { gzip(&archive)? } else { archive };
        Ok(Self {
            tree,
            diff_id,
            sha256: digest::sha256(&blob),
            blob,
            compressed,
            made_of,
        })
    }

    /// A layer of Debian packages, of which `packages` has all.
    pub(super) fn of_packages(base: &Base, packages: &[Package], profile: Profile) -> Result<Self> {
        let mut tree = Tree::default();
        tree.folder("tmp", 0o1777)?;
        let mut versions = Vec::new();
        for wanted in base.packages {
            let package = packages
                .iter()
                .find(|package| package.name == wanted.name)
                .with_context(|| format!("{} was not fetched", wanted.name))?;
            package.unpack(&mut tree, wanted.only, wanted.without)?;
            versions.push(format!("{} {}", package.name, package.version));
        }
        for (path, text) in base.texts {
            tree.file(path, 0o644, text.as_bytes().to_vec())?;
        }
        for (path, target) in base.links {
            tree.link(path, target)?;
        }
        let made_of = format!("Debian packages: {}", versions.join(", "));
        Self::new(tree, made_of, profile).with_context(|| format!("layer {}", base.name))
    }

    /// The layer that an image has for itself: programs, which `built` finds, and files of the repository.
    pub(super) fn of_recipe(recipe: &Recipe, built: &BTreeMap<&str, PathBuf>, profile: Profile) -> Result<Self> {
        let mut tree = Tree::default();
        for program in recipe.programs {
            let file = built
                .get(program.binary)
                .with_context(|| format!("{} was not built", program.binary))?;
            let bytes = fs::read(file).with_context(|| format!("no program at {}", file.display()))?;
            tree.file(program.path, 0o755, bytes)?;
        }
        for (from, to) in recipe.files {
            let file = shell::root().join(from);
            let bytes = fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
            tree.file(to, 0o644, bytes)?;
        }
        Self::new(tree, format!("Culvert: {}", recipe.name), profile)
    }
}

/// Compresses with the system's gzip, without name and time.
fn gzip(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut child = Command::new("gzip")
        .args(["--no-name", "--stdout", "-6"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start gzip")?;
    let mut input = child.stdin.take().context("gzip has no input")?;
    let output = std::thread::scope(|scope| {
        // Written beside reading: both pipes are shorter than what goes through them.
        let written = scope.spawn(move || input.write_all(bytes));
        let output = child.wait_with_output();
        let written = written.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        output.and_then(|output| written.map(|()| output))
    })
    .context("cannot compress with gzip")?;
    if !output.status.success() {
        bail!("gzip ended with {}", output.status);
    }
    Ok(output.stdout)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::catalogue::RECIPES;

    fn tree() -> Tree {
        let mut tree = Tree::default();
        tree.file("app/file", 0o644, b"text ".repeat(50_000)).unwrap();
        tree
    }

    #[test]
    fn compressing_changes_the_blob_and_not_the_identity_and_repeats_exactly() {
        let [plain, packed, again] = [Profile::Dev, Profile::Release, Profile::Release]
            .map(|profile| Layer::new(tree(), String::new(), profile).unwrap());
        assert_eq!(plain.sha256, plain.diff_id);
        assert_eq!(plain.diff_id, packed.diff_id);
        assert!(packed.blob.len() < plain.blob.len() / 10);
        assert_eq!(packed.sha256, again.sha256);
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let agent = RECIPES.iter().find(|recipe| recipe.name == "agent").unwrap();
        let nowhere = BTreeMap::from([("culvert-agent", PathBuf::from("/nowhere/culvert-agent"))]);
        let said = |built| format!("{:#}", Layer::of_recipe(agent, built, Profile::Dev).err().unwrap());
        assert!(said(&nowhere).starts_with("no program at /nowhere/culvert-agent"));
        assert_eq!(said(&BTreeMap::new()), "culvert-agent was not built");
    }
}
