//! Container images of two programs that every cluster needs, `pause` and CoreDNS, made without a registry.
//!
//! An image is one layer in a "docker archive", which containerd imports. The same program gives the same bytes.

use crate::{Error, error::Doing, process};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::Command,
};

/// Name of the image that holds each pod's namespaces.
pub(crate) const PAUSE: &str = "cluster.local/pause:1";
/// Name of CoreDNS's image.
pub(crate) const COREDNS: &str = "cluster.local/coredns:1";

/// Makes the archives in `folder` where they are missing or older than their program; their paths.
pub(crate) fn ensure(folder: &Path, launcher: &Path, coredns: &Path) -> Result<Vec<PathBuf>, Error> {
    fs::create_dir_all(folder).doing(|| format!("make {}", folder.display()))?;
    let pause = launcher.with_file_name("culvert-pause");
    let wanted = [(PAUSE, pause.as_path(), "pause.tar"), (COREDNS, coredns, "coredns.tar")];
    let mut archives = Vec::new();
    for (name, program, file) in wanted {
        let archive = folder.join(file);
        if !is_newer(&archive, program)? {
            write(name, program, &archive)?;
        }
        archives.push(archive);
    }
    Ok(archives)
}

fn is_newer(archive: &Path, program: &Path) -> Result<bool, Error> {
    let changed = |path: &Path| path.metadata().and_then(|metadata| metadata.modified());
    let program_changed = changed(program).map_err(|_| Error::Missing {
        path: program.to_path_buf(),
        remedy: "`cargo xtask cluster` builds every program of a cluster",
    })?;
    Ok(changed(archive).is_ok_and(|archive| archive > program_changed))
}

/// Writes the image of one program and the shared libraries that it needs.
fn write(name: &str, program: &Path, archive: &Path) -> Result<(), Error> {
    let doing = || format!("write the image {}", archive.display());
    let base = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut files = vec![(base.clone(), program.to_path_buf())];
    files.extend(
        libraries(program)?
            .into_iter()
            .map(|library| (library.trim_start_matches('/').to_owned(), library.into())),
    );
    let layer = layer(&files).doing(doing)?;
    let digest = format!("{:x}", Sha256::digest(&layer));
    let epoch = "1970-01-01T00:00:00Z";
    let config = json!({
        "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
        "os": "linux",
        "created": epoch,
        "config": {"Entrypoint": [format!("/{base}")]},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{digest}")]},
        "history": [{"created": epoch, "created_by": "culvert-cluster"}],
    })
    .to_string();
    let config_name = format!("{:x}.json", Sha256::digest(&config));
    let layer_name = format!("{digest}/layer.tar");
    let manifest = json!([{"Config": config_name, "RepoTags": [name], "Layers": [layer_name]}]).to_string();
    let mut tar = tar::Builder::new(Vec::new());
    for (name, bytes) in [
        (config_name.as_str(), config.as_bytes()),
        (&layer_name, &layer),
        ("manifest.json", manifest.as_bytes()),
    ] {
        append(&mut tar, name, 0o644, bytes).doing(doing)?;
    }
    let bytes = tar.into_inner().doing(doing)?;
    // Another cluster may be doing the same: whoever renames last wins, with the same bytes.
    let unfinished = archive.with_extension(format!("{}.tmp", std::process::id()));
    File::create(&unfinished)
        .and_then(|mut file| file.write_all(&bytes))
        .and_then(|()| fs::rename(&unfinished, archive))
        .doing(doing)
}

fn layer(files: &[(String, PathBuf)]) -> io::Result<Vec<u8>> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, path) in files {
        append(&mut tar, name, 0o755, &fs::read(path)?)?;
    }
    tar.into_inner()
}

fn append(tar: &mut tar::Builder<Vec<u8>>, name: &str, mode: u32, bytes: &[u8]) -> io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes.len() as u64);
    header.set_mode(mode);
    header.set_mtime(0);
    tar.append_data(&mut header, name, bytes)
}

/// The shared libraries of a program, as the dynamic linker finds them here; none of a static program.
fn libraries(program: &Path) -> Result<Vec<String>, Error> {
    let listed = match process::output(Command::new("ldd").arg(program)) {
        Ok(listed) => listed,
        Err(Error::Program { message, .. }) if message.contains("not a dynamic executable") => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    Ok(listed
        .split_whitespace()
        .filter(|word| word.starts_with('/'))
        .map(str::to_owned)
        .collect())
}
