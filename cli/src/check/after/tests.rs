use super::{agent, certificates, controllers, in_step, listeners, maps};
use crate::{
    check::Level,
    cluster::{Page, Unanswered},
    survey::{Controller, Said, Survey},
};
use serde_json::{Value, from_value, json};

fn page(status: u16, body: &str) -> Result<Page, Unanswered> {
    let body = body.to_owned();
    Ok(Page { status, body })
}

fn well() -> Said {
    Said {
        agent: Ok(json!({ "ready": true, "proxies": [{ "pid": 1 }], "pods": [] })),
        agent_metrics: page(
            200,
            "culvert_agent_map_entries{map=\"pods\"} 1\nculvert_agent_map_size{map=\"pods\"} 10\n",
        ),
        proxy_ready: page(200, "ready\n"),
        proxy_metrics: page(200, "culvert_ztunnel_controller_connected 1\n"),
        certificates: Ok(
            json!({ "certificates": [{ "identity": "a", "valid": true, "not_after": "2026-11-22T00:00:00Z" }] }),
        ),
    }
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
fn a_node_that_is_well_has_only_good_lines() {
    let said = well();
    let mut lines = agent("n", &said);
    lines.extend([maps("n", &said), listeners("n", &said), certificates("n", &said)]);
    lines.push(in_step("n", &said, &[controller(&stream("5", "5", 0))]));
    assert!(lines.iter().all(|line| line.level == Level::Ok), "{lines:#?}");
}

#[test]
fn each_fault_fails_its_own_line_with_a_remedy() {
    let mut said = well();
    said.proxy_ready = page(503, "missing:\ncertificate of a\n");
    said.certificates = Ok(json!({ "certificates": [{ "identity": "a", "valid": false }] }));
    said.agent = Ok(
        json!({ "ready": true, "proxies": [], "programs": [{ "name": "connect4", "attached": false }],
        "cni": { "configuration": null, "problem": "no conflist" } }),
    );
    let mut lines = agent("n", &said);
    lines.extend([listeners("n", &said), certificates("n", &said)]);
    assert_eq!(lines.len(), 5);
    for line in &lines {
        assert_eq!(line.level, Level::Fail, "{line}");
        assert!(line.remedy.is_some(), "{line}");
    }
}

#[test]
fn a_node_is_in_step_when_it_acknowledged_the_last_nonce() {
    let level = |stream: Value| in_step("n", &well(), &[controller(&stream)]).level;
    assert_eq!(level(stream("6", "5", 0)), Level::Warn);
    assert_eq!(level(stream("6", "6", 1)), Level::Fail);
    assert_eq!(
        in_step("other", &well(), &[controller(&stream("5", "5", 0))]).level,
        Level::Fail
    );
}

#[test]
fn a_map_that_is_nearly_full_is_told_before_it_is() {
    let mut said = well();
    said.agent_metrics = page(
        200,
        "culvert_agent_map_entries{map=\"pods\"} 9\nculvert_agent_map_size{map=\"pods\"} 10\n",
    );
    assert_eq!(maps("n", &said).level, Level::Warn);
}

#[test]
fn a_dead_node_and_a_missing_controller_show_as_such() {
    let mut said = well();
    said.agent = Err(Unanswered("no answer within 5 s".to_owned()));
    assert_eq!(agent("n", &said)[0].level, Level::Fail);
    assert_eq!(controllers(&Survey::default())[0].level, Level::Fail);
}
