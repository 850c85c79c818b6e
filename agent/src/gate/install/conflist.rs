//! The text of CNI configurations.
//!
//! They are edited as text: the entry is cut in and out, and every other byte stays as the CNI wrote it, with unknown keys,
//! their order, white space and line ends. So taking the entry out gives the very text that was there before.

use std::path::Path;

use culvert_cni::{config::PLUGIN_TYPE, span::Json};
use serde_json::{Value, json};

/// Why a text is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum Malformed {
    /// Not JSON.
    #[error("it is not JSON ({0})")]
    Json(#[from] serde_json::Error),
    /// A list without plug-ins.
    #[error("it has no list `plugins`")]
    NoPlugins,
    /// Nothing that gives a pod its addresses.
    #[error("it names no plug-in but culvert-cni, if any")]
    Empty,
    /// A plug-in without a type.
    #[error("it names no plug-in by `type`")]
    NoType,
}

/// The plug-in's entry.
pub fn entry(socket: &Path, state: &Path) -> String {
    json!({ "type": PLUGIN_TYPE, "agentSocket": socket, "stateFile": state }).to_string()
}

/// A list with the entry in it, once, behind another plug-in. None when it is so already.
///
/// # Errors
/// The text is no list.
pub fn with_entry(text: &str, entry: &str) -> Result<Option<String>, Malformed> {
    let plugins = plugins(text)?;
    let ours: Vec<usize> = positions(&plugins);
    if let [at] = ours[..]
        && at > 0
        && same(plugins[at].text(), entry)
    {
        return Ok(None);
    }
    let without = without_entry(text)?;
    let text = without.as_deref().unwrap_or(text);
    insert(text, entry).map(Some)
}

/// A list with every entry of the plug-in taken out. None when there is none.
///
/// # Errors
/// The text is no list, or has no other plug-in.
pub fn without_entry(text: &str) -> Result<Option<String>, Malformed> {
    let mut edited: Option<String> = None;
    loop {
        let text = edited.as_deref().unwrap_or(text);
        let plugins = plugins(text)?;
        let Some(at) = positions(&plugins).first().copied() else {
            return Ok(edited);
        };
        let span = |index: usize| -> Option<(usize, usize)> {
            let plugin: Json<'_> = *plugins.get(index)?;
            let begin = plugin.offset_in(text)?;
            Some((begin, begin + plugin.text().len()))
        };
        // With the comma before it, or, if it is the first, the one after.
        let cut = match at {
            0 => span(0).zip(span(1)).map(|((begin, _), (next, _))| (begin, next)),
            _ => span(at - 1).zip(span(at)).map(|((_, before), (_, end))| (before, end)),
        };
        let (begin, end) = cut.ok_or(Malformed::Empty)?;
        edited = Some(format!("{}{}", &text[..begin], &text[end..]));
    }
}

/// A list of a single configuration and the entry.
///
/// # Errors
/// The text is no configuration of a single plug-in.
pub fn from_single(text: &str, entry: &str) -> Result<String, Malformed> {
    let single = Json::parse(text)?;
    if plugin_type(single).ok_or(Malformed::NoType)? == PLUGIN_TYPE {
        return Err(Malformed::Empty);
    }
    let mut list = String::from("{\n");
    for key in ["cniVersion", "name"] {
        if let Some(value) = single.member(key) {
            list.push_str(&format!("  \"{key}\": {},\n", value.text()));
        }
    }
    list.push_str(&format!("  \"plugins\": [\n{},\n{entry}\n  ]\n}}\n", single.text()));
    Ok(list)
}

/// The list that container runtimes shall take instead of a configuration: its plug-ins as they are, the entry behind them,
/// and behind that what others have chained to the list (see [`chained_by_others`]).
///
/// # Errors
/// The text is no configuration of this form.
pub fn chained(text: &str, is_list: bool, entry: &str, others: &[String]) -> Result<String, Malformed> {
    let mut list = match is_list {
        true => {
            let without = without_entry(text)?;
            insert(without.as_deref().unwrap_or(text), entry)?
        }
        false => from_single(text, entry)?,
    };
    for other in others {
        list = insert(&list, other)?;
    }
    Ok(list)
}

/// Plug-ins that stand behind the entry in a list of ours, and not in the configuration that it was made of: somebody chained
/// them there, because it is the first file by name.
pub fn chained_by_others(present: &str, source: &str, is_list: bool) -> Vec<String> {
    let (Ok(plugins), Ok(source)) = (plugins(present), types(source, is_list)) else {
        return Vec::new();
    };
    let Some(ours) = positions(&plugins).last().copied() else {
        return Vec::new();
    };
    let is_others = |plugin: &&Json<'_>| plugin_type(**plugin).is_some_and(|name| !source.contains(&name));
    let behind = plugins[ours + 1..].iter().filter(is_others);
    behind.map(|plugin| plugin.text().to_owned()).collect()
}

/// The types of a configuration's plug-ins, without ours, in their order.
///
/// # Errors
/// The text is no configuration of this form, or has no plug-in but ours.
pub fn types(text: &str, is_list: bool) -> Result<Vec<String>, Malformed> {
    let plugins = match is_list {
        true => plugins(text)?,
        false => vec![Json::parse(text)?],
    };
    let mut types = Vec::new();
    for plugin in plugins {
        types.push(plugin_type(plugin).ok_or(Malformed::NoType)?);
    }
    types.retain(|name| name != PLUGIN_TYPE);
    match types.is_empty() {
        true => Err(Malformed::Empty),
        false => Ok(types),
    }
}

/// The programs that a configuration needs: those of its plug-ins without ours, and those that give out addresses for them.
///
/// # Errors
/// As for [`types`].
pub fn programs(text: &str, is_list: bool) -> Result<Vec<String>, Malformed> {
    let mut programs = types(text, is_list)?;
    let plugins = match is_list {
        true => plugins(text)?,
        false => vec![Json::parse(text)?],
    };
    let allocators = plugins.iter().filter_map(|plugin| plugin_type(plugin.member("ipam")?));
    programs.extend(allocators);
    programs.sort();
    programs.dedup();
    Ok(programs)
}

/// The name of the network.
pub fn network(text: &str) -> Option<String> {
    Json::parse(text).ok()?.member("name")?.string()
}

/// Whether the entry is in a list, anywhere.
pub fn has_entry(text: &str) -> bool {
    plugins(text).is_ok_and(|plugins| !positions(&plugins).is_empty())
}

fn insert(text: &str, entry: &str) -> Result<String, Malformed> {
    let plugins = plugins(text)?;
    let last = plugins.last().ok_or(Malformed::Empty)?;
    let begin = last.offset_in(text).ok_or(Malformed::NoPlugins)?;
    let end = begin + last.text().len();
    // Placed as the last one is: on a line of its own, indented alike, or on the same line.
    let before = &text[..begin];
    let gap = &before[before.trim_end_matches([' ', '\t', '\n', '\r']).len()..];
    Ok(format!("{},{gap}{entry}{}", &text[..end], &text[end..]))
}

/// The plug-ins of a list, each of which has a type.
fn plugins(text: &str) -> Result<Vec<Json<'_>>, Malformed> {
    let list = Json::parse(text)?;
    let plugins = list
        .member("plugins")
        .and_then(Json::elements)
        .ok_or(Malformed::NoPlugins)?;
    if plugins.is_empty() {
        return Err(Malformed::Empty);
    }
    match plugins.iter().all(|plugin| plugin_type(*plugin).is_some()) {
        true => Ok(plugins),
        false => Err(Malformed::NoType),
    }
}

fn positions(plugins: &[Json<'_>]) -> Vec<usize> {
    let is_ours = |plugin: &Json<'_>| plugin_type(*plugin).as_deref() == Some(PLUGIN_TYPE);
    (0..plugins.len()).filter(|at| is_ours(&plugins[*at])).collect()
}

fn plugin_type(plugin: Json<'_>) -> Option<String> {
    plugin
        .member("type")
        .and_then(Json::string)
        .filter(|name| !name.is_empty())
}

/// Whether two texts mean the same: another program may have written one of them in another form.
pub fn same(one: &str, other: &str) -> bool {
    let value = |text: &str| serde_json::from_str::<Value>(text).ok();
    value(one).is_some() && value(one) == value(other)
}
