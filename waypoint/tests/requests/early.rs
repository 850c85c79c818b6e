//! Requests that come between a listener and the routes that it names.

use std::time::Duration;

use crate::{
    envoy::{ROUTES, cluster, endpoints, http_listener, route, routes},
    mesh::{DEADLINE, Endpoint, Mesh, text},
};
use culvert_waypoint::config::cluster::Protocol;

/// Less than the waypoint waits for routes that nothing is heard of.
const SOON: Duration = Duration::from_secs(10);

/// A waypoint that knows everything but its routes, and has an endpoint.
async fn without_routes() -> (Mesh, Endpoint) {
    let mesh = Mesh::start();
    let web = mesh.endpoint("web", false, |_| async { text("web") }).await;
    mesh.tell(|store| {
        store.put_listener(&http_listener(vec![])).unwrap();
        store.put_cluster(&cluster("web", Protocol::Http1)).unwrap();
        store.put_endpoints(&endpoints("web", &[&web])).unwrap();
    });
    (mesh, web)
}

#[tokio::test]
async fn a_request_that_comes_before_its_routes_waits_for_them() {
    let (mesh, _web) = without_routes().await;
    let mut client = mesh.http1().await;
    let asking = client.get("/");
    tokio::pin!(asking);
    let early = tokio::time::timeout(Duration::from_millis(200), &mut asking).await;
    assert!(early.is_err(), "answered without routes: {early:?}");
    // Something else is published meanwhile.
    mesh.tell(|store| store.remove_cluster("another"));
    mesh.tell(|store| store.put_routes(&routes(vec![route("/", &[("web", 1)])])).unwrap());
    let answer = tokio::time::timeout(DEADLINE, asking).await.unwrap();
    assert_eq!(answer, (200, "web".to_owned()));
}

#[tokio::test]
async fn nobody_waits_for_routes_that_were_refused_or_are_said_not_to_exist_and_later_ones_are_served() {
    for tell_of in [
        |store: &mut culvert_waypoint::state::Store| store.refuse_routes(ROUTES),
        |store: &mut culvert_waypoint::state::Store| store.remove_routes(ROUTES),
    ] {
        let (mesh, _web) = without_routes().await;
        let mut client = mesh.http1().await;
        {
            let asking = client.get("/");
            tokio::pin!(asking);
            let early = tokio::time::timeout(Duration::from_millis(50), &mut asking).await;
            assert!(early.is_err(), "answered without routes: {early:?}");
            mesh.tell(tell_of);
            let answer = tokio::time::timeout(SOON, asking).await.unwrap();
            assert_eq!(answer.0, 404);
        }
        assert_eq!(client.get("/").await.0, 404);
        mesh.tell(|store| store.put_routes(&routes(vec![route("/", &[("web", 1)])])).unwrap());
        assert_eq!(client.get("/").await, (200, "web".to_owned()));
    }
}
