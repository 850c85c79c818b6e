use super::{Config, Kind, SETTINGS, Setting};

#[test]
fn each_setting_allows_what_it_shows_and_refuses_the_rest() {
    for setting in SETTINGS {
        let examples = setting.kind.examples();
        assert!(!examples.allowed.is_empty() && !examples.refused.is_empty());
        for value in &examples.allowed {
            assert!(setting.kind.allows(value), "{}: {value}", setting.key);
        }
        for value in examples.refused.iter().map(String::as_str).chain(["", " ", "a\nb"]) {
            assert!(!setting.kind.allows(value), "{}: {value:?}", setting.key);
        }
    }
}

#[test]
fn a_value_that_cannot_be_meant_is_refused_with_its_key_and_what_is_allowed() {
    let refused = |key: &str, value: &str| Config::default().set(key, value).unwrap_err().to_string();
    assert_eq!(
        refused("same-node-idle", "2h"),
        "same-node-idle: `2h` is not a time from 0s to 1h, such as 90s or 1m30s"
    );
    assert_eq!(
        refused("local-legs", "sockmap"),
        "local-legs: `sockmap` is not tcp or kernel or polled"
    );
    assert!(refused("leaf-ttl", "500ms").contains("from 1s to 36600d"));
    let unknown = refused("connect-timout", "1s");
    assert!(
        unknown.contains("`connect-timout`") && unknown.contains("connect-timeout"),
        "{unknown}"
    );
}

#[test]
fn what_is_set_to_nothing_is_not_set() {
    let mut config = Config::default();
    config.set("connect-timeout", "1m30s").unwrap();
    assert_eq!(config.of("connect-timeout"), Some("1m30s"));
    config.set("connect-timeout", "").unwrap();
    assert_eq!(config, Config::default());
}

#[test]
fn times_are_those_that_the_programs_read_and_overflow_nothing() {
    let hour = Kind::Time {
        least: 0,
        most: 3_600_000,
    };
    for (text, allowed) in [
        ("59m60s", true),
        ("59m61s", false),
        ("0d", true),
        ("99999999999999999999s", false),
        ("18446744073709551615d", false),
        ("59m 30s", true),
        ("0.5h", true),
        ("1h 1us", false),
    ] {
        assert_eq!(hour.allows(text), allowed, "{text}");
    }
}

#[test]
fn every_variable_is_named_after_its_key() {
    assert_eq!(
        Setting::of("map-flows-per-pod").unwrap().variable(),
        "CULVERT_MAP_FLOWS_PER_POD"
    );
    let mut keys: Vec<&str> = SETTINGS.iter().map(|setting| setting.key).collect();
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), SETTINGS.len());
}
