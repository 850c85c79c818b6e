//! What the manifests grant: each exception from the strictest rules is written down here.

use std::collections::BTreeSet;

use culvert_deploy::{
    Component, Document, Values, manifests,
    privileges::{Privileges, privileges},
};
use culvert_objects::Kind;
use k8s_openapi::api::core::v1::{Container, PodSpec, SecurityContext};
use serde_json::Value;

/// Where a pod or a container of ours departs from the Pod Security Standard `restricted`, sharpened by a read-only root
/// and by no token that was not asked for; and why it must.
const EXCEPTIONS: &[(&str, &str)] = &[
    (
        "culvert-node: hostPID",
        "the processes of the node's pods lead to their network namespaces",
    ),
    (
        "culvert-node: hostPath /run/culvert",
        "the CNI plug-in runs on the node and asks the agent there",
    ),
    ("culvert-node: hostPath /var/lib/culvert", "what must outlive a reboot"),
    (
        "culvert-node: hostPath /sys/fs/bpf",
        "pinned programs outlive the agent",
    ),
    (
        "culvert-node: hostPath /sys/fs/cgroup",
        "programs are attached to the node's cgroup",
    ),
    ("culvert-node: hostPath /var/run/netns", "the pods' network namespaces"),
    (
        "culvert-node: hostPath /opt/cni/bin",
        "the CNI plug-in is installed there",
    ),
    (
        "culvert-node: hostPath /etc/cni/net.d",
        "the CNI configuration names the plug-in",
    ),
    (
        "culvert-node: hostPath /run/containerd",
        "the container runtime's socket",
    ),
    ("culvert-node: hostPath /run/crio", "the same, of CRI-O"),
    (
        "culvert-node/agent: runs as root",
        "writes what belongs to the node's root",
    ),
    (
        "culvert-node/agent: AppArmor unconfined",
        "runtimes' profile forbids writing below /sys/fs/bpf",
    ),
    ("culvert-node/agent: adds NET_ADMIN", "see node.yaml"),
    ("culvert-node/agent: adds SYS_ADMIN", "see node.yaml"),
    ("culvert-node/agent: adds SYS_PTRACE", "see node.yaml"),
    ("culvert-node/agent: adds NET_RAW", "see node.yaml"),
    (
        "culvert-node/ztunnel: runs as root",
        "the monitor; its worker becomes nobody",
    ),
    ("culvert-node/ztunnel: adds SYS_ADMIN", "see node.yaml"),
    ("culvert-node/ztunnel: adds SETUID", "see node.yaml"),
    ("culvert-node/ztunnel: adds SETGID", "see node.yaml"),
    ("culvert-node/ztunnel: adds KILL", "see node.yaml"),
    (
        "culvert-controller: mounts a token for the API server",
        "the controller speaks with it",
    ),
];

#[test]
fn every_departure_from_the_restricted_rules_is_written_down() {
    let mut found = BTreeSet::new();
    for document in manifests(&Values::default()).unwrap() {
        let Some(spec) = document.value().pointer("/spec/template/spec") else {
            continue;
        };
        let spec: PodSpec = serde_json::from_value(spec.clone()).unwrap();
        found.extend(pod_departures(&document.id().name, &spec));
        for container in spec.init_containers.iter().flatten().chain(&spec.containers) {
            found.extend(container_departures(&document.id().name, &spec, container));
        }
    }
    let written: BTreeSet<String> = EXCEPTIONS.iter().map(|(what, _)| (*what).to_owned()).collect();
    assert_eq!(found, written);
}

fn pod_departures(name: &str, spec: &PodSpec) -> Vec<String> {
    let mut found = Vec::new();
    let mut note = |departs: bool, what: &str| {
        if departs {
            found.push(format!("{name}: {what}"));
        }
    };
    note(spec.host_network == Some(true), "hostNetwork");
    note(spec.host_pid == Some(true), "hostPID");
    note(spec.host_ipc == Some(true), "hostIPC");
    note(spec.share_process_namespace == Some(true), "shareProcessNamespace");
    note(
        spec.automount_service_account_token != Some(false),
        "mounts a token for the API server",
    );
    note(
        spec.enable_service_links != Some(false),
        "Services as environment variables",
    );
    for volume in spec.volumes.iter().flatten() {
        match &volume.host_path {
            Some(host) => note(true, &format!("hostPath {}", host.path)),
            None => note(
                volume.projected.is_none() && volume.config_map.is_none() && volume.empty_dir.is_none(),
                &format!("volume {} of an unusual kind", volume.name),
            ),
        }
    }
    let context = spec.security_context.clone().unwrap_or_default();
    note(context.sysctls.is_some(), "sysctls");
    note(context.se_linux_options.is_some(), "SELinux options");
    note(context.app_armor_profile.is_some(), "AppArmor for the pod");
    found
}

fn container_departures(pod: &str, spec: &PodSpec, container: &Container) -> Vec<String> {
    let context = container.security_context.clone().unwrap_or_default();
    let mut found = Vec::new();
    let mut note = |departs: bool, what: &str| {
        if departs {
            found.push(format!("{pod}/{}: {what}", container.name));
        }
    };
    note(context.privileged == Some(true), "privileged");
    note(context.allow_privilege_escalation != Some(false), "allows escalation");
    note(context.read_only_root_filesystem != Some(true), "writable root");
    note(context.proc_mount.is_some(), "procMount");
    note(context.se_linux_options.is_some(), "SELinux options");
    note(!is_non_root(spec, &context), "runs as root");
    let profile = context.app_armor_profile.as_ref().map(|profile| profile.type_.as_str());
    note(profile == Some("Unconfined"), "AppArmor unconfined");
    let pods = spec
        .security_context
        .as_ref()
        .and_then(|context| context.seccomp_profile.as_ref());
    let seccomp = context
        .seccomp_profile
        .as_ref()
        .or(pods)
        .map(|profile| profile.type_.as_str());
    note(seccomp != Some("RuntimeDefault"), "no seccomp profile");
    let capabilities = context.capabilities.unwrap_or_default();
    note(capabilities.drop != Some(vec!["ALL".to_owned()]), "keeps capabilities");
    for capability in capabilities.add.into_iter().flatten() {
        note(true, &format!("adds {capability}"));
    }
    note(
        container.ports.iter().flatten().any(|port| port.host_port.is_some()),
        "host port",
    );
    let resources = container.resources.clone().unwrap_or_default();
    let (requests, limits) = (
        resources.requests.unwrap_or_default(),
        resources.limits.unwrap_or_default(),
    );
    note(
        !requests.contains_key("cpu") || !requests.contains_key("memory"),
        "requests nothing",
    );
    note(!limits.contains_key("memory"), "unlimited memory");
    note(limits.contains_key("cpu"), "throttled");
    found
}

fn is_non_root(spec: &PodSpec, context: &SecurityContext) -> bool {
    let pod = spec.security_context.clone().unwrap_or_default();
    let user = context.run_as_user.or(pod.run_as_user);
    context.run_as_non_root.or(pod.run_as_non_root) == Some(true) && user.is_some_and(|user| user != 0)
}

/// The reasons are read from the comments in the manifests; one that is missing is an error there.
#[test]
fn every_capability_and_every_rule_has_its_reason_beside_it() {
    let Privileges {
        capabilities,
        permissions,
    } = privileges().unwrap();
    let named: BTreeSet<String> = capabilities
        .iter()
        .map(|capability| format!("culvert-node/{}: adds {}", capability.container, capability.name))
        .collect();
    let granted = EXCEPTIONS
        .iter()
        .map(|(what, _)| (*what).to_owned())
        .filter(|what| what.contains(": adds "));
    assert_eq!(named, granted.collect::<BTreeSet<_>>());
    for reason in capabilities
        .iter()
        .map(|c| &c.reason)
        .chain(permissions.iter().map(|p| &p.reason))
    {
        assert!(reason.split(' ').count() >= 4, "{reason:?} says little");
    }
    let setns = capabilities
        .iter()
        .find(|c| c.container == "ztunnel" && c.name == "SYS_ADMIN")
        .unwrap();
    assert!(setns.reason.contains("setns"), "{setns:?}");
}

#[test]
fn no_rule_has_a_wildcard_and_what_can_be_named_is() {
    let permissions = privileges().unwrap().permissions;
    assert!(permissions.len() > 20);
    for permission in &permissions {
        for part in [&permission.group, &permission.resource, &permission.verb] {
            assert!(!part.contains('*'), "{permission:?}");
        }
        let is_ours = ["secrets", "configmaps", "leases", "daemonsets"].contains(&permission.resource.as_str());
        // The name of what is posted is not part of the question that authorization answers.
        // Whoever writes a policy says which ConfigMap has its certificates, and a Gateway which has its parameters. None can be found by
        // this right.
        let is_named_by_objects =
            permission.resource == "configmaps" && permission.verb == "get" && permission.namespace.is_none();
        let must_be_named = is_ours && permission.verb != "create" && !is_named_by_objects;
        assert!(!must_be_named || !permission.names.is_empty(), "{permission:?}");
        let never = ["bind", "escalate", "impersonate", "deletecollection"];
        assert!(!never.contains(&permission.verb.as_str()), "{permission:?}");
    }
    let secrets = permissions.iter().filter(|permission| permission.resource == "secrets");
    assert!(
        secrets.clone().count() > 0
            && secrets
                .clone()
                .all(|p| p.namespace.as_deref() == Some("culvert-system"))
    );
    let mut distinct: Vec<_> = permissions
        .iter()
        .map(|p| (&p.role, &p.namespace, &p.group, &p.resource, &p.verb, &p.names))
        .collect();
    distinct.sort();
    distinct.dedup();
    assert_eq!(distinct.len(), permissions.len(), "a verb is granted twice");
}

/// One that it may not read would be as if the cluster had none of it: passed over in silence.
#[test]
fn the_controller_may_follow_every_kind_that_it_serves_say_in_the_status_of_istios_and_of_routes_and_no_more() {
    let permissions = privileges().unwrap().permissions;
    let ours = permissions
        .iter()
        .filter(|one| one.role == "culvert-controller" && one.namespace.is_none());
    let ours = ours.filter(|one| one.names.is_empty() && one.verb != "create" && one.resource != "events");
    let granted: BTreeSet<(&str, String, &str)> = ours
        .map(|one| (one.group.as_str(), one.resource.clone(), one.verb.as_str()))
        .collect();
    let by_name = Kind::followed()
        .map(Kind::descriptor)
        .filter(|kind| !kind.names().is_empty());
    for kind in by_name {
        let mut follow = ["list", "watch"].iter();
        let is_granted = follow.all(|verb| {
            let mut all = permissions.iter();
            all.any(|one| one.resource == kind.plural && one.verb == *verb && one.names == kind.names())
        });
        assert!(is_granted, "{}", kind.title);
    }
    let all_of = Kind::followed()
        .map(Kind::descriptor)
        .filter(|kind| kind.names().is_empty());
    let needed = all_of.flat_map(|kind| {
        let follow = ["list", "watch"].map(|verb| (kind.group, kind.plural.to_owned(), verb));
        let say = [
            (kind.group, kind.plural.to_owned(), "get"),
            (kind.group, format!("{}/status", kind.plural), "patch"),
        ];
        let is_istios = kind.group.ends_with(".istio.io");
        follow.into_iter().chain(say.into_iter().filter(move |_| is_istios))
    });
    // Waypoints are made of these, and looked at first; what is made is followed, to be repaired.
    let parts = [
        ("", "serviceaccounts"),
        ("", "services"),
        ("apps", "deployments"),
        ("policy", "poddisruptionbudgets"),
        ("autoscaling", "horizontalpodautoscalers"),
    ];
    let waypoints = parts
        .into_iter()
        .flat_map(|(group, plural)| ["get", "list", "watch", "patch"].map(|verb| (group, plural.to_owned(), verb)));
    let said = [
        "backendtlspolicies",
        "gateways",
        "grpcroutes",
        "httproutes",
        "listenersets",
        "tcproutes",
        "tlsroutes",
        "udproutes",
    ];
    let said = said.into_iter().flat_map(|plural| {
        [(plural.to_owned(), "get"), (format!("{plural}/status"), "patch")]
            .map(|(resource, verb)| ("gateway.networking.k8s.io", resource, verb))
    });
    let experimental = ["xbackendtrafficpolicies", "xtelemetrypolicies"]
        .into_iter()
        .flat_map(|plural| {
            [(plural.to_owned(), "get"), (format!("{plural}/status"), "patch")]
                .map(|(resource, verb)| ("gateway.networking.x-k8s.io", resource, verb))
        });
    let own = [
        ("culvert.dev", "trafficpolicies".to_owned(), "get"),
        ("culvert.dev", "trafficpolicies/status".to_owned(), "patch"),
    ];
    // An autoscaler is not wanted any more before its Gateway goes. A Gateway names the ConfigMap with its parameters, a policy the one with
    // its certificates.
    let named = [
        ("autoscaling", "horizontalpodautoscalers".to_owned(), "delete"),
        ("", "configmaps".to_owned(), "get"),
    ];
    assert_eq!(
        granted,
        needed
            .chain(waypoints)
            .chain(said)
            .chain(experimental)
            .chain(own)
            .chain(named)
            .collect()
    );
}

#[test]
fn each_role_is_bound_to_the_account_that_it_is_for() {
    let mut values = Values::default();
    values.components = [Component::HoldNodes].into();
    let documents = manifests(&values).unwrap();
    let of = |kind: &str| {
        documents
            .iter()
            .filter(|d| d.id().kind == kind)
            .collect::<Vec<&Document>>()
    };
    for (role, binding) in [("Role", "RoleBinding"), ("ClusterRole", "ClusterRoleBinding")] {
        let (roles, bindings) = (of(role), of(binding));
        assert_eq!(roles.len(), bindings.len());
        for role in roles {
            let bound = bindings
                .iter()
                .find(|binding| binding.id().name == role.id().name)
                .unwrap()
                .value();
            assert_eq!(bound["roleRef"]["name"].as_str(), Some(role.id().name.as_str()));
            assert_eq!(bound["roleRef"]["kind"].as_str(), Some(role.id().kind.as_str()));
            let subjects: Vec<&Value> = bound["subjects"].as_array().unwrap().iter().collect();
            assert_eq!(subjects.len(), 1);
            assert_eq!(subjects[0]["namespace"], "culvert-system");
            let account = subjects[0]["name"].as_str().unwrap();
            assert!(role.id().name.starts_with(account));
            assert!(
                of("ServiceAccount")
                    .iter()
                    .any(|document| document.id().name == account)
            );
        }
    }
}

/// Two tokens in one pod, each in the one container that it is for.
#[test]
fn the_proxy_cannot_ask_the_api_server_and_the_agent_cannot_ask_the_controller() {
    let documents = manifests(&Values::default()).unwrap();
    let node = documents
        .iter()
        .find(|document| document.id().kind == "DaemonSet")
        .unwrap();
    let spec: PodSpec = serde_json::from_value(node.value()["spec"]["template"]["spec"].clone()).unwrap();
    let volumes = spec.volumes.clone().unwrap();
    let tokens = |container: &str| -> Vec<Option<String>> {
        let container = spec.containers.iter().find(|c| c.name == container).unwrap();
        let mounted = container
            .volume_mounts
            .iter()
            .flatten()
            .map(|mount| mount.name.as_str());
        let mounted: BTreeSet<&str> = mounted.collect();
        let volumes = volumes.iter().filter(|volume| mounted.contains(volume.name.as_str()));
        let sources = volumes
            .filter_map(|volume| volume.projected.as_ref()?.sources.as_ref())
            .flatten();
        sources
            .filter_map(|source| Some(source.service_account_token.as_ref()?.audience.clone()))
            .collect()
    };
    assert_eq!(tokens("ztunnel"), [Some("istio-ca".to_owned())]);
    assert_eq!(tokens("agent"), [None], "no audience means the API server's");
}
