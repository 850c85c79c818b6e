//! Files of manifests that a command is given.

use anyhow::{Context, Result, bail};
use culvert_resources::files::File;
use std::{
    collections::BTreeSet,
    fs,
    io::Read,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// What files of a folder are read, as `kubectl apply -f` does.
const ENDINGS: [&str; 3] = ["yaml", "yml", "json"];

/// Reads files and folders, with all that is below them; `-` is standard input.
///
/// # Errors
/// When one cannot be read, a folder has none, or they hold nothing: then whatever made them has failed.
pub(crate) fn read(paths: &[PathBuf]) -> Result<Vec<File>> {
    let mut files = Vec::new();
    if paths.iter().filter(|path| path.as_os_str() == "-").count() > 1 {
        bail!("-f - is given more than once: standard input can be read once");
    }
    for path in paths {
        if path.as_os_str() == "-" {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).context("standard input")?;
            files.push(File {
                name: "-".to_owned(),
                text,
            });
        } else if path.is_dir() {
            let before = files.len();
            read_folder(path, &mut BTreeSet::new(), &mut files)?;
            if files.len() == before {
                bail!("{} has no file that ends in {}", path.display(), ENDINGS.join(", "));
            }
        } else {
            files.push(read_file(path)?);
        }
    }
    if !files.is_empty() && files.iter().all(is_empty) {
        let names: Vec<&str> = files.iter().map(|file| file.name.as_str()).collect();
        bail!("there is no object in {}", names.join(", "));
    }
    Ok(files)
}

/// Whether a file has nothing but blanks, comments and marks between documents.
fn is_empty(file: &File) -> bool {
    let is_nothing = |line: &str| {
        let line = line.trim_start_matches('\u{feff}').trim();
        line.is_empty() || line.starts_with('#') || matches!(line, "---" | "..." | "null" | "~")
    };
    file.text.lines().all(is_nothing)
}

/// `entered` holds the folders that were read, by device and inode, so that links do not lead in circles.
fn read_folder(folder: &Path, entered: &mut BTreeSet<(u64, u64)>, files: &mut Vec<File>) -> Result<()> {
    let cannot = || format!("cannot read {}", folder.display());
    let metadata = fs::metadata(folder).with_context(cannot)?;
    if !entered.insert((metadata.dev(), metadata.ino())) {
        return Ok(());
    }
    let entries: Result<Vec<_>, _> = fs::read_dir(folder).with_context(cannot)?.collect();
    let mut paths: Vec<PathBuf> = entries.with_context(cannot)?.iter().map(fs::DirEntry::path).collect();
    paths.sort();
    for path in paths {
        let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
        if path.is_dir() {
            read_folder(&path, entered, files)?;
        } else if ENDINGS.contains(&ending) {
            files.push(read_file(&path)?);
        }
    }
    Ok(())
}

fn read_file(path: &Path) -> Result<File> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(File {
        name: path.display().to_string(),
        text,
    })
}

#[cfg(test)]
mod tests {
    use super::read;
    use std::{fs, os::unix::fs::symlink, path::PathBuf};

    #[test]
    fn a_folder_is_read_with_what_is_below_it_and_nothing_but_manifests() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("below")).unwrap();
        for name in ["b.yaml", "a.json", "below/c.yml", "notes.txt"] {
            fs::write(folder.path().join(name), name).unwrap();
        }
        let found = read(&[folder.path().to_owned()]).unwrap();
        let texts: Vec<&str> = found.iter().map(|file| file.text.as_str()).collect();
        assert_eq!(texts, ["a.json", "b.yaml", "below/c.yml"]);
        let empty = tempfile::tempdir().unwrap();
        assert!(read(&[empty.path().to_owned()]).is_err());
        assert!(read(&[folder.path().join("gone.yaml")]).is_err());
    }

    #[test]
    fn a_folder_that_a_link_leads_back_to_is_read_once() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a.yaml"), "a").unwrap();
        symlink(".", folder.path().join("again")).unwrap();
        assert_eq!(read(&[folder.path().to_owned()]).unwrap().len(), 1);
    }

    /// Seen: `helm template ... | culvert analyze -f -` of a chart that fails: nothing was wrong.
    #[test]
    fn files_without_anything_in_them_are_an_error_that_names_them() {
        let folder = tempfile::tempdir().unwrap();
        let (empty, comments) = (folder.path().join("empty.yaml"), folder.path().join("comments.yaml"));
        fs::write(&empty, "").unwrap();
        fs::write(&comments, "# nothing\n---\n\n--- \n").unwrap();
        let error = read(&[empty.clone(), comments.clone()]).unwrap_err().to_string();
        assert!(
            error.contains("empty.yaml") && error.contains("comments.yaml"),
            "{error}"
        );
        fs::write(&comments, "a: 1\n").unwrap();
        assert_eq!(read(&[empty, comments]).unwrap().len(), 2);
    }

    #[test]
    fn standard_input_is_given_once() {
        let error = read(&[PathBuf::from("-"), PathBuf::from("-")]).unwrap_err();
        assert!(error.to_string().contains("-f -"), "{error}");
    }
}
