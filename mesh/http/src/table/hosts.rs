//! Which virtual host a request is for: the one that names the host, then the longest `*suffix`, then the longest `prefix*`, then `*`.

use std::borrow::Cow;
use std::collections::BTreeMap;

use rustc_hash::FxHashMap;

use crate::error::CompileError;

/// Domains and the virtual hosts that have them. Names are in lower case.
#[derive(Debug)]
pub(super) struct Hosts {
    ignore_port: bool,
    exact: FxHashMap<String, usize>,
    suffixes: BTreeMap<usize, FxHashMap<String, usize>>,
    prefixes: BTreeMap<usize, FxHashMap<String, usize>>,
    any: Option<usize>,
}

impl Hosts {
    pub(super) fn new(ignore_port: bool) -> Self {
        Self {
            ignore_port,
            exact: FxHashMap::default(),
            suffixes: BTreeMap::new(),
            prefixes: BTreeMap::new(),
            any: None,
        }
    }

    /// Adds a domain of a virtual host. No two may have one domain.
    pub(super) fn add(&mut self, domain: &str, host: usize) -> Result<(), CompileError> {
        let lower = domain.to_ascii_lowercase();
        let before = if lower == "*" {
            self.any.replace(host)
        } else if let Some(suffix) = lower.strip_prefix('*') {
            let same = self.suffixes.entry(suffix.len()).or_default();
            same.insert(suffix.to_owned(), host)
        } else if let Some(prefix) = lower.strip_suffix('*') {
            let same = self.prefixes.entry(prefix.len()).or_default();
            same.insert(prefix.to_owned(), host)
        } else if lower.is_empty() {
            return Err(CompileError::invalid("domains", "a domain is empty"));
        } else {
            self.exact.insert(lower, host)
        };
        match before {
            Some(_) => Err(CompileError::invalid(
                "domains",
                format_args!("{domain:?} is there twice"),
            )),
            None => Ok(()),
        }
    }

    pub(super) fn find(&self, host: &str) -> Option<usize> {
        if self.exact.is_empty() && self.suffixes.is_empty() && self.prefixes.is_empty() {
            return self.any;
        }
        let host = if self.ignore_port { without_port(host) } else { host };
        let host: Cow<'_, str> = if host.bytes().any(|byte| byte.is_ascii_uppercase()) {
            host.to_ascii_lowercase().into()
        } else {
            host.into()
        };
        if let Some(number) = self.exact.get(host.as_ref()) {
            return Some(*number);
        }
        // A wildcard stands for at least one character.
        let shorter = |map: &BTreeMap<usize, FxHashMap<String, usize>>, part: &dyn Fn(usize) -> Option<String>| {
            let mut lengths = map.range(..host.len()).rev();
            lengths.find_map(|(length, same)| part(*length).and_then(|part| same.get(&part).copied()))
        };
        let suffix = |length: usize| host.get(host.len() - length..).map(str::to_owned);
        let prefix = |length: usize| host.get(..length).map(str::to_owned);
        shorter(&self.suffixes, &suffix)
            .or_else(|| shorter(&self.prefixes, &prefix))
            .or(self.any)
    }
}

/// The host without its port; an IPv6 address keeps its brackets.
fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port))
            if port.bytes().all(|byte| byte.is_ascii_digit()) && (!name.contains(':') || name.ends_with(']')) =>
        {
            name
        }
        _ => host,
    }
}
