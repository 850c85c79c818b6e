//! `--set KEY=VALUE` of `culvert install`: looked at before a cluster is asked for anything.

use culvert_deploy::{Error, Setting};
use std::str::FromStr;

/// A setting and what it is to be; empty for the program's default.
#[derive(Clone, Debug)]
pub(super) struct Assignment {
    pub(super) setting: &'static Setting,
    pub(super) value: String,
}

/// Why a text is none.
#[derive(Debug, thiserror::Error)]
pub(super) enum BadAssignment {
    #[error("`{0}` is not KEY=VALUE")]
    Form(String),
    #[error("{0} has a flag of its own: --{0}")]
    OwnFlag(&'static str),
    #[error(transparent)]
    Value(#[from] Error),
}

impl FromStr for Assignment {
    type Err = BadAssignment;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (key, value) = text
            .split_once('=')
            .ok_or_else(|| BadAssignment::Form(text.to_owned()))?;
        let setting = Setting::named(key)?;
        if let Some(flag) = setting.flag {
            return Err(BadAssignment::OwnFlag(flag));
        }
        if !value.is_empty() {
            setting.check(value)?;
        }
        Ok(Self {
            setting,
            value: value.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Assignment;
    use culvert_deploy::SETTINGS;

    #[test]
    fn every_setting_without_a_flag_of_its_own_can_be_set() {
        for setting in SETTINGS {
            let parsed = |value: &str| format!("{}={value}", setting.key).parse::<Assignment>();
            let examples = setting.kind.examples();
            if let Some(flag) = setting.flag {
                assert!(
                    parsed(&examples.allowed[0])
                        .unwrap_err()
                        .to_string()
                        .contains(&format!("--{flag}"))
                );
                continue;
            }
            for value in examples.allowed.iter().map(String::as_str).chain([""]) {
                assert_eq!(parsed(value).unwrap().value, value, "{}", setting.key);
            }
            for value in examples.refused {
                let error = parsed(&value).unwrap_err().to_string();
                assert!(error.contains(setting.key) && error.contains(&value), "{error}");
            }
        }
    }

    #[test]
    fn what_is_no_setting_is_refused() {
        let error = |text: &str| text.parse::<Assignment>().unwrap_err().to_string();
        assert!(error("connect-timeout").contains("KEY=VALUE"));
        assert!(error("conect-timeout=1s").contains("there are: mesh-cidr"));
    }
}
