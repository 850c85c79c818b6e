//! Debian's package of a kernel: downloaded and unpacked, never installed.

use crate::{setup, shell};
use anyhow::{Context as _, Result, bail};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// A version that tests can run on.
pub(super) struct Version {
    /// As people say it.
    pub(super) name: &'static str,
    /// How the names of its packages begin and end; between them is Debian's number of its binary interface.
    package: (&'static str, &'static str),
    /// What it lacks that this project's tests would otherwise insist on: a variable that is set for them.
    pub(super) lacks: &'static [&'static str],
    /// Tests that do not apply to it, each with its reason.
    pub(super) left_out: &'static [(&'static str, &'static str)],
}

const VERSIONS: [Version; 1] = [Version {
    name: "6.1",
    package: ("linux-image-6.1.0-", "-amd64"),
    // tcx came with 6.6; that `sock_ops` programs may ask for the current cgroup later still.
    lacks: &["CULVERT_TEST_WITHOUT_TCX", "CULVERT_TEST_WITHOUT_CGROUP_IN_SOCK_OPS"],
    left_out: &[(
        "captures_a_fast_open_send_of_multipath_tcp",
        "MSG_FASTOPEN of an MPTCP socket is EOPNOTSUPP before Linux 6.2, without a mesh, too",
    )],
}];

/// A kernel that is ready to boot.
pub(super) struct Kernel {
    /// The package's name.
    pub(super) package: String,
    /// The package's version.
    pub(super) version: String,
    pub(super) image: PathBuf,
    /// The folder of its modules.
    pub(super) modules: PathBuf,
}

impl Version {
    /// The version of this name.
    ///
    /// # Errors
    /// There is none: says which there are.
    pub(super) fn find(name: &str) -> Result<&'static Self> {
        VERSIONS.iter().find(|version| version.name == name).with_context(|| {
            let all: Vec<&str> = VERSIONS.iter().map(|version| version.name).collect();
            format!(
                "no tests can be run on the kernel {name:?}; there are: {}",
                all.join(", ")
            )
        })
    }

    /// Downloads the newest package of the version and unpacks it below `folder`, unless that was done.
    pub(super) fn ensure(&self, folder: &Path) -> Result<Kernel> {
        let (package, version) = match self.newest() {
            Ok(newest) => newest,
            // Lists that are absent.
            Err(_) if setup::is_root() => {
                shell::run(
                    "refresh package lists",
                    shell::command("apt-get").args(["update", "--quiet"]),
                )?;
                self.newest()?
            }
            Err(error) => return Err(error.context("`sudo apt-get update` may help")),
        };
        let unpacked = folder.join(format!("{package}_{}", version.replace(':', "%3a")));
        if !unpacked.is_dir() {
            unpack(&package, &version, folder, &unpacked)?;
        }
        let release = package.trim_start_matches("linux-image-").to_owned();
        Ok(Kernel {
            image: unpacked.join("boot").join(format!("vmlinuz-{release}")),
            modules: unpacked.join("lib/modules").join(&release),
            package,
            version,
        })
    }

    /// Name and version of the newest package.
    fn newest(&self) -> Result<(String, String)> {
        let mut list = shell::command("apt-cache");
        list.env("LC_ALL", "C").args(["pkgnames", self.package.0]);
        let names = shell::output(&mut list)?;
        let newest = newest(&names, self.package)
            .with_context(|| format!("apt knows no package {}*{}", self.package.0, self.package.1))?;
        let mut show = shell::command("apt-cache");
        show.env("LC_ALL", "C").args(["show", "--no-all-versions", &newest]);
        let record = shell::output(&mut show)?;
        let version = record.lines().find_map(|line| line.strip_prefix("Version: "));
        let version = version.with_context(|| format!("apt knows no version of {newest}"))?;
        Ok((newest, version.to_owned()))
    }
}

/// Of packages' names, that with the highest number between these beginnings and ends.
fn newest(names: &str, (start, end): (&str, &str)) -> Option<String> {
    let number = |name: &str| -> Option<u32> { name.strip_prefix(start)?.strip_suffix(end)?.parse().ok() };
    let numbered = names.lines().filter_map(|name| Some((number(name)?, name)));
    numbered.max().map(|(_, name)| name.to_owned())
}

fn unpack(package: &str, version: &str, folder: &Path, unpacked: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let mut download = shell::command("apt-get");
    download
        .current_dir(folder)
        // As root, apt would drop privileges and then not be able to write there.
        .args(["-o", "APT::Sandbox::User=root", "--quiet=2", "download"])
        .arg(format!("{package}={version}"));
    shell::run(&format!("download {package} {version}"), &mut download)?;
    let is_archive = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with(&format!("{package}_")) && name.ends_with(".deb")
    };
    let files = fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let archive = files.flatten().map(|entry| entry.path()).find(is_archive);
    let Some(archive) = archive else {
        bail!("apt-get downloaded no archive of {package} into {}", folder.display());
    };
    // Renamed into place when all of it is there.
    let partial = unpacked.with_extension("partial");
    let mut extract = shell::command("dpkg-deb");
    extract.arg("--extract").args([&archive, &partial]);
    shell::run("unpack the kernel", &mut extract)?;
    let release = package.trim_start_matches("linux-image-");
    // An installation would do that: modules find what they need.
    let mut depmod = Command::new("busybox");
    depmod.arg("depmod").arg("-b").arg(&partial).arg(release);
    shell::run("index its modules", &mut depmod)?;
    fs::rename(&partial, unpacked).with_context(|| format!("cannot make {}", unpacked.display()))?;
    fs::remove_file(&archive).with_context(|| format!("cannot remove {}", archive.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_package_is_that_with_the_highest_number_and_no_variant() {
        let names = "linux-image-6.1.0-9-amd64\nlinux-image-6.1.0-57-amd64\nlinux-image-6.1.0-58-cloud-amd64\n\
                     linux-image-6.1.0-57-amd64-dbg\nlinux-image-6.1.0-60-rt-amd64\n";
        let newest = |names| newest(names, VERSIONS[0].package);
        assert_eq!(newest(names).as_deref(), Some("linux-image-6.1.0-57-amd64"));
        assert_eq!(newest("linux-image-amd64\n"), None);
    }

    #[test]
    fn a_version_that_there_is_not_is_refused_with_those_that_there_are() {
        let Err(error) = Version::find("4.9") else {
            panic!("there is none")
        };
        let said = error.to_string();
        assert!(said.contains("\"4.9\"") && said.contains("there are: 6.1"), "{said}");
    }
}
