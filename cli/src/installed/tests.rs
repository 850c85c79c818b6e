use super::{agent, controllers, judged, node};
use crate::{
    cluster::{Page, Unanswered},
    foreign::PolicyFlags,
    line::{Level, Line},
    survey::{Controller, NodeFacts, NodeReport, Survey},
};
use serde_json::{Value, from_value, json};

fn page(status: u16, body: &str) -> Result<Page, Unanswered> {
    let body = body.to_owned();
    Ok(Page { status, body })
}

fn well() -> NodeReport {
    NodeReport {
        agent: Ok(json!({ "ready": true, "proxies": [{ "pid": 1 }], "pods": [] })),
        agent_metrics: page(
            200,
            "culvert_agent_map_entries{map=\"pods\"} 1\nculvert_agent_map_size{map=\"pods\"} 10\n",
        ),
        proxy_ready: page(200, "ready\n"),
        proxy_metrics: page(200, "culvert_ztunnel_controller_connected 1\n"),
        proxy: Ok(
            json!({ "generation": 7, "synced": true, "ranges": { "list": ["198.18.0.0/16"], "from_controller": true },
            "subscribed_addresses": 12, "descriptors_short": false }),
        ),
        certificates: Ok(
            json!({ "certificates": [{ "identity": "a", "valid": true, "not_after": "2026-11-22T00:00:00Z" }] }),
        ),
        workloads: None,
    }
}

fn ready_pod(name: &str) -> k8s_openapi::api::core::v1::Pod {
    let status =
        |container: &str| json!({ "name": container, "ready": true, "restartCount": 0, "image": "", "imageID": "" });
    from_value(json!({
        "metadata": { "name": name },
        "status": {
            "conditions": [{ "type": "Ready", "status": "True" }],
            "containerStatuses": [status("agent"), status("ztunnel")],
        },
    }))
    .unwrap()
}

/// A mesh of one node, in which all is well.
fn survey(report: NodeReport) -> Survey {
    let mut controller = controller(&stream("5", "5", 0));
    controller.pod = ready_pod("c-1");
    Survey {
        deployment: Some(
            from_value(json!({ "metadata": {}, "spec": { "replicas": 1, "selector": {}, "template": {} } })).unwrap(),
        ),
        daemon_set: Some(from_value(json!({ "metadata": {} })).unwrap()),
        leader: Some("c-1".to_owned()),
        controllers: vec![controller],
        nodes: vec![NodeFacts {
            name: "n".to_owned(),
            is_ready: true,
            is_ours: true,
            architecture: "amd64".to_owned(),
            pod: Some(ready_pod("culvert-node-1")),
            report: Some(report),
            ..NodeFacts::default()
        }],
        ..Survey::default()
    }
}

/// What `status` shows and `check` has remedies for.
fn wrong(survey: &Survey) -> Vec<Line> {
    let lines = judged(survey, "v1.34.4", PolicyFlags::default());
    lines.into_iter().filter(|line| line.level >= Level::Warn).collect()
}

/// The one thing that is wrong.
fn only_wrong(survey: &Survey, what: &str) -> Line {
    let mut lines = wrong(survey);
    lines.retain(|line| line.what == what);
    assert_eq!(lines.len(), 1, "{what}: {:#?}", wrong(survey));
    let line = lines.remove(0);
    assert!(line.remedy.is_some(), "{line}");
    line
}

fn controller(stream: &Value) -> Controller {
    Controller {
        pod: from_value(json!({ "metadata": { "name": "c-1" } })).unwrap(),
        status: Ok(json!({ "nodes": [stream], "findings": [] })),
    }
}

fn stream(sent: &str, acknowledged: &str, refused: u64) -> Value {
    let progress =
        json!({ "held": 3, "sent": sent, "acknowledged": acknowledged, "refused": refused, "reason": "bad" });
    json!({ "node": "n", "connected_seconds": 7, "types": { "Address": progress } })
}

#[test]
fn local_legs_are_shown_where_the_kernel_is_to_carry_them_and_why_it_does_not() {
    let of = |legs: Value| {
        let lines = agent::judged(
            "n",
            &json!({ "ready": true, "proxies": [{ "pid": 1 }], "pods": [], "local_legs": legs }),
        );
        lines.into_iter().find(|line| line.what == "local legs")
    };
    assert!(of(json!({ "by": "tcp", "refused": null, "counted": { "joined": 0 } })).is_none());
    let counted = json!({ "joined": 7, "redirected_bytes": 900, "tcp_unread": 2, "tcp_late": 1 });
    let carried = of(json!({ "by": "kernel", "refused": null, "counted": counted })).expect("a line");
    assert_eq!(carried.level, Level::Ok);
    assert!(carried.found.contains("7 connections, 3 of them"), "{}", carried.found);
    let refused = of(json!({ "by": "tcp", "refused": "it is old", "counted": {} })).expect("a line");
    assert!(
        refused.level == Level::Warn && refused.found.contains("it is old"),
        "{}",
        refused.found
    );
}

#[test]
fn what_goes_past_the_proxy_is_shown_and_why_it_cannot() {
    let of = |same_node: Value| {
        let lines = agent::judged(
            "n",
            &json!({ "ready": true, "proxies": [{ "pid": 1 }], "pods": [], "same_node": same_node }),
        );
        lines.into_iter().find(|line| line.what == "same node")
    };
    assert!(of(json!({ "pairs": 0, "refused": null })).is_none() && of(Value::Null).is_none());
    let some = of(json!({ "pairs": 3, "refused": null })).expect("a line");
    assert!(some.level == Level::Ok && some.found.contains("3 pairs"), "{some}");
    let refused = of(json!({ "pairs": 0, "refused": "connections cannot be closed" })).expect("a line");
    assert!(
        refused.level == Level::Warn && refused.found.contains("cannot be closed"),
        "{refused}"
    );
}

#[test]
fn a_mesh_that_is_well_has_only_good_lines() {
    assert_eq!(wrong(&survey(well())), []);
}

#[test]
fn a_program_that_came_off_is_named_with_what_it_means_for_traffic() {
    let mut report = well();
    report.agent = Ok(json!({ "ready": true, "proxies": [{}], "pods": [],
        "programs": [{ "name": "culvert_connect4", "attached": false }, { "name": "culvert_sock_ops", "attached": true }] }));
    let line = only_wrong(&survey(report), "programs");
    assert_eq!(line.level, Level::Fail);
    assert!(
        line.found.contains("culvert_connect4") && line.found.contains("plaintext"),
        "{line}"
    );
}

#[test]
fn a_proxy_without_a_controller_is_named_and_not_each_of_its_certificates() {
    let mut report = well();
    let certificates: String = (0..50)
        .map(|n| format!("a certificate for spiffe://x/{n} (a/{n})\n"))
        .collect();
    report.proxy_ready = page(
        503,
        &format!("missing:\nconfiguration from the controller\n{certificates}"),
    );
    report.proxy_metrics = page(200, "culvert_ztunnel_controller_connected 0\n");
    let mut survey = survey(report);
    survey.controllers[0].status = Ok(json!({ "nodes": [], "findings": [] }));
    let line = only_wrong(&survey, "in step");
    assert!(line.found.contains("no stream"), "{line}");
    let line = only_wrong(&survey, "listeners");
    assert!(
        line.found.contains("configuration from the controller") && line.found.contains("47 more"),
        "{line}"
    );
    assert!(line.found.len() < 400, "{line}");
}

#[test]
fn a_gate_that_is_missing_or_fought_over_is_named() {
    let with = |cni: Value| {
        let mut report = well();
        report.agent = Ok(json!({ "ready": true, "proxies": [{}], "pods": [], "cni": cni }));
        only_wrong(&survey(report), "CNI plug-in")
    };
    let missing = with(json!({ "configuration": null, "problem": "no conflist" }));
    assert!(
        missing.level == Level::Fail && missing.found.contains("no conflist"),
        "{missing}"
    );
    let fought = with(
        json!({ "configuration": "/etc/cni/net.d/00-x.conflist", "problem": null,
        "warning": "somebody else rewrites this folder" }),
    );
    assert!(
        fought.level == Level::Warn && fought.found.contains("somebody else"),
        "{fought}"
    );
}

#[test]
fn connections_from_before_capture_are_counted_with_their_pods() {
    let mut report = well();
    let pod = |name: &str, earlier: u32| json!({ "namespace": "shop", "name": name, "state": "captured", "open_before_capture": { "found": 3, "open": earlier } });
    report.agent = Ok(json!({ "ready": true, "proxies": [{}], "pods": [pod("a", 3), pod("b", 0)] }));
    let line = only_wrong(&survey(report), "earlier connections");
    assert!(
        line.found.starts_with('3') && line.found.contains("shop/a") && !line.found.contains("shop/b"),
        "{line}"
    );
}

#[test]
fn a_proxy_that_runs_short_of_descriptors_or_memory_is_named() {
    let mut report = well();
    // One that is older than the page of its state.
    report.proxy = Err(Unanswered("answered 404".to_owned()));
    report.proxy_metrics = page(
        200,
        "culvert_ztunnel_descriptors_short 1\nculvert_ztunnel_held_bytes 95\nculvert_ztunnel_held_limit_bytes 100\n",
    );
    let lines = wrong(&survey(report));
    let found: Vec<&str> = lines.iter().map(|line| line.found.as_str()).collect();
    assert!(found.iter().any(|found| found.contains("descriptors")), "{found:?}");
    assert!(found.iter().any(|found| found.contains("95 of 100 bytes")), "{found:?}");
}

#[test]
fn what_a_proxy_says_of_itself_is_named_once() {
    let mut report = well();
    report.proxy_metrics = page(200, "culvert_ztunnel_descriptors_short 1\n");
    report.proxy.as_mut().unwrap()["descriptors_short"] = true.into();
    report.proxy.as_mut().unwrap()["ranges"]["from_controller"] = false.into();
    let survey = survey(report);
    assert_eq!(only_wrong(&survey, "limits").level, Level::Fail);
    assert_eq!(only_wrong(&survey, "ranges").level, Level::Warn);
}

#[test]
fn what_an_agent_has_noticed_of_pods_is_named_and_many_notices_stay_readable() {
    let pod = |name: &str, notices: &[&str]| json!({ "namespace": "shop", "name": name, "state": "captured", "notices": notices });
    let mut report = well();
    let pods = [pod("a", &["it forwards packets"]), pod("b", &[])];
    report.agent = Ok(json!({ "ready": true, "proxies": [{}], "pods": pods }));
    let line = only_wrong(&survey(report), "notices");
    assert_eq!(line.level, Level::Warn);
    assert_eq!(line.found, "pod shop/a: it forwards packets");
    let mut report = well();
    let pods: Vec<Value> = (0..40).map(|n| pod(&n.to_string(), &["x", "y"])).collect();
    report.agent = Ok(json!({ "ready": true, "proxies": [{}], "pods": pods }));
    let lines = wrong(&survey(report));
    assert_eq!(lines.len(), 6, "{lines:?}");
    assert!(lines[5].found.contains("75 more"), "{}", lines[5]);
}

#[test]
fn what_guards_have_dropped_is_shown_with_the_pods() {
    let pod =
        |name: &str, guard: Value| json!({ "namespace": "shop", "name": name, "state": "captured", "guard": guard });
    let pods = [
        pod("a", json!({ "interfaces": 1, "strict": true, "dropped": 7 })),
        pod("b", json!({ "interfaces": 1, "strict": false, "dropped": 0 })),
        pod("c", Value::Null),
    ];
    let mut report = well();
    report.agent = Ok(json!({ "ready": true, "proxies": [{}], "pods": pods }));
    let survey = survey(report);
    assert!(wrong(&survey).is_empty());
    let lines = judged(&survey, "v1.34.4", PolicyFlags::default());
    let line = lines.into_iter().find(|line| line.what == "guard").unwrap();
    assert_eq!(
        line.found,
        "on the links of 2 pods, 1 of them strict; 7 attempts to get past the tunnel dropped: shop/a"
    );
}

#[test]
fn an_uninstallation_by_helm_that_was_broken_off_is_named() {
    let mut survey = survey(well());
    let annotations = json!({ "culvert.dev/uninstalling": "true" });
    survey.daemon_set = Some(from_value(json!({ "metadata": { "annotations": annotations } })).unwrap());
    let line = only_wrong(&survey, "uninstalling");
    assert!(line.found.starts_with("daemonset culvert-node"), "{line}");
}

#[test]
fn what_the_agent_had_to_repair_is_named() {
    let mut report = well();
    report.agent = Ok(
        json!({ "ready": true, "proxies": [{}], "pods": [], "repairs": { "link": 2 },
        "last_repair": "link: culvert_connect4", "problems": ["pin is not as it should be: x"] }),
    );
    let lines = wrong(&survey(report));
    let found: Vec<&str> = lines.iter().map(|line| line.found.as_str()).collect();
    assert!(
        found.iter().any(|found| found.contains("culvert_connect4")),
        "{found:?}"
    );
    assert!(
        found.iter().any(|found| found.contains("not as it should be")),
        "{found:?}"
    );
}

#[test]
fn a_node_without_an_agent_is_named_with_the_reason_why_no_pod_is_made() {
    let mut survey = survey(well());
    survey.nodes[0].pod = None;
    survey.nodes[0].report = None;
    let event = json!({ "metadata": {}, "involvedObject": { "kind": "DaemonSet", "name": "culvert-node" }, "reason": "FailedCreate",
        "message": "insufficient quota to match these scopes: [{PriorityClass In [system-node-critical]}]" });
    survey.warnings = vec![from_value(event).unwrap()];
    survey.daemon_set = Some(
        from_value(json!({ "metadata": {}, "status": { "desiredNumberScheduled": 1,
        "currentNumberScheduled": 0, "numberMisscheduled": 0, "numberReady": 0 } }))
        .unwrap(),
    );
    assert!(only_wrong(&survey, "pod").found.contains("insufficient quota"));
    assert!(only_wrong(&survey, "DaemonSet").found.contains("ResourceQuota"));
}

#[test]
fn a_node_that_the_images_are_not_for_is_no_fault_and_its_pods_that_should_be_in_are() {
    let mut survey = survey(well());
    let node = &mut survey.nodes[0];
    (node.pod, node.report, node.architecture) = (None, None, "riscv64".to_owned());
    node.labels = [("kubernetes.io/arch".to_owned(), "riscv64".to_owned())].into();
    let rule = json!({ "key": "kubernetes.io/arch", "operator": "In", "values": ["amd64"] });
    survey.daemon_set = Some(
        from_value(
            json!({ "metadata": {}, "spec": { "selector": {}, "template": { "spec": { "containers": [],
        "affinity": { "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [{ "matchExpressions": [rule] }] } } } } } } }),
        )
        .unwrap(),
    );
    let lines = node::judged(&survey.nodes[0], &survey);
    assert!(
        lines[0].level == Level::Ok && lines[0].found.contains("riscv64"),
        "{lines:?}"
    );
    let labels = json!({ "culvert.dev/mesh": "ambient" });
    survey.namespaces = vec![from_value(json!({ "metadata": { "name": "shop", "labels": labels } })).unwrap()];
    let pod = json!({ "metadata": { "namespace": "shop", "name": "a" }, "spec": { "nodeName": "n", "containers": [] },
        "status": { "phase": "Running", "podIP": "198.19.1.2" } });
    survey.pods = vec![from_value(pod).unwrap()];
    let line = only_wrong(&survey, "pods");
    assert!(line.level == Level::Fail && line.found.contains("shop/a"), "{line}");
}

#[test]
fn each_fault_of_a_node_fails_its_own_line_with_a_remedy() {
    let mut report = well();
    report.certificates = Ok(json!({ "certificates": [{ "identity": "a", "valid": false }] }));
    report.agent = Ok(json!({ "ready": true, "proxies": [] }));
    let survey = survey(report);
    for what in ["certificates", "proxy"] {
        assert_eq!(only_wrong(&survey, what).level, Level::Fail);
    }
}

#[test]
fn a_node_is_in_step_when_it_acknowledged_the_last_nonce() {
    let level = |stream: Value| {
        let mut survey = survey(well());
        survey.controllers[0].status = controller(&stream).status;
        let lines = node::judged(&survey.nodes[0], &survey);
        lines.into_iter().find(|line| line.what == "in step").unwrap().level
    };
    assert_eq!(level(stream("6", "5", 0)), Level::Wait);
    assert_eq!(level(stream("6", "6", 1)), Level::Fail);
    assert_eq!(level(json!({ "node": "other" })), Level::Fail);
}

#[test]
fn a_map_that_is_nearly_full_is_told_before_it_is() {
    let mut report = well();
    report.agent_metrics = page(
        200,
        "culvert_agent_map_entries{map=\"pods\"} 9\nculvert_agent_map_size{map=\"pods\"} 10\n",
    );
    assert_eq!(only_wrong(&survey(report), "kernel maps").level, Level::Warn);
}

#[test]
fn a_dead_node_and_a_missing_controller_show_as_such() {
    let mut report = well();
    report.agent = Err(Unanswered("no answer within 5 s".to_owned()));
    assert_eq!(only_wrong(&survey(report), "agent").level, Level::Fail);
    assert_eq!(controllers::judged(&Survey::default())[0].level, Level::Fail);
}

#[test]
fn an_agent_that_could_not_take_over_says_why() {
    let page =
        json!({ "ready": false, "standby": "pid 7", "obstacle": "the kernel refuses culvert_connect4", "pods": [] });
    let lines = agent::judged("n", &page);
    assert!(
        lines[0].level == Level::Fail && lines[0].found.contains("culvert_connect4"),
        "{lines:?}"
    );
}
