//! Requests reach an endpoint, and answers come back, whatever each side speaks.

use std::sync::atomic::Ordering;

use culvert_waypoint::config::cluster::Protocol;
use http_body_util::BodyExt as _;

use crate::{
    envoy::{cluster, endpoints, http_listener, route, routes},
    mesh::{Mesh, text},
};

#[tokio::test]
async fn requests_are_spread_over_two_clusters_by_weight_in_every_mix_of_versions() {
    let mesh = Mesh::start();
    let old = mesh.endpoint("web-v1", false, |_| async { text("v1") }).await;
    let new = mesh.endpoint("web-v2", true, |_| async { text("v2") }).await;
    mesh.tell(|store| {
        store.put_listener(&http_listener(vec![])).unwrap();
        store.put_cluster(&cluster("v1", Protocol::Http1)).unwrap();
        store.put_cluster(&cluster("v2", Protocol::Http2)).unwrap();
        store.put_endpoints(&endpoints("v1", &[&old])).unwrap();
        store.put_endpoints(&endpoints("v2", &[&new])).unwrap();
        store
            .put_routes(&routes(vec![route("/", &[("v1", 3), ("v2", 1)])]))
            .unwrap();
    });
    for mut client in [mesh.http1().await, mesh.http2().await] {
        let mut seen = [0, 0];
        for _ in 0..200 {
            match client.get("/x").await {
                (200, body) if body == "v1" => seen[0] += 1,
                (200, body) if body == "v2" => seen[1] += 1,
                other => panic!("{other:?}"),
            }
        }
        assert!(seen[0] > 100 && seen[1] > 20, "{seen:?}");
    }
    assert_eq!(old.connections.load(Ordering::SeqCst), 1, "kept alive, whoever asks");
    assert_eq!(new.connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn an_endpoint_sees_where_a_request_comes_from() {
    let mesh = Mesh::start();
    let endpoint = mesh
        .endpoint("web", false, |request| async move {
            let mut lines: Vec<String> = request
                .headers()
                .iter()
                .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
                .collect();
            lines.sort();
            text(format!("{} {}\n{}", request.method(), request.uri(), lines.join("\n")))
        })
        .await;
    mesh.tell(|store| {
        store.put_listener(&http_listener(vec![])).unwrap();
        store.put_cluster(&cluster("web", Protocol::Http1)).unwrap();
        store.put_endpoints(&endpoints("web", &[&endpoint])).unwrap();
        store.put_routes(&routes(vec![route("/", &[("web", 1)])])).unwrap();
    });
    let mut client = mesh.http2().await;
    let mut request = client.request("POST", "/a?b=c", "hello");
    request.headers_mut().insert("x-request-id", "given".parse().unwrap());
    let response = client.send(request).await.unwrap();
    assert_eq!(response.status(), 200);
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let body = String::from_utf8(body.to_vec()).unwrap();
    assert_eq!(
        body,
        "POST /a?b=c\ncontent-length: 5\nhost: web.shop\nx-envoy-attempt-count: 1\nx-envoy-expected-rq-timeout-ms: 15000\nx-forwarded-for: 127.0.0.1\nx-forwarded-proto: http\n\
         x-request-id: given"
    );
}
