//! Events, as `kubectl describe pod` shows them.

use std::sync::Arc;

use culvert_agent::{
    enrolment::status::{PodState, PodStatus, Status},
    events,
    source::{PodName, kubernetes},
};
use tokio::sync::watch;

use crate::support::{Lab, until};

#[test]
#[ignore = "brings up a cluster: `cargo xtask test --cluster` runs it"]
fn what_the_mesh_did_to_a_pod_is_shown_by_kubectl_describe() {
    let lab = Lab::up("agent-events");
    lab.namespace("told");
    // As long as a name may be.
    let name = format!("{}.{}", "a".repeat(63), "b".repeat(189));
    let pod = lab.pod("told", &name, "");
    let kubeconfig = lab.cluster.kubeconfig().to_owned();
    let (status, shown) = watch::channel(Arc::new(Status::default()));
    // A thread of its own, since this one waits for kubectl.
    let writer = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("runtime");
        runtime.block_on(async {
            let client = kubernetes::client(Some(&kubeconfig)).await.expect("client");
            events::run(client, "node1".into(), shown).await;
        });
    });
    let show = |state: PodState, problem: Option<&str>| {
        let pod = PodStatus {
            name: PodName {
                namespace: "told".into(),
                name: name.clone(),
            },
            uid: pod["metadata"]["uid"].as_str().expect("uid").into(),
            addresses: Vec::new(),
            cookie: None,
            state,
            certified: true,
            fallback: culvert_objects::Fallback::None,
            problem: problem.map(Into::into),
            unguarded: None,
            notices: Vec::new(),
        };
        let mut status = Status {
            ready: true,
            ..Status::default()
        };
        status.pods.push(pod);
        status
    };
    let wait = |what: &str| {
        until(what, || {
            let described = lab.kubectl(&["describe", "pod", &name, "-n", "told"]);
            (described.contains(what) && described.contains("culvert.dev/agent")).then_some(described)
        })
    };
    for (state, problem, said) in [
        (PodState::Refused, Some("it claims the moon"), "claims the moon"),
        (PodState::Captured, None, "Enrolled"),
        (PodState::Outside, None, "Left"),
        (PodState::Failed, Some("its namespace is on fire"), "on fire"),
        (PodState::Captured, None, "x2"),
    ] {
        status.send_replace(Arc::new(show(state, problem)));
        eprintln!("{}", wait(said).lines().last().unwrap_or_default());
    }
    drop(status);
    writer.join().expect("it ends with enrolment");
    lab.kubectl(&["delete", "namespace", "told", "--wait=false"]);
}
