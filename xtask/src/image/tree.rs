//! The files of one layer, in memory, and the tar archive made of them.
//!
//! The archive depends on nothing but the files: entries are sorted, belong to root, and date from 1970. So the same files
//! give the same bytes, and images that have a layer in common share it by its digest.

use anyhow::{Context, Result, bail};
use std::{collections::BTreeMap, io::Read};

/// Files, folders and links by their path, which has no `/` in front.
#[derive(Default)]
pub(super) struct Tree {
    entries: BTreeMap<String, Entry>,
}

/// One entry of a [`Tree`].
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// Permission bits.
    pub(super) mode: u32,
    pub(super) content: Content,
}

/// What an [`Entry`] is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Content {
    Folder,
    /// A symbolic link and where it points.
    Link(String),
    File(Vec<u8>),
}

impl Tree {
    /// Adds a folder, or changes the mode of one that is there.
    pub(super) fn folder(&mut self, path: &str, mode: u32) -> Result<()> {
        self.insert(path, mode, Content::Folder)
    }

    /// Adds a file; that another one is there already is an error.
    pub(super) fn file(&mut self, path: &str, mode: u32, bytes: Vec<u8>) -> Result<()> {
        self.insert(path, mode, Content::File(bytes))
    }

    /// Adds a symbolic link.
    pub(super) fn link(&mut self, path: &str, target: &str) -> Result<()> {
        self.insert(path, 0o777, Content::Link(target.to_owned()))
    }

    /// Adds what a tar archive holds, except entries for whose path `keep` says no.
    pub(super) fn add_tar(&mut self, archive: impl Read, keep: impl Fn(&str) -> bool) -> Result<()> {
        for entry in tar::Archive::new(archive).entries()? {
            let mut entry = entry?;
            let path = String::from_utf8(entry.path_bytes().into_owned()).context("a path that is not UTF-8")?;
            let path = path.trim_start_matches("./").trim_end_matches('/').to_owned();
            if path.is_empty() || !keep(&path) {
                continue;
            }
            let mode = entry.header().mode()? & 0o7777;
            match entry.header().entry_type() {
                // Only folders that have something in them: they are made with what is in them, or here when asked for.
                tar::EntryType::Directory => {}
                tar::EntryType::Regular => {
                    let mut bytes = Vec::new();
                    entry.read_to_end(&mut bytes)?;
                    self.file(&path, mode, bytes)?;
                }
                tar::EntryType::Symlink => {
                    let target = entry
                        .link_name()?
                        .with_context(|| format!("{path} is a link to nowhere"))?;
                    let target = target.to_str().context("a link that is not UTF-8")?.to_owned();
                    self.link(&path, &target)?;
                }
                tar::EntryType::Link => {
                    let original = entry
                        .link_name()?
                        .with_context(|| format!("{path} is a link to nowhere"))?;
                    let original = original.to_string_lossy().trim_start_matches("./").to_owned();
                    let Some(Content::File(bytes)) = self.entries.get(&original).map(|entry| &entry.content) else {
                        bail!("{path} is a hard link to {original}, which is not there");
                    };
                    self.file(&path, mode, bytes.clone())?;
                }
                kind => bail!("{path} is a {kind:?}, which an image has no use for"),
            }
        }
        Ok(())
    }

    /// All entries, sorted by path.
    pub(super) fn entries(&self) -> impl Iterator<Item = (&str, &Entry)> {
        self.entries.iter().map(|(path, entry)| (path.as_str(), entry))
    }

    /// How many bytes its files have.
    pub(super) fn size(&self) -> u64 {
        let sizes = self.entries.values().map(|entry| match &entry.content {
            Content::File(bytes) => bytes.len() as u64,
            Content::Folder | Content::Link(_) => 0,
        });
        sizes.sum()
    }

    /// The archive: the same bytes for the same entries, whatever order they were added in.
    pub(super) fn to_tar(&self) -> Result<Vec<u8>> {
        let mut builder = tar::Builder::new(Vec::new());
        for (path, entry) in &self.entries {
            let mut header = tar::Header::new_gnu();
            header.set_mode(entry.mode);
            header.set_uid(0);
            header.set_gid(0);
            header.set_mtime(0);
            header.set_size(0);
            match &entry.content {
                Content::Folder => {
                    header.set_entry_type(tar::EntryType::Directory);
                    builder.append_data(&mut header, format!("{path}/"), std::io::empty())
                }
                Content::Link(target) => {
                    header.set_entry_type(tar::EntryType::Symlink);
                    builder.append_link(&mut header, path, target)
                }
                Content::File(bytes) => {
                    header.set_entry_type(tar::EntryType::Regular);
                    header.set_size(bytes.len() as u64);
                    builder.append_data(&mut header, path, bytes.as_slice())
                }
            }
            .with_context(|| format!("{path} does not go into an archive"))?;
        }
        Ok(builder.into_inner()?)
    }

    fn insert(&mut self, path: &str, mode: u32, content: Content) -> Result<()> {
        let path = path.trim_matches('/');
        if path
            .split('/')
            .any(|part| part.is_empty() || part == "." || part == "..")
        {
            bail!("{path:?} is no path of a file in an image");
        }
        self.make_parents(path)?;
        let entry = Entry { mode, content };
        match self.entries.get_mut(path) {
            Some(there) if there.content == Content::Folder && entry.content == Content::Folder => *there = entry,
            Some(_) => bail!("two files want to be {path}"),
            None => {
                self.entries.insert(path.to_owned(), entry);
            }
        }
        Ok(())
    }

    fn make_parents(&mut self, path: &str) -> Result<()> {
        for (end, _) in path.match_indices('/') {
            let parent = &path[..end];
            let entry = self.entries.entry(parent.to_owned()).or_insert(Entry {
                mode: 0o755,
                content: Content::Folder,
            });
            if entry.content != Content::Folder {
                bail!("{path} is below {parent}, which is not a folder");
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Step = Box<dyn Fn(&mut Tree)>;

    fn sample(reverse: bool) -> Tree {
        let long = format!("usr/{}/file", "a-long-name/".repeat(20).trim_end_matches('/'));
        let mut steps: Vec<Step> = vec![
            Box::new(|tree| tree.folder("/tmp", 0o1777).unwrap()),
            Box::new(|tree| tree.file("/bin/program", 0o755, b"program".to_vec()).unwrap()),
            Box::new(|tree| tree.link("/bin/other", &"../".repeat(60)).unwrap()),
            Box::new(move |tree| tree.file(&long, 0o644, b"deep".to_vec()).unwrap()),
        ];
        if reverse {
            steps.reverse();
        }
        let mut tree = Tree::default();
        for step in steps {
            step(&mut tree);
        }
        tree
    }

    #[test]
    fn the_archive_does_not_depend_on_the_order_of_adding() {
        assert_eq!(sample(false).to_tar().unwrap(), sample(true).to_tar().unwrap());
    }

    #[test]
    fn long_paths_and_links_survive_and_owner_and_time_are_fixed() {
        let archive = sample(false).to_tar().unwrap();
        let mut again = Tree::default();
        again.add_tar(archive.as_slice(), |path| path != "tmp").unwrap();
        again.folder("tmp", 0o1777).unwrap();
        assert!(again.entries().eq(sample(false).entries()));
        for entry in tar::Archive::new(archive.as_slice()).entries().unwrap() {
            let header = entry.unwrap().header().clone();
            let owner = (header.uid().unwrap(), header.gid().unwrap(), header.mtime().unwrap());
            assert_eq!(owner, (0, 0, 0));
        }
    }

    #[test]
    fn folders_come_before_what_is_in_them() {
        let tree = sample(false);
        let paths: Vec<&str> = tree.entries().map(|(path, _)| path).collect();
        assert_eq!(paths[..3], ["bin", "bin/other", "bin/program"]);
    }

    #[test]
    fn paths_that_leave_the_image_and_files_that_collide_are_refused() {
        let mut tree = sample(false);
        for path in ["../etc/passwd", "a/../../b", "", "a//b"] {
            assert!(tree.file(path, 0o644, Vec::new()).is_err(), "{path}");
        }
        assert!(tree.file("bin/program", 0o755, Vec::new()).is_err());
        assert!(tree.file("bin/program/below", 0o755, Vec::new()).is_err());
    }
}
