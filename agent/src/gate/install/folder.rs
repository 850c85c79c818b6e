//! The folder of CNI configurations: whose file is which.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{
    InstallError, conflist, files,
    meta::{self, Delegation},
    step,
};

/// The list of ours. Container runtimes take the first file by name.
pub(super) const OWN: &str = "00-culvert.conflist";

/// The end of its name where it must stand right before another file, because that one sorts before [`OWN`], or because a plug-in
/// such as Multus makes its configuration of the first file. `-` sorts before `.`: `10-a-culvert.conflist` comes before `10-a.conf`.
const DERIVED: &str = "-culvert.conflist";

/// What Cilium adds to the names of configurations that it puts aside.
const ASIDE: &str = ".cilium_bak";

/// A file of another program that container runtimes could take.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    pub(super) path: PathBuf,
    pub(super) name: String,
    /// Or why it is no configuration.
    pub(super) text: Result<String, String>,
}

/// What the folder holds.
#[derive(Debug, Default)]
pub(super) struct Folder {
    /// In the order in which container runtimes take them.
    pub(super) others: Vec<Candidate>,
    /// Lists that we made.
    pub(super) ours: Vec<PathBuf>,
    /// Lists that we made and Cilium put aside.
    pub(super) put_aside: Vec<PathBuf>,
}

impl Folder {
    pub(super) fn read(conf_dir: &Path, host_root: &Path) -> Result<Self, InstallError> {
        let mut folder = Self::default();
        for path in files::list(conf_dir).map_err(step("cannot list", conf_dir))? {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if let Some(before) = name.strip_suffix(ASIDE) {
                if is_ours(&path, before) {
                    folder.put_aside.push(path);
                }
            } else if !is_configuration(&path) {
            } else if is_ours(&path, &name) {
                folder.ours.push(path);
            } else {
                let text = files::read(&path, host_root).map_err(|error| error.to_string());
                let text = text.and_then(|text| match conflist::types(&text, is_list(&path)) {
                    Ok(_) => Ok(text),
                    Err(malformed) => Err(malformed.to_string()),
                });
                folder.others.push(Candidate { path, name, text });
            }
        }
        Ok(folder)
    }

    /// The name of the list of ours that is made of `source`; first of all, unless it must stand right before its source.
    pub(super) fn own_name(&self, source: &Candidate, is_beside: bool) -> String {
        let first = self.others.first().map_or(OWN, |first| first.name.as_str());
        match (is_beside, OWN < first) {
            (true, _) => derived(&source.name),
            (false, true) => OWN.to_owned(),
            (false, false) => derived(first),
        }
    }

    /// The file that a list of ours, by its name, was made of.
    pub(super) fn original(&self, own: &str, is_eligible: impl Fn(&Candidate) -> bool) -> Option<String> {
        let stem = own.strip_suffix(DERIVED)?;
        let is_it = |other: &&Candidate| is_eligible(other) && derived(&other.name) == own;
        let is_first = |other: &&Candidate| own == OWN && is_eligible(other);
        let found = self.others.iter().find(is_it).or(self.others.iter().find(is_first));
        found.map(|other| other.name.clone()).filter(|_| !stem.is_empty())
    }
}

impl Candidate {
    pub(super) fn is_list(&self) -> bool {
        is_list(&self.path)
    }

    /// Its text; empty where it is no configuration.
    pub(super) fn text(&self) -> &str {
        self.text.as_deref().unwrap_or_default()
    }

    /// How it leads to other configurations; none when it does not.
    pub(super) fn delegation(&self) -> Option<Delegation> {
        meta::delegation(self.text(), self.is_list())
    }

    /// What others may delegate to.
    pub(super) fn is_eligible(&self) -> bool {
        self.text.is_ok() && self.delegation().is_none()
    }
}

/// Whether container runtimes would take the file, by its name.
pub(super) fn is_configuration(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    matches!(extension, Some("conf" | "conflist" | "json"))
}

pub(super) fn is_list(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "conflist")
}

/// Whether we made it: by its name, and, where others might choose such a name, because it contains our entry.
fn is_ours(path: &Path, name: &str) -> bool {
    name == OWN || name.ends_with(DERIVED) && fs::read_to_string(path).is_ok_and(|text| conflist::has_entry(&text))
}

fn derived(name: &str) -> String {
    let stem = Path::new(name).file_stem().unwrap_or_default().to_string_lossy();
    format!("{stem}{DERIVED}")
}
