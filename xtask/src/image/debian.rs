//! Debian packages, from which the base of every image is made.
//!
//! The versions are those that apt would install on this machine, so that programs built here find the libraries that they
//! were linked with. Packages are kept in `target/images/cache` and checked against apt's own lists each time.

use super::{digest, platform::Platform, tree::Tree};
use crate::shell;
use anyhow::{Context, Result, bail};
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// A package in the cache.
#[derive(Debug, Clone)]
pub(super) struct Package {
    pub(super) name: String,
    pub(super) version: String,
    pub(super) architecture: String,
    /// The source package, where its name differs.
    pub(super) source: Option<String>,
    pub(super) sha256: String,
    /// Where the archive is.
    pub(super) file: PathBuf,
}

/// What nobody reads in an image; licences stay.
const LEFT_OUT: [&str; 7] = [
    "usr/share/bash-completion/",
    "usr/share/binfmts/",
    "usr/share/lintian/",
    "usr/share/locale/",
    "usr/share/man/",
    "usr/share/bug/",
    "usr/share/applications/",
];

/// Where packages for one platform come from.
pub(super) struct Archive {
    cache: PathBuf,
    /// What apt is told so that it works for the platform; nothing for this machine's own.
    options: Vec<String>,
}

impl Archive {
    /// The packages for a platform. For another than this machine's, apt has lists of its own below `images`, and the system's
    /// configuration stays as it is.
    pub(super) fn of(platform: Platform, images: &Path) -> Result<Self> {
        let mut options = Vec::new();
        if !platform.is_host() {
            let state = images.join("apt").join(platform.architecture());
            for folder in ["lists/partial", "cache/archives/partial"] {
                let folder = state.join(folder);
                fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
            }
            let status = state.join("status");
            fs::write(&status, "").with_context(|| format!("cannot write {}", status.display()))?;
            let architecture = platform.architecture();
            for option in [
                format!("Dir::State={}", state.display()),
                format!("Dir::State::lists={}", state.join("lists").display()),
                format!("Dir::State::status={}", status.display()),
                format!("Dir::Cache={}", state.join("cache").display()),
                format!("APT::Architecture={architecture}"),
                format!("APT::Architectures={architecture}"),
                // As root, apt would drop privileges and then not be able to write there.
                "APT::Sandbox::User=root".to_owned(),
            ] {
                options.extend(["-o".to_owned(), option]);
            }
        }
        Ok(Self {
            cache: images.join("cache"),
            options,
        })
    }

    /// Brings packages into the cache, and returns them in the order of their names.
    pub(super) fn fetch(&self, names: &[&str]) -> Result<Vec<Package>> {
        for program in ["apt-cache", "apt-get", "dpkg-deb"] {
            if !shell::on_path(program) {
                bail!(
                    "{program} is needed to fetch the images' base: make images on Debian or a system derived from it"
                );
            }
        }
        fs::create_dir_all(&self.cache).with_context(|| format!("cannot make {}", self.cache.display()))?;
        let attempt = || self.known(names).and_then(|packages| self.download(packages));
        match attempt() {
            Ok(packages) => Ok(packages),
            // Lists that are absent, or so old that the server has newer versions only.
            Err(error) if crate::setup::is_root() || !self.options.is_empty() => {
                shell::say(&format!("apt's lists are refreshed, because {error:#}"));
                shell::run("refresh package lists", self.apt("apt-get").args(["update", "--quiet"]))?;
                attempt()
            }
            Err(error) => Err(error.context("`sudo apt-get update` may help")),
        }
    }

    fn apt(&self, program: &str) -> Command {
        let mut command = shell::command(program);
        command.args(&self.options).env("LC_ALL", "C");
        command
    }

    /// What apt knows of the packages.
    fn known(&self, names: &[&str]) -> Result<Vec<Package>> {
        let mut query = self.apt("apt-cache");
        query.args(["show", "--no-all-versions"]).args(names);
        let text = shell::output(&mut query)?;
        let records: Vec<Record<'_>> = text.split("\n\n").filter_map(Record::parse).collect();
        let mut packages = names
            .iter()
            .map(|name| {
                let record = records
                    .iter()
                    .find(|record| record.field("Package") == Some(name))
                    .with_context(|| format!("apt does not know the package {name}"))?;
                record.package(name, &self.cache)
            })
            .collect::<Result<Vec<_>>>()?;
        packages.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(packages)
    }

    /// Downloads what is not in the cache.
    fn download(&self, packages: Vec<Package>) -> Result<Vec<Package>> {
        let missing: Vec<&Package> = packages.iter().filter(|package| !package.is_in_cache()).collect();
        if missing.is_empty() {
            return Ok(packages);
        }
        let mut apt = self.apt("apt-get");
        apt.current_dir(&self.cache)
            .args(["-o", "APT::Sandbox::User=root", "--quiet=2", "download"]);
        for package in &missing {
            apt.arg(format!("{}:{}={}", package.name, package.architecture, package.version));
        }
        let list: Vec<&str> = missing.iter().map(|package| package.name.as_str()).collect();
        shell::say(&format!(
            "downloading Debian packages for the images: {}",
            list.join(" ")
        ));
        shell::output(&mut apt)?;
        for package in missing {
            if !package.is_in_cache() {
                bail!(
                    "{} is absent or not what apt's lists promise, though apt downloaded it",
                    package.file.display()
                );
            }
        }
        Ok(packages)
    }
}

impl Package {
    /// Adds the package's files to a tree: all but what nobody needs, or only those below the paths in `only`, if there are any.
    pub(super) fn unpack(&self, tree: &mut Tree, only: &[&str], without: &[&str]) -> Result<()> {
        let what = || format!("cannot unpack {}", self.file.display());
        let mut child = Command::new("dpkg-deb")
            .arg("--fsys-tarfile")
            .arg(&self.file)
            .stdout(Stdio::piped())
            .spawn()
            .with_context(what)?;
        let archive = child.stdout.take().with_context(what)?;
        let added = tree.add_tar(archive, |path| {
            let wanted = only.is_empty() || only.iter().any(|prefix| path.starts_with(prefix));
            wanted && is_of_use(path) && !without.iter().any(|prefix| path.starts_with(prefix))
        });
        let status = child.wait().with_context(what)?;
        added.with_context(what)?;
        if !status.success() {
            bail!("{}: dpkg-deb ended with {status}", what());
        }
        // Where scanners look for the packages of an image that has no package manager.
        let control = shell::output(Command::new("dpkg-deb").arg("--field").arg(&self.file))?;
        tree.file(
            &format!("var/lib/dpkg/status.d/{}", self.name),
            0o644,
            control.into_bytes(),
        )
    }
}

fn is_of_use(path: &str) -> bool {
    if let Some(document) = path.strip_prefix("usr/share/doc/") {
        // A package's folder may be a link to that of another one.
        return !document.contains('/') || document.ends_with("/copyright");
    }
    !LEFT_OUT.iter().any(|prefix| path.starts_with(prefix))
}

impl Package {
    fn is_in_cache(&self) -> bool {
        fs::read(&self.file).is_ok_and(|bytes| digest::sha256(&bytes) == self.sha256)
    }
}

/// One paragraph of `Field: value` lines.
struct Record<'a>(Vec<(&'a str, &'a str)>);

impl<'a> Record<'a> {
    fn parse(paragraph: &'a str) -> Option<Self> {
        let fields: Vec<_> = paragraph
            .lines()
            .filter(|line| !line.starts_with(' '))
            .filter_map(|line| line.split_once(": "))
            .collect();
        (!fields.is_empty()).then_some(Self(fields))
    }

    fn field(&self, name: &str) -> Option<&'a str> {
        self.0.iter().find(|(field, _)| *field == name).map(|(_, value)| *value)
    }

    fn package(&self, name: &str, cache: &Path) -> Result<Package> {
        let field = |field: &str| {
            self.field(field).map(ToOwned::to_owned).with_context(|| {
                format!("apt's lists have no {field} of {name}: is the installed version newer than its archive's?")
            })
        };
        let (version, architecture) = (field("Version")?, field("Architecture")?);
        // Debian's way to write a version that has an epoch.
        let file = format!("{name}_{}_{architecture}.deb", version.replace(':', "%3a"));
        Ok(Package {
            name: name.to_owned(),
            source: self.field("Source").map(ToOwned::to_owned),
            sha256: field("SHA256")?,
            file: cache.join(file),
            version,
            architecture,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHOWN: &str = "Package: busybox-static\nSource: busybox (1:1.35.0-4)\nVersion: 1:1.35.0-4+b1\n\
        Architecture: amd64\nDescription: tools\n in one: program\nSHA256: 12ab\n";

    #[test]
    fn a_package_is_read_from_apts_words() {
        let package = Record::parse(SHOWN)
            .unwrap()
            .package("busybox-static", Path::new("/cache"))
            .unwrap();
        assert_eq!(package.version, "1:1.35.0-4+b1");
        assert_eq!(package.sha256, "12ab");
        assert_eq!(
            package.file,
            Path::new("/cache/busybox-static_1%3a1.35.0-4+b1_amd64.deb")
        );
    }

    #[test]
    fn a_package_that_no_archive_has_is_an_error_that_names_it() {
        let installed_only = SHOWN.replace("SHA256: 12ab\n", "");
        let record = Record::parse(&installed_only).unwrap();
        let said = record
            .package("busybox-static", Path::new("/cache"))
            .unwrap_err()
            .to_string();
        assert!(said.contains("SHA256 of busybox-static"), "{said}");
    }

    #[test]
    fn licences_stay_and_manuals_go() {
        assert!(is_of_use("usr/share/doc/libc6/copyright"));
        assert!(is_of_use("usr/share/doc/libgcc-s1"));
        assert!(!is_of_use("usr/share/doc/libc6/changelog.gz"));
        assert!(!is_of_use("usr/share/man/man1/python3.11.1.gz"));
    }
}
