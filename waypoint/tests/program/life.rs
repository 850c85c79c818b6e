//! From the first configuration to the end.

use std::{future::Future, net::SocketAddr, time::Duration};

use culvert_envoy::{CLUSTER_TYPE, ENDPOINT_TYPE, LISTENER_TYPE, ROUTE_TYPE, names};
use culvert_waypoint::config::cluster::Protocol;
use http_body_util::BodyExt as _;

use crate::{
    controller::Controller,
    envoy::{ROUTES, cluster, endpoints, http_listener, route, routes},
    mesh::{DEADLINE, Mesh, text},
    process::Process,
};

const WEB: &str = "shop/wp/shop/web.shop.svc.cluster.local:80";

/// The program, with an endpoint, and a mesh whose clients ask the program.
async fn start() -> (Mesh, Controller, Process) {
    let mut mesh = Mesh::start();
    let endpoint = mesh
        .endpoint("web", false, |request| async move {
            if request.uri().path() == "/slow" {
                // Until the client has sent all.
                let _ = request.into_body().collect().await;
                return text("slow");
            }
            text("web")
        })
        .await;
    let controller = Controller::start(&mesh.authority).await;
    controller.put(CLUSTER_TYPE, WEB, &cluster(WEB, Protocol::Http1));
    controller.put(ENDPOINT_TYPE, WEB, &endpoints(WEB, &[&endpoint]));
    controller.put(LISTENER_TYPE, &names::inbound("shop/wp"), &http_listener(vec![]));
    controller.put(ROUTE_TYPE, ROUTES, &routes(vec![route("/", &[(WEB, 1)])]));
    let process = Process::start(&mesh.authority, &controller);
    mesh.waypoint = SocketAddr::new(process.address, 15008);
    (mesh, controller, process)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_ready_once_all_came_and_follows_what_changes() {
    let (mesh, controller, process) = start().await;
    process.until_ready().await;
    assert_eq!(controller.node(), "waypoint~127.0.0.1~wp-0.shop~shop.svc.cluster.local");
    assert_eq!(
        mesh.http1().await.get("/").await,
        (200, "web".to_owned()),
        "a request through the program"
    );
    // A bad one is refused by name, and the last good one stays.
    let mut bad = cluster(WEB, Protocol::Http1);
    bad.dns_lookup_family = 2;
    controller.put(CLUSTER_TYPE, WEB, &bad);
    let refusal = until(|| controller.refusals().first().cloned()).await;
    assert_eq!(
        refusal,
        format!("{WEB}: cluster: dns_lookup_family: is set, and is not served here")
    );
    assert_eq!(mesh.http1().await.get("/").await.0, 200);
    // Routes that name a cluster which is not there.
    controller.put(ROUTE_TYPE, ROUTES, &routes(vec![route("/", &[("shop/wp/nowhere", 1)])]));
    let mut client = mesh.http1().await;
    let status = in_time(async {
        loop {
            match client.get("/").await.0 {
                200 => tokio::time::sleep(Duration::from_millis(10)).await,
                status => return status,
            }
        }
    });
    assert_eq!(status.await, 503);
    let metrics = process.page(15020, "/metrics").await;
    assert!(
        metrics.contains("istio_requests_total{reporter=\"waypoint\""),
        "{metrics}"
    );
    assert!(metrics.contains("response_flags=\"NC\""), "{metrics}");
    let dump = process.page(15000, "/config_dump").await;
    assert!(dump.contains(WEB), "{dump}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn routes_that_are_refused_and_endpoints_that_do_not_exist_keep_nobody_from_being_served() {
    let mut mesh = Mesh::start();
    let endpoint = mesh.endpoint("web", false, |_| async { text("web") }).await;
    let controller = Controller::start(&mesh.authority).await;
    controller.put(CLUSTER_TYPE, WEB, &cluster(WEB, Protocol::Http1));
    controller.put(LISTENER_TYPE, &names::inbound("shop/wp"), &http_listener(vec![]));
    let good = routes(vec![route("/", &[(WEB, 1)])]);
    let mut bad = good.clone();
    "another".clone_into(&mut bad.name);
    controller.put(ROUTE_TYPE, ROUTES, &bad);
    let process = Process::start(&mesh.authority, &controller);
    mesh.waypoint = SocketAddr::new(process.address, 15008);
    process.until_ready().await;
    assert_eq!(
        controller.refusals(),
        [format!("{ROUTES}: the resource calls itself `another`")]
    );
    assert_eq!(mesh.http1().await.get("/").await.0, 404);
    controller.put(ROUTE_TYPE, ROUTES, &good);
    controller.put(ENDPOINT_TYPE, WEB, &endpoints(WEB, &[&endpoint]));
    let mut client = mesh.http1().await;
    let served = in_time(async {
        while client.get("/").await != (200, "web".to_owned()) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    served.await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn told_to_end_it_lets_requests_end_and_takes_no_new_ones() {
    let (mesh, _controller, mut process) = start().await;
    process.until_ready().await;
    let mut client = mesh.http1().await;
    assert_eq!(client.get("/").await.0, 200, "the connection is open");
    let (body, ends) = tokio::sync::oneshot::channel::<()>();
    let request = client.streaming("/slow", ends);
    let answer = tokio::spawn(async move {
        let response = client.send(request).await.unwrap();
        let headers = response.headers().clone();
        (headers, response.into_body().collect().await.unwrap().to_bytes())
    });
    // The request is under way once it is counted.
    in_time(async {
        while !process
            .page(15000, "/config_dump")
            .await
            .contains("\"active_requests\": 1")
        {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    process.terminate();
    in_time(async {
        while process.page(15021, "/healthz/ready").await.starts_with("HTTP/1.1 200") {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    body.send(()).unwrap();
    let (headers, body) = answer.await.unwrap();
    assert_eq!(body, "slow");
    assert_eq!(headers["connection"], "close");
    assert!(process.ended().await);
}

async fn until<T>(what: impl Fn() -> Option<T>) -> T {
    in_time(async {
        loop {
            match what() {
                Some(value) => return value,
                None => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    })
    .await
}

async fn in_time<F: Future>(what: F) -> F::Output {
    tokio::time::timeout(DEADLINE, what).await.expect("in time")
}
