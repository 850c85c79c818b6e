//! Plug-ins that run other networks' plug-ins: Multus, CNI-Genie, DANM.
//!
//! Multus makes its own configuration of "the first file by name" that is not its own. A list of ours that sorts first and is
//! made of Multus' configuration would be that file at Multus' next start: it would delegate to itself. So beside Multus
//! the list of ours is made of the configuration that Multus delegates to, sorts right before that one, and is what Multus
//! is to delegate to:
//!
//! | Multus' configuration | what is done |
//! |---|---|
//! | `clusterNetwork` is a file of this folder (Multus 4) | it names the list of ours instead |
//! | `delegates` holds the other configuration (Multus 3) | the first delegate gets the entry |
//! | `clusterNetwork` is a file of another folder (OpenShift) | as with any other CNI: Multus makes nothing of this folder's files |
//! | `clusterNetwork` is a name | nothing: of two files with that name the first counts, which is ours |
//!
//! The others choose among the folder's files by rules of their own; the configuration beside them gets the entry itself.

use std::path::{Path, PathBuf};

use culvert_cni::span::Json;

use super::conflist::{self, Malformed};

/// Multus by the names of its programs: the plug-in, and the one that asks a daemon.
const MULTUS: [&str; 2] = ["multus", "multus-shim"];

/// Others.
const OTHERS: [&str; 2] = ["genie", "danm"];

/// How a configuration leads to another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Delegation {
    /// To a file, by its path as Multus' daemon sees it.
    File(PathBuf),
    /// To a configuration inside it.
    Inline,
    /// By the name of a network.
    Name,
    /// By rules of its own.
    Own,
}

/// How the configuration leads to others; none when it does not.
pub(super) fn delegation(text: &str, is_list: bool) -> Option<Delegation> {
    let types = conflist::types(text, is_list).ok()?;
    let is_one_of = |names: &[&str]| types.iter().any(|name| names.contains(&name.as_str()));
    if is_one_of(&OTHERS) {
        return Some(Delegation::Own);
    }
    if !is_one_of(&MULTUS) {
        return None;
    }
    let json = Json::parse(text).ok()?;
    let network = json.member("clusterNetwork").and_then(Json::string);
    if let Some(network) = network.filter(|network| !network.is_empty()) {
        return Some(match network.starts_with('/') {
            true => Delegation::File(network.into()),
            false => Delegation::Name,
        });
    }
    let delegates = json.member("delegates").and_then(Json::elements).unwrap_or_default();
    Some(match delegates.is_empty() {
        true => Delegation::Own,
        false => Delegation::Inline,
    })
}

/// Multus' configuration with the gate in what it delegates to. None when it is so already.
///
/// # Errors
/// Its first delegate is no configuration.
pub(super) fn with_gate(text: &str, own: &str, entry: &str) -> Result<Option<String>, Malformed> {
    let json = Json::parse(text)?;
    if let Some(network) = json.member("clusterNetwork") {
        return Ok(renamed(text, network, own));
    }
    let delegates = json.member("delegates").and_then(Json::elements).unwrap_or_default();
    let first = delegates.first().ok_or(Malformed::NoPlugins)?;
    let edited = match first.member("plugins") {
        Some(_) => conflist::with_entry(first.text(), entry)?,
        None => Some(conflist::from_single(first.text(), entry)?),
    };
    Ok(edited.and_then(|edited| replaced(text, *first, &edited)))
}

/// Multus' configuration without anything of ours: `original` names the file that a list of ours was made of. None when there
/// is nothing of ours in it.
pub(super) fn without_gate(text: &str, original: impl Fn(&str) -> Option<String>) -> Option<String> {
    let json = Json::parse(text).ok()?;
    if let Some(network) = json.member("clusterNetwork") {
        let original = original(&file_name(network)?)?;
        return renamed(text, network, &original);
    }
    let delegates = json.member("delegates").and_then(Json::elements)?;
    let edited = delegates.iter().find_map(|delegate| {
        let without = conflist::without_entry(delegate.text()).ok()??;
        replaced(text, *delegate, &without)
    })?;
    Some(without_gate(&edited, original).unwrap_or(edited))
}

/// The text with another file name in this path.
fn renamed(text: &str, path: Json<'_>, name: &str) -> Option<String> {
    let before = path.string()?;
    let after = Path::new(&before).with_file_name(name);
    let after = serde_json::to_string(&after).ok()?;
    if after == path.text() || Path::new(&before).file_name()? == name {
        return None;
    }
    replaced(text, path, &after)
}

fn file_name(path: Json<'_>) -> Option<String> {
    let path = path.string()?;
    Some(Path::new(&path).file_name()?.to_str()?.to_owned())
}

fn replaced(text: &str, part: Json<'_>, by: &str) -> Option<String> {
    let begin = part.offset_in(text)?;
    let end = begin + part.text().len();
    Some(format!("{}{by}{}", &text[..begin], &text[end..]))
}
