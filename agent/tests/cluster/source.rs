//! What the source makes of a real cluster.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use culvert_agent::source::kubernetes::{Arrival, ArrivalError, KubernetesPods, Verdict};
use serde_json::Value;

use crate::support::{Lab, inode, nothing, snapshot, wanted};

#[tokio::test]
#[ignore = "brings up a cluster: `cargo xtask test --cluster` runs it"]
async fn the_source_follows_a_real_cluster() {
    let lab = Lab::up("agent-source");
    let mut pods = lab.source(true).await;
    snapshot(&mut pods, "the cluster's DNS, outside", |snapshot| {
        let mut outside = snapshot.outside.iter();
        snapshot.complete && outside.any(|pod| pod.name.name.starts_with("coredns") && pod.problem.is_none())
    })
    .await;
    labels(&lab, &mut pods).await;
    arrivals(&lab, &mut pods).await;
    restarts(&lab, &mut pods).await;
    recreated(&lab, &mut pods).await;
    gone(&lab, &mut pods).await;
}

/// Labels bring in a pod that runs already, and take it out, at once.
async fn labels(lab: &Lab, pods: &mut KubernetesPods) {
    lab.namespace("shop");
    lab.pod("shop", "web", "");
    lab.pod("shop", "host", "hostNetwork: true,");
    let status = lab.running("shop", "web");
    snapshot(pods, "web, outside", |snapshot| {
        snapshot
            .outside
            .iter()
            .any(|pod| pod.name.name == "web" && !pod.addresses.is_empty())
    })
    .await;
    lab.kubectl(&["label", "namespace", "shop", "culvert.dev/mesh=ambient"]);
    let since = Instant::now();
    let inside = snapshot(pods, "web, wanted", |snapshot| wanted(snapshot, "web").is_some()).await;
    eprintln!("wanted {:?} after kubectl had ended", since.elapsed());
    let web = wanted(&inside, "web").expect("web");
    assert_eq!(
        web.addresses[0].to_string(),
        status["status"]["podIP"].as_str().expect("address")
    );
    assert_eq!(&*web.uid, status["metadata"]["uid"].as_str().expect("uid"));
    assert!(wanted(&inside, "host").is_none() && inside.complete);

    // /proc tells of the same namespace as the container runtime.
    let mut by_proc = lab.source(false).await;
    let found = snapshot(&mut by_proc, "web, by /proc", |snapshot| {
        wanted(snapshot, "web").is_some()
    })
    .await;
    let other = wanted(&found, "web").expect("web");
    assert_ne!(other.netns, web.netns);
    assert_eq!(inode(&other.netns), inode(&web.netns));
    assert_ne!(inode(&web.netns), inode(&PathBuf::from("/proc/self/ns/net")));

    lab.kubectl(&["label", "pod", "web", "-n", "shop", "culvert.dev/mesh=none"]);
    snapshot(pods, "web, out", |snapshot| wanted(snapshot, "web").is_none()).await;
    lab.kubectl(&[
        "label",
        "pod",
        "web",
        "-n",
        "shop",
        "culvert.dev/mesh=Ambient",
        "--overwrite",
    ]);
    snapshot(pods, "web, with a problem", |snapshot| {
        let mut outside = snapshot.outside.iter();
        outside.any(|pod| pod.name.name == "web" && pod.problem.as_ref().is_some_and(|said| said.contains("Ambient")))
    })
    .await;
    lab.kubectl(&["label", "pod", "web", "-n", "shop", "culvert.dev/mesh-"]);
    snapshot(pods, "web, back", |snapshot| wanted(snapshot, "web").is_some()).await;
}

fn arrival(pod: &Value, uid: Option<&str>) -> Arrival {
    let text = |field: &str| pod["metadata"][field].as_str().expect("text").to_owned();
    Arrival {
        namespace: text("namespace"),
        name: text("name"),
        uid: uid.map_or_else(|| text("uid"), ToOwned::to_owned),
        netns: "/proc/self/ns/net".into(),
        addresses: vec!["198.18.255.1".parse().expect("address")],
    }
}

/// The gate asks about pods that the watches may not have named yet.
async fn arrivals(lab: &Lab, pods: &mut KubernetesPods) {
    let arrivals = pods.arrivals();
    // A namespace that had no pod here, and nothing that makes a sandbox: the pod asks for a volume that is not there.
    lab.namespace("fresh");
    lab.kubectl(&["label", "namespace", "fresh", "culvert.dev/mesh=ambient"]);
    // kubelet waits only for volumes that a container uses.
    let volume = "volumes: [{name: v, configMap: {name: absent}}], initContainers: [{name: i, \
                  image: 'cluster.local/pause:1', volumeMounts: [{name: v, mountPath: /v}]}],";
    let pod = lab.pod("fresh", "early", volume);
    let since = Instant::now();
    let verdict = arrivals.arrive(arrival(&pod, None)).await.expect("a verdict");
    eprintln!("judged in {:?}", since.elapsed());
    let uid = pod["metadata"]["uid"].as_str().expect("uid");
    assert_eq!(verdict, Verdict::Wanted { uid: uid.into() });
    snapshot(pods, "early, wanted", |snapshot| {
        wanted(snapshot, "early").is_some_and(|spec| spec.addresses[0].to_string() == "198.18.255.1")
    })
    .await;
    let unknown = arrivals.arrive(arrival(&pod, Some("another"))).await;
    assert!(matches!(unknown, Err(ArrivalError::Unknown { .. })), "{unknown:?}");
    arrivals.leave(uid, Some("/proc/self/ns/net".as_ref()));
    // And searched for in vain.
    snapshot(pods, "early, without a place", |snapshot| {
        snapshot.complete && wanted(snapshot, "early").is_none()
    })
    .await;
}

/// The API server and the container runtime may go and come back.
async fn restarts(lab: &Lab, pods: &mut KubernetesPods) {
    let early = lab.get(&["pod", "early", "-n", "fresh"]);
    lab.cluster
        .node("node1")
        .expect("node")
        .restart_containerd()
        .expect("restart containerd");
    lab.cluster.stop_api_server().expect("stop the API server");
    nothing(pods, Duration::from_secs(3)).await;
    let arrivals = pods.arrivals();
    let known = arrivals
        .arrive(arrival(&early, None))
        .await
        .expect("what is known is enough");
    assert!(matches!(known, Verdict::Wanted { .. }), "{known:?}");
    let mut stranger = early.clone();
    stranger["metadata"]["name"] = "stranger".into();
    let nobody = arrivals.arrive(arrival(&stranger, None)).await;
    assert!(
        matches!(nobody, Err(ArrivalError::Api { .. } | ArrivalError::Timeout { .. })),
        "{nobody:?}"
    );
    lab.cluster.start_api_server().expect("start the API server");
    lab.kubectl(&["label", "namespace", "fresh", "culvert.dev/mesh=none", "--overwrite"]);
    let back = snapshot(pods, "early, out", |snapshot| wanted(snapshot, "early").is_none()).await;
    assert!(wanted(&back, "web").is_some(), "and nobody else");
}

/// A pod that comes back under its name is another one, in a namespace of its own.
async fn recreated(lab: &Lab, pods: &mut KubernetesPods) {
    let before = lab.get(&["pod", "web", "-n", "shop"]);
    lab.kubectl(&["delete", "pod", "web", "-n", "shop"]);
    lab.pod("shop", "web", "");
    let uid = before["metadata"]["uid"].as_str().expect("uid");
    let again = snapshot(pods, "web, anew", |snapshot| {
        wanted(snapshot, "web").is_some_and(|spec| *spec.uid != *uid)
    })
    .await;
    let status = lab.running("shop", "web");
    let web = wanted(&again, "web").expect("web");
    assert_eq!(
        web.addresses[0].to_string(),
        status["status"]["podIP"].as_str().expect("address")
    );
}

async fn gone(lab: &Lab, pods: &mut KubernetesPods) {
    lab.kubectl(&["delete", "namespace", "shop", "fresh"]);
    let last = snapshot(pods, "nobody", |snapshot| snapshot.wanted.is_empty()).await;
    assert!(last.complete, "{last:?}");
}
