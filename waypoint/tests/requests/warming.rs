//! Clusters that change under load.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use culvert_envoy::pb::envoy::config::cluster::v3::{Cluster, cluster::EdsClusterConfig};
use culvert_waypoint::config::cluster::Protocol;

use crate::{
    envoy::{cluster, endpoints, http_listener, route, routes},
    mesh::{DEADLINE, Endpoint, Mesh, text},
};

/// `web` with these endpoints.
fn told(service_name: &str, protocol: Protocol) -> Cluster {
    Cluster {
        eds_cluster_config: Some(EdsClusterConfig {
            service_name: service_name.to_owned(),
            ..EdsClusterConfig::default()
        }),
        ..cluster("web", protocol)
    }
}

/// All requests go to `web`, whose endpoints are called `old`.
async fn serve_old(mesh: &Mesh) -> Endpoint {
    let old = mesh.endpoint("old", false, |_| async { text("old") }).await;
    mesh.tell(|store| {
        store.put_listener(&http_listener(vec![])).unwrap();
        store.put_cluster(&told("old", Protocol::Http1)).unwrap();
        store.put_endpoints(&endpoints("old", &[&old])).unwrap();
        store.put_routes(&routes(vec![route("/", &[("web", 1)])])).unwrap();
    });
    old
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_fails_while_the_endpoints_of_a_changed_cluster_are_awaited() {
    let mesh = Arc::new(Mesh::start());
    let _old = serve_old(&mesh).await;
    let new = mesh.endpoint("new", true, |_| async { text("new") }).await;
    let ends = Arc::new(AtomicBool::new(false));
    let asked = Arc::new(AtomicU32::new(0));
    let load: Vec<_> = (0..4)
        .map(|_| {
            let (mesh, ends, asked) = (Arc::clone(&mesh), Arc::clone(&ends), Arc::clone(&asked));
            tokio::spawn(async move {
                let mut client = mesh.http1().await;
                let mut answers = Vec::new();
                while !ends.load(Ordering::Relaxed) {
                    answers.push(client.get("/").await);
                    asked.fetch_add(1, Ordering::Relaxed);
                }
                answers
            })
        })
        .collect();
    let more = async |count: u32| {
        let until = asked.load(Ordering::Relaxed) + count;
        let reached = async {
            while asked.load(Ordering::Relaxed) < until {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(DEADLINE, reached).await.unwrap();
    };
    more(50).await;
    // Nothing of the changed cluster fits the endpoints that are known: it is HTTP/2, and for others.
    mesh.tell(|store| store.put_cluster(&told("new", Protocol::Http2)).unwrap());
    more(50).await;
    mesh.tell(|store| store.put_endpoints(&endpoints("new", &[&new])).unwrap());
    more(50).await;
    ends.store(true, Ordering::Relaxed);
    for client in load {
        let answers = client.await.unwrap();
        assert!(answers.iter().all(|(status, _)| *status == 200), "{answers:?}");
    }
    assert_eq!(mesh.http1().await.get("/").await, (200, "new".to_owned()));
}

#[tokio::test]
async fn endpoints_that_do_not_come_are_waited_for_no_longer_than_envoy_does() {
    let mesh = Mesh::start();
    let _old = serve_old(&mesh).await;
    let mut client = mesh.http1().await;
    mesh.tell(|store| store.put_cluster(&told("new", Protocol::Http1)).unwrap());
    let after = |seconds| mesh.store.lock().tend(Instant::now() + Duration::from_secs(seconds));
    after(14);
    assert_eq!(client.get("/").await, (200, "old".to_owned()));
    after(15);
    assert_eq!(client.get("/").await.0, 503);
}

#[tokio::test]
async fn a_cluster_that_is_removed_while_it_changes_is_gone() {
    let mesh = Mesh::start();
    let old = serve_old(&mesh).await;
    mesh.tell(|store| store.put_cluster(&told("new", Protocol::Http1)).unwrap());
    let mut client = mesh.http1().await;
    assert_eq!(client.get("/").await, (200, "old".to_owned()));
    mesh.tell(|store| store.remove_cluster("web"));
    assert_eq!(client.get("/").await.0, 503);
    mesh.tell(|store| store.put_endpoints(&endpoints("new", &[&old])).unwrap());
    assert_eq!(client.get("/").await.0, 503);
}
