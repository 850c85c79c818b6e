//! Files of manifests that a command is given.

use anyhow::{Context, Result, bail};
use culvert_resources::files::File;
use std::{
    fs,
    io::Read,
    path::{Path, PathBuf},
};

/// What files of a folder are read, as `kubectl apply -f` does.
const ENDINGS: [&str; 3] = ["yaml", "yml", "json"];

/// Reads files and folders, with all that is below them; `-` is standard input.
///
/// # Errors
/// When one cannot be read, or a folder has none.
pub(crate) fn read(paths: &[PathBuf]) -> Result<Vec<File>> {
    let mut files = Vec::new();
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
            read_folder(path, &mut files)?;
            if files.len() == before {
                bail!("{} has no file that ends in {}", path.display(), ENDINGS.join(", "));
            }
        } else {
            files.push(read_file(path)?);
        }
    }
    Ok(files)
}

fn read_folder(folder: &Path, files: &mut Vec<File>) -> Result<()> {
    let cannot = || format!("cannot read {}", folder.display());
    let entries: Result<Vec<_>, _> = fs::read_dir(folder).with_context(cannot)?.collect();
    let mut paths: Vec<PathBuf> = entries.with_context(cannot)?.iter().map(fs::DirEntry::path).collect();
    paths.sort();
    for path in paths {
        let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
        if path.is_dir() {
            read_folder(&path, files)?;
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
    use std::fs;

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
}
