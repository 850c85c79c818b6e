//! Settings of the programs: that each reaches its programs, and can be found.

use std::collections::BTreeSet;

use culvert_deploy::{SETTINGS, Setting, Values, manifests};
use k8s_openapi::api::core::v1::ConfigMap;

use crate::manifests::{containers, everything, only};

/// By what kubectl's users know a setting: a key of the ConfigMap, which each of its programs reads, and a line that explains it.
#[test]
fn every_setting_reaches_its_programs_by_a_key_that_is_explained() {
    let mut asked: BTreeSet<(String, String)> = BTreeSet::new();
    for container in containers(&everything()) {
        for variable in container.env.unwrap_or_default() {
            let Some(key) = variable.value_from.and_then(|from| from.config_map_key_ref) else {
                continue;
            };
            assert_eq!((key.name.as_str(), key.optional), ("culvert-config", Some(true)));
            let setting = Setting::of(&key.key).unwrap_or_else(|| panic!("{} is no setting", key.key));
            assert_eq!(setting.variable(), variable.name);
            asked.insert((key.key, container.name.clone()));
        }
    }
    let read_by = |setting: &Setting| {
        let programs = setting.programs.iter();
        programs
            .map(|program| (setting.key.to_owned(), (*program).to_owned()))
            .collect::<Vec<_>>()
    };
    assert_eq!(asked, SETTINGS.iter().flat_map(read_by).collect());
    let commented = include_str!("../daemonset/config.yaml");
    for setting in SETTINGS {
        assert!(
            commented.contains(&format!("#   {} ", setting.key)),
            "{} is not explained",
            setting.key
        );
    }
}

#[test]
fn a_setting_that_is_given_is_in_the_configmap_and_one_that_is_not_is_absent() {
    let mut values = Values::default();
    let data = |values: &Values| {
        only::<ConfigMap>(&manifests(values).unwrap(), "ConfigMap")
            .data
            .unwrap()
    };
    assert_eq!(
        data(&values).into_keys().collect::<Vec<_>>(),
        ["cluster-id", "log", "trust-domain"]
    );
    for setting in SETTINGS {
        values
            .config
            .set(setting.key, &setting.kind.examples().allowed[0])
            .unwrap();
    }
    values.config.set("exclude-port", "53,9100").unwrap();
    let given = data(&values);
    assert_eq!(given.len(), SETTINGS.len());
    assert_eq!(given["exclude-port"], "53,9100");
}

/// The page has a row for each, with everything that one needs to set it.
#[test]
fn every_setting_has_its_row_on_the_page_of_settings() {
    let page = include_str!("../../docs/settings.md");
    for setting in SETTINGS {
        let how = setting
            .flag
            .map_or(format!("`--set {}=`", setting.key), |flag| format!("`--{flag}`"));
        let start = format!(
            "| `{}` | `{}` | {how} | {} | ",
            setting.key,
            setting.helm,
            setting.programs.join(", ")
        );
        let row = page.lines().find(|line| line.starts_with(&start));
        let row = row.unwrap_or_else(|| panic!("no row begins with {start}"));
        let default = if setting.default.is_empty() {
            "none"
        } else {
            setting.default
        };
        assert!(
            row.contains(&format!(" | {default} | ")),
            "{row} has not the default {default}"
        );
    }
}
