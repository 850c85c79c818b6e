//! The ConfigMap `culvert-config`: what somebody wrote there by hand, which no program looks at before it starts anew.

use crate::{line::Line, survey::Survey};
use culvert_deploy::Setting;

/// A line for each key that no program reads, and for each value that none takes.
pub(super) fn judged(survey: &Survey) -> Vec<Line> {
    survey
        .settings
        .iter()
        .filter_map(|(key, value)| one(key, value))
        .collect()
}

fn one(key: &str, value: &str) -> Option<Line> {
    let edit = "kubectl -n culvert-system edit configmap culvert-config";
    let Some(setting) = Setting::of(key) else {
        let found = format!("culvert-config has `{key}`, which no program reads: it has no effect");
        let remedy = format!("docs/settings.md has the keys that there are; {edit}");
        return Some(Line::warn("cluster", "settings", found, remedy));
    };
    let error = setting.check(value).err()?;
    let found = format!("culvert-config has {error}");
    let way = setting
        .flag
        .map_or_else(|| format!("--set {key}="), |flag| format!("--{flag}"));
    let remedy = format!("`culvert install {way}`, or {edit}");
    // Some programs take nothing for nothing.
    Some(match value.is_empty() {
        true => Line::warn("cluster", "settings", found, remedy),
        false => {
            let found = format!("{found}: {} may not start anew with it", setting.programs.join(", "));
            Line::fail("cluster", "settings", found, remedy)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::judged;
    use crate::{line::Level, survey::Survey};
    use culvert_deploy::SETTINGS;

    fn survey(settings: &[(&str, &str)]) -> Survey {
        let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        Survey {
            settings: settings.iter().map(owned).collect(),
            ..Survey::default()
        }
    }

    #[test]
    fn a_value_that_no_program_takes_and_a_key_that_none_reads_are_named_before_a_program_starts_anew() {
        let lines = judged(&survey(&[
            ("connect-timeout", "soon"),
            ("conect-timeout", "1s"),
            ("leaf-ttl", ""),
        ]));
        let of = |level, found: &str, remedy: &str| {
            lines.iter().any(|line| {
                let remedied = line.remedy.as_ref().is_some_and(|text| text.contains(remedy));
                line.level == level && line.found.contains(found) && remedied
            })
        };
        assert!(of(
            Level::Fail,
            "connect-timeout: `soon` is not a time",
            "--set connect-timeout="
        ));
        assert!(of(Level::Warn, "`conect-timeout`", "docs/settings.md"));
        assert!(of(Level::Warn, "leaf-ttl", "--set leaf-ttl="));
        assert_eq!(lines.len(), 3);
    }

    #[test]
    fn what_may_be_set_is_not_worth_a_line() {
        for setting in SETTINGS {
            for value in setting.kind.examples().allowed {
                assert!(
                    judged(&survey(&[(setting.key, &value)])).is_empty(),
                    "{}: {value}",
                    setting.key
                );
            }
        }
    }
}
