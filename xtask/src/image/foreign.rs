//! Images of programs that are not ours, under the names that the manifests of others have for them.

use super::{digest, tree::Tree};
use anyhow::{Context as _, Result};
use serde_json::json;
use std::{fs, path::Path};

/// What is in an image.
pub(crate) struct Foreign<'a> {
    /// As a manifest names it.
    pub(crate) reference: &'a str,
    /// The program that a container starts; its arguments come from the pod.
    pub(crate) entrypoint: &'a str,
    /// Path without a `/` in front, permission bits, bytes.
    pub(crate) files: Vec<(&'a str, u32, Vec<u8>)>,
}

/// Writes it as an archive that container runtimes import: one layer in Docker's format.
pub(crate) fn write(archive: &Path, image: &Foreign<'_>) -> Result<()> {
    let mut tree = Tree::default();
    tree.folder("tmp", 0o1777)?;
    for (path, mode, bytes) in &image.files {
        tree.file(path, *mode, bytes.clone())?;
    }
    let layer = tree.to_tar()?;
    let sum = digest::sha256(&layer);
    let config = json!({
        "architecture": super::Platform::host().architecture(),
        "os": "linux",
        "config": {
            "Entrypoint": [image.entrypoint],
            "Env": ["PATH=/usr/local/bin:/usr/bin:/bin"],
            "WorkingDir": "/",
        },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{sum}")] },
    });
    let config = config.to_string();
    let names = (
        format!("{}.json", digest::sha256(config.as_bytes())),
        format!("{sum}/layer.tar"),
    );
    let manifest = json!([{ "Config": names.0, "RepoTags": [image.reference], "Layers": [names.1] }]);
    let mut files = Tree::default();
    files.file(&names.0, 0o644, config.into_bytes())?;
    files.file(&names.1, 0o644, layer)?;
    files.file("manifest.json", 0o644, manifest.to_string().into_bytes())?;
    let folder = archive.parent().context("an archive has a folder")?;
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    super::write(archive, &files.to_tar()?)
}

#[cfg(test)]
mod tests {
    use super::{Foreign, write};
    use std::io::Read as _;

    #[test]
    fn an_image_has_the_name_that_the_manifest_asks_for_and_the_files_below_it() {
        let folder = tempfile::tempdir().unwrap();
        let archive = folder.path().join("images/echo.tar");
        let image = Foreign {
            reference: "registry.example/echo:v1",
            entrypoint: "/server",
            files: vec![("server", 0o755, b"program".to_vec())],
        };
        write(&archive, &image).unwrap();
        let bytes = std::fs::read(&archive).unwrap();
        let mut manifest = String::new();
        for entry in tar::Archive::new(bytes.as_slice()).entries().unwrap() {
            let mut entry = entry.unwrap();
            if entry.path().unwrap().ends_with("manifest.json") {
                entry.read_to_string(&mut manifest).unwrap();
            }
        }
        let manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap();
        assert_eq!(manifest[0]["RepoTags"][0], "registry.example/echo:v1");
    }
}
