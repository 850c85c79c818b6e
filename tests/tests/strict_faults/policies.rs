//! Policies change, break, and are given up.

use culvert_lab::{MeshOptions, wait_until};
use culvert_tests::{PATIENCE, lab, strict_town::StrictTown, town::PORT};
use serde_json::json;
use std::{net::SocketAddr, time::Duration};

#[test]
fn no_byte_is_in_clear_while_policies_change_or_break() {
    let lab = lab("sf_policy");
    let mut strict = StrictTown::start(&lab, MeshOptions::default());
    let mode = |mode: &str| json!({ "mtls": { "mode": mode } });
    lab.namespace("istio-system").unwrap();
    strict.during(
        "what makes pods strict changes from the namespace to the mesh and back",
        |strict| {
            let before = generations(strict);
            strict.apply("istio-system", "everywhere", mode("STRICT"));
            let read = wait_until("the policy to be read", PATIENCE, || generations(strict) > before);
            read.unwrap_or_else(|error| panic!("{error:#}"));
            for _ in 0..3 {
                lab.delete("PeerAuthentication", "town", "default").unwrap();
                strict.everybody_tries();
                strict.apply("town", "default", mode("STRICT"));
                strict.everybody_tries();
            }
            lab.delete("PeerAuthentication", "istio-system", "everywhere").unwrap();
        },
    );
    let at_the_exception = |strict: &StrictTown<'_>, ends: &[SocketAddr; 2]| {
        ends.iter().any(|end| strict.is_strangers(*end)) && ends.iter().any(|end| end.port() == PORT)
    };
    strict.during_but("another port becomes an exception", at_the_exception, |strict| {
        let other = json!({ "selector": { "matchLabels": { "app": "server" } }, "portLevelMtls": { PORT.to_string(): { "mode": "DISABLE" } } });
        strict.apply("town", "one", other);
        let reaches = || strict.stranger.connect((strict.town.server.ip4(), PORT), Duration::from_secs(1)).is_ok();
        strict.wait("it to be one", reaches);
        strict.everybody_tries();
        lab.delete("PeerAuthentication", "town", "one").unwrap();
        strict.wait_guarded();
    });
    strict.during("the policy's file is broken", |strict| {
        lab.write_config(
            "peerauthentication-town-default.yaml",
            "kind: PeerAuthentication\nspec: [",
        )
        .unwrap();
        let is_found = || {
            let findings = strict.town.mesh.get_controller("/findings").unwrap().body;
            findings.contains("peerauthentication-town-default.yaml")
        };
        strict.wait("the finding", is_found);
        strict.everybody_tries();
        strict.apply("town", "default", mode("STRICT"));
    });
    strict.during("all is denied, and allowed again", |strict| {
        let denied = json!({
            "apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
            "metadata": { "name": "nobody", "namespace": "town" }, "spec": {},
        });
        lab.apply(&denied).unwrap();
        strict.nobody_is_answered();
        lab.delete("AuthorizationPolicy", "town", "nobody").unwrap();
    });
    // What strangers say, when they are let in, is seen by the taps, and what pods of the mesh say is not even then.
    let strangers = |strict: &StrictTown<'_>, ends: &[SocketAddr; 2]| ends.iter().any(|end| strict.is_strangers(*end));
    strict.during_but("strict mode is given up and comes back", strangers, |strict| {
        strict.apply("town", "default", mode("PERMISSIVE"));
        strict.strangers_are_answered();
        strict.apply("town", "default", mode("STRICT"));
        strict.wait_guarded();
        strict.strangers_are_not_answered();
    });
    strict.during("nothing but the strict mode that has come back", |strict| {
        strict.everybody_tries()
    });
}

/// How often the controller has read objects anew.
fn generations(strict: &mut StrictTown<'_>) -> usize {
    let log = strict.town.mesh.controller().unwrap().log();
    log.matches("\"message\":\"configuration\"").count()
}
