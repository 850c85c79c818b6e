use super::{Installed, Merged, Ranges, Settings, changed_trust_domain};
use clap::Parser;
use culvert_deploy::{Component, Monitoring, Platform, Values};

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
    settings.merged(installed, detected)
}

/// The recipe of the review: an upgrade with another tag alone must not touch the trust domain, nor anything else.
#[test]
fn an_upgrade_keeps_everything_that_no_flag_names() {
    let merged = merged(&["--image-tag=9.9.9"], Some(&corp()));
    let config = &merged.values.config;
    assert_eq!(merged.values.tag, "9.9.9");
    assert_eq!(config.trust_domain.as_deref(), Some("corp.example"));
    assert_eq!(config.exclude_cidrs, ["10.9.0.0/16".parse().unwrap()]);
    assert_eq!(config.exclude_ports, [53, 9100]);
    assert_eq!(config.mesh_cidrs, ["10.0.0.0/8".parse().unwrap()]);
    assert_eq!(
        (config.cluster_id.as_deref(), config.log.as_deref()),
        (Some("east"), Some("debug"))
    );
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
    assert!(merged.values.config.exclude_cidrs.is_empty());
    assert_eq!(merged.values.config.exclude_ports, [25]);
    let components = [Component::GivenCa, Component::Selinux, Component::SingleReplica];
    assert_eq!(merged.values.components, components.into());
    assert_eq!(merged.values.host_paths, Platform::Standard.host_paths());
    assert!(merged.values.config.mesh_cidrs.is_empty());
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
        let cidrs = merged.values.config.mesh_cidrs.iter().map(ToString::to_string);
        cidrs.collect::<Vec<_>>().join(",")
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
    assert!(kept.values.config.mesh_cidrs.is_empty() && kept.origin == Some("none"));
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
