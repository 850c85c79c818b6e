//! How it starts, lives with broken input, and ends.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use tempfile::TempDir;

use crate::client::{ADDRESS_TYPE, Client};
use crate::process::{Controller, program};

const GOOD: &str = "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n---\napiVersion: v1\nkind: Pod\n\
    metadata: {name: a, namespace: shop}\nstatus: {podIP: 198.18.0.1}\n";

#[tokio::test]
async fn broken_yaml_is_reported_and_the_last_good_state_holds() {
    let controller = Controller::start(GOOD);
    let mut client = Client::connect(&controller, "n").await;
    assert_eq!(client.wildcard(ADDRESS_TYPE).await.resources.len(), 1);
    controller.write(&GOOD.replace("198.18.0.1", "198.18.0.1000"));
    let found = controller
        .until("/findings", |f| f.as_array().is_some_and(|f| f.len() == 1))
        .await;
    let finding = &found[0];
    assert!(finding["file"].as_str().unwrap().ends_with("all.yaml"));
    assert_eq!(
        (&finding["document"], &finding["object"]),
        (&2.into(), &"Pod shop/a".into())
    );
    assert_eq!(finding["field"], "status.podIP");
    assert_eq!(controller.metric("culvert_controller_findings"), 1.0);
    controller.write(&GOOD.replace("198.18.0.1", "198.18.0.2"));
    // The broken state was never sent: the next that comes is the repaired one.
    assert_eq!(
        crate::client::rendered(&client.next().await)["Kubernetes//Pod/shop/a"]["workload"]["addresses"][0],
        "198.18.0.2"
    );
    controller
        .until("/findings", |f| f.as_array().is_some_and(Vec::is_empty))
        .await;
}

#[tokio::test]
async fn it_ends_when_asked_and_says_so_to_its_clients() {
    let mut controller = Controller::start(GOOD);
    assert_eq!(controller.get("/healthz/ready"), "ready\n");
    let mut client = Client::connect(&controller, "n").await;
    client.wildcard(ADDRESS_TYPE).await;
    controller.terminate();
    let status = client.end().await.unwrap();
    assert_eq!(status.code(), tonic::Code::Unavailable, "{status}");
    assert!(controller.ended().await.success());
}

#[tokio::test]
async fn secrets_are_for_the_owner_alone() {
    let controller = Controller::start(GOOD);
    controller.token("n");
    for file in ["ca/root.key", "tokens/n"] {
        let mode = fs::metadata(controller.state.join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
}

#[test]
fn it_says_why_it_does_not_start() {
    let (config, state) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let run = |flags: &[&str]| {
        let mut command = program();
        command.args([
            "--xds-listen",
            "127.0.0.1:0",
            "--monitoring-listen",
            "127.0.0.1:0",
            "--state-dir",
        ]);
        let output = command.arg(state.path()).args(flags).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let dir = config.path().to_str().unwrap();
    let (code, text) = run(&["--service-cidr", "nowhere"]);
    assert_eq!((code, text.contains("nowhere")), (Some(2), true), "{text}");
    let (code, text) = run(&["--config-dir", "/nonexistent/mesh"]);
    assert_eq!((code, text.contains("/nonexistent/mesh")), (Some(1), true), "{text}");
    let (code, text) = run(&["--config-dir", dir, "--trust-domain", "not a domain"]);
    assert_eq!((code, text.contains("not a domain")), (Some(2), true), "{text}");
    let (code, text) = run(&["--config-dir", dir, "--leaf-ttl", "never"]);
    assert_eq!((code, text.contains("never")), (Some(2), true), "{text}");
    fs::remove_file(state.path().join("ca/root.key")).unwrap();
    let (code, text) = run(&["--config-dir", dir]);
    assert_eq!((code, text.contains("root.key")), (Some(1), true), "{text}");
}

/// Seen: a root was made, and everything signed under it, although somebody else was to give one.
#[test]
fn to_wait_for_a_given_root_beside_a_directory_is_an_error_and_no_root_is_made() {
    let (config, state) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let mut command = program();
    command.arg("--config-dir").arg(config.path());
    command.arg("--state-dir").arg(state.path()).arg("--given-ca");
    let output = command.output().unwrap();
    assert!(!output.status.success());
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("--given-ca") && said.contains("--config-dir"), "{said}");
    assert_eq!(fs::read_dir(state.path()).unwrap().count(), 0);
}
