//! What the programs can be told by way of an installation: the keys of the ConfigMap `culvert-config`.
//!
//! `table` lists them, with the value of the chart and the flag of `culvert install` that say the same; `kind` says what the value of
//! each may be. What a [`Config`] holds was looked at: a program that gets it starts.

use std::collections::BTreeMap;

use crate::Error;

mod kind;
mod table;

pub use kind::{Examples, Kind};
pub use table::SETTINGS;

/// A key of the ConfigMap `culvert-config`.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Setting {
    /// The key. The programs' flag is called the same.
    pub key: &'static str,
    /// The value of the Helm chart, as `--set` takes it: `config.connectTimeout`.
    pub helm: &'static str,
    /// The flag of `culvert install`, without dashes; none where `--set KEY=VALUE` is the way.
    pub flag: Option<&'static str>,
    /// The programs that read it: names of containers.
    pub programs: &'static [&'static str],
    /// What holds where nobody sets it, in words; empty for nothing.
    pub default: &'static str,
    /// What its value may be.
    pub kind: Kind,
}

impl Setting {
    /// The one with this key, if there is one.
    #[must_use]
    pub fn of(key: &str) -> Option<&'static Self> {
        SETTINGS.iter().find(|setting| setting.key == key)
    }

    /// The one with this key.
    ///
    /// # Errors
    /// When there is none; the error names those that there are.
    pub fn named(key: &str) -> Result<&'static Self, Error> {
        Self::of(key).ok_or_else(|| {
            let known: Vec<&str> = SETTINGS.iter().map(|setting| setting.key).collect();
            Error::Key {
                key: key.to_owned(),
                known: known.join(", "),
            }
        })
    }

    /// The environment variable by which the programs are told.
    #[must_use]
    pub fn variable(&self) -> String {
        format!("CULVERT_{}", self.key.replace('-', "_").to_uppercase())
    }

    /// Looks at a value.
    ///
    /// # Errors
    /// When the programs would refuse it; the error names the key, the value and what is allowed.
    pub fn check(&self, value: &str) -> Result<(), Error> {
        if self.kind.allows(value) {
            return Ok(());
        }
        Err(Error::Setting {
            key: self.key,
            value: value.to_owned(),
            allowed: self.kind.to_string(),
        })
    }
}

/// Values of settings. One that is not there is left to the base, or else to the programs' defaults.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config(BTreeMap<&'static str, String>);

impl Config {
    /// Sets one; an empty value is as if nobody had.
    ///
    /// # Errors
    /// When there is no such key, or its value cannot be meant.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), Error> {
        let setting = Setting::named(key)?;
        if value.is_empty() {
            self.0.remove(setting.key);
            return Ok(());
        }
        setting.check(value)?;
        self.0.insert(setting.key, value.to_owned());
        Ok(())
    }

    /// What it is set to, if it is.
    #[must_use]
    pub fn of(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    /// All that is set, by key.
    pub fn entries(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.0.iter().map(|(key, value)| (*key, value.as_str()))
    }
}

#[cfg(test)]
mod tests;
