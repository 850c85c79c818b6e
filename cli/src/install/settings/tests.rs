use super::{Installed, Merged, Ranges, Settings, changed_trust_domain};
use clap::Parser;
use culvert_deploy::{Component, Monitoring, Platform, Values, manifests};

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    settings: Settings,
}

fn corp() -> Installed {
    let config = [
        ("trust-domain", "corp.example"),
        ("exclude-cidr", "10.9.0.0/16"),
        ("exclude-port", "53,9100"),
        ("mesh-cidr", "10.0.0.0/8"),
        ("cluster-id", "east"),
        ("log", "debug"),
        ("connect-timeout", "20s"),
        ("map-flows", "131072"),
    ];
    Installed {
        registry: Some("registry.example/mesh".to_owned()),
        config: config.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
        origin: Some("given".to_owned()),
        host_paths: Platform::K3s.host_paths(),
        architectures: vec!["arm64".to_owned()],
        components: [Component::NetworkPolicy, Component::GivenCa].into(),
        monitoring: Monitoring {
            dashboards: true,
            operator: false,
        },
        replicas: Some(3),
    }
}

fn merged(arguments: &[&str], installed: Option<&Installed>) -> Merged {
    let settings = Line::try_parse_from([&["x"], arguments].concat()).unwrap().settings;
    let detected = settings.wants_detection(installed).then(|| Ranges {
        cidrs: vec!["198.18.0.0/15".parse().unwrap()],
        said: String::new(),
    });
    settings.merged(installed, detected).unwrap()
}

/// The recipe of the review: an upgrade with another tag alone must not touch the trust domain, nor anything else.
#[test]
fn an_upgrade_keeps_everything_that_no_flag_names() {
    let merged = merged(&["--image-tag=9.9.9"], Some(&corp()));
    let config = &merged.values.config;
    assert_eq!(merged.values.tag, "9.9.9");
    for (key, value) in corp().config {
        assert_eq!(config.of(&key), Some(value.as_str()), "{key}");
    }
    assert_eq!(merged.values.registry, "registry.example/mesh");
    assert_eq!(merged.values.host_paths, Platform::K3s.host_paths());
    assert_eq!(merged.values.architectures, ["arm64"]);
    assert_eq!(
        merged.values.components,
        [Component::NetworkPolicy, Component::GivenCa].into()
    );
    assert_eq!(merged.values.monitoring, corp().monitoring);
    assert!(merged.kept.contains(&"dashboards".to_owned()), "{:?}", merged.kept);
    assert_eq!((merged.replicas, merged.origin), (3, Some("given")));
    assert!(
        merged.kept.contains(&"trust-domain=corp.example".to_owned()),
        "{:?}",
        merged.kept
    );
    assert_eq!(changed_trust_domain(&corp(), &merged), None);
}

#[test]
fn a_flag_wins_and_none_empties_a_list() {
    let flags = [
        "--exclude-cidr=none",
        "--exclude-port=25",
        "--network-policy=false",
        "--selinux",
        "--platform=standard",
        "--replicas=1",
        "--mesh-cidr=none",
        "--dashboards=false",
        "--prometheus-operator",
    ];
    let merged = merged(&flags, Some(&corp()));
    assert_eq!(merged.values.config.of("exclude-cidr"), None);
    assert_eq!(merged.values.config.of("exclude-port"), Some("25"));
    let components = [Component::GivenCa, Component::Selinux, Component::SingleReplica];
    assert_eq!(merged.values.components, components.into());
    assert_eq!(merged.values.host_paths, Platform::Standard.host_paths());
    assert_eq!(merged.values.config.of("mesh-cidr"), None);
    assert_eq!(merged.origin, Some("none"));
    let monitoring = merged.values.monitoring;
    assert!(!monitoring.dashboards && monitoring.operator);
}

#[test]
fn a_change_of_the_trust_domain_is_noticed_also_where_a_reset_makes_it() {
    let change = |arguments: &[&str]| changed_trust_domain(&corp(), &merged(arguments, Some(&corp())));
    let both = ("corp.example".to_owned(), "other.example".to_owned());
    assert_eq!(change(&["--trust-domain=other.example"]), Some(both));
    assert_eq!(change(&["--trust-domain=corp.example"]), None);
    let reset = merged(&[], None);
    assert_eq!(changed_trust_domain(&corp(), &reset).unwrap().1, "cluster.local");
    assert_eq!(changed_trust_domain(&Installed::default(), &reset), None);
}

#[test]
fn ranges_that_were_found_are_found_again_and_those_that_were_given_stay() {
    let of = |origin: Option<&str>, arguments: &[&str]| {
        let mut installed = corp();
        installed.origin = origin.map(str::to_owned);
        let merged = merged(arguments, Some(&installed));
        merged.values.config.of("mesh-cidr").unwrap_or_default().to_owned()
    };
    assert_eq!(of(Some("detected"), &[]), "198.18.0.0/15");
    assert_eq!(of(Some("given"), &[]), "10.0.0.0/8");
    assert_eq!(
        of(None, &[]),
        "10.0.0.0/8",
        "nobody noted where it came from: it may be given"
    );
    assert_eq!(of(Some("given"), &["--mesh-cidr=auto"]), "198.18.0.0/15");
    let mut none = corp();
    none.origin = Some("none".to_owned());
    none.config.remove("mesh-cidr");
    let kept = merged(&[], Some(&none));
    assert!(kept.values.config.of("mesh-cidr").is_none() && kept.origin == Some("none"));
}

#[test]
fn from_nothing_the_defaults_hold() {
    let merged = merged(&["--mesh-cidr=none"], None);
    let defaults = Values::default();
    assert_eq!(
        (merged.values.registry, merged.values.host_paths),
        (defaults.registry, defaults.host_paths)
    );
    assert_eq!((merged.replicas, merged.kept.len()), (2, 0));
    assert!(merged.values.components.is_empty());
}

#[test]
fn a_setting_wins_over_what_is_installed_and_without_a_value_the_default_holds_again() {
    let merged = merged(
        &[
            "--set=connect-timeout=30s",
            "--set=map-flows=",
            "--set=log=info,culvert_agent=debug",
            "--set=loops=2",
        ],
        Some(&corp()),
    );
    let config = &merged.values.config;
    assert_eq!(config.of("connect-timeout"), Some("30s"));
    assert_eq!(config.of("map-flows"), None);
    assert_eq!(config.of("log"), Some("info,culvert_agent=debug"));
    assert_eq!(config.of("loops"), Some("2"));
    assert!(
        !merged.kept.iter().any(|kept| kept.starts_with("connect-timeout")),
        "{:?}",
        merged.kept
    );
}

/// Before anything is asked of a cluster, and with the exit code of wrong usage.
#[test]
fn a_setting_that_no_program_takes_is_a_wrong_command_line() {
    for (bad, said) in [
        (
            "--set=connect-timeout=5h",
            "connect-timeout: `5h` is not a time from 1ms to 1h",
        ),
        ("--set=conect-timeout=5s", "`conect-timeout` is no setting"),
        ("--set=trust-domain=a", "--trust-domain"),
        (
            "--trust-domain=My.Mesh",
            "trust-domain: `My.Mesh` is not a trust domain",
        ),
        ("--cluster-id=a b", "cluster-id: `a b` is not a name"),
    ] {
        let error = Line::try_parse_from(["x", bad]).map(drop).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains(said), "{error}");
    }
}

/// Its ConfigMap has what was made before there were more settings.
#[test]
fn an_upgrade_of_an_installation_without_the_new_keys_adds_none_of_them() {
    let installed = Installed {
        config: [
            ("cluster-id", "Kubernetes"),
            ("log", "info"),
            ("trust-domain", "cluster.local"),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into(),
        origin: Some("none".to_owned()),
        ..Installed::default()
    };
    let merged = merged(&[], Some(&installed));
    assert!(merged.kept.is_empty(), "{:?}", merged.kept);
    let documents = manifests(&merged.values).unwrap();
    let config = documents
        .iter()
        .find(|document| document.id().kind == "ConfigMap")
        .unwrap();
    let keys: Vec<&String> = config.value()["data"].as_object().unwrap().keys().collect();
    assert_eq!(keys, ["cluster-id", "log", "trust-domain"]);
}

/// What earlier versions took and the programs still do.
#[test]
fn an_upgrade_keeps_values_that_are_written_otherwise_than_one_would_today() {
    let mut installed = corp();
    let written = [
        ("trust-domain", "my_corp"),
        ("cluster-id", "arn:aws:eks:zone-1:42:cluster/east"),
        ("log", "info, culvert_agent=4"),
        ("metric-labels-drop", "source_app, source_version"),
    ];
    for (key, value) in written {
        installed.config.insert(key.to_owned(), value.to_owned());
    }
    let merged = merged(&[], Some(&installed));
    for (key, value) in written {
        assert_eq!(merged.values.config.of(key), Some(value));
    }
}

#[test]
fn what_somebody_wrote_into_the_configmap_and_no_program_takes_stops_the_installation() {
    let mut installed = corp();
    installed.config.insert("connect-timeout".to_owned(), "soon".to_owned());
    let tried = |arguments: &[&str]| {
        let settings = Line::try_parse_from([&["x", "--mesh-cidr=none"], arguments].concat())
            .unwrap()
            .settings;
        settings.merged(Some(&installed), None)
    };
    let error = format!("{:#}", tried(&[]).unwrap_err());
    assert!(
        error.contains("`soon`") && error.contains("--set connect-timeout="),
        "{error}"
    );
    assert!(tried(&["--set=connect-timeout="]).is_ok());
}
