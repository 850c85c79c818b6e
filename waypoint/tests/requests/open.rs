//! Connections that are open when the chain changes by which they came, or goes.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use culvert_waypoint::{config::cluster::Protocol, state::Store};
use http::Request;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;

use crate::{
    decide::allows,
    envoy::{ROUTES, cluster, endpoints, http_filter, http_listener, listener, route, routes},
    mesh::{Client, DEADLINE, Endpoint, Mesh, SERVICE, text},
};

async fn served() -> (Mesh, Endpoint) {
    served_and_counted(Arc::default()).await
}

/// The endpoint counts the requests that reach it.
async fn served_and_counted(reached: Arc<AtomicUsize>) -> (Mesh, Endpoint) {
    let mesh = Mesh::start();
    let answer = move |request: Request<Incoming>| {
        reached.fetch_add(1, Ordering::SeqCst);
        async move {
            // Until the client has sent all.
            let _ = request.into_body().collect().await;
            text("web")
        }
    };
    let web = mesh.endpoint("web", false, answer).await;
    mesh.tell(|store| {
        store.put_listener(&http_listener(vec![])).unwrap();
        store.put_cluster(&cluster("web", Protocol::Http1)).unwrap();
        store.put_endpoints(&endpoints("web", &[&web])).unwrap();
        store.put_routes(&routes(vec![route("/", &[("web", 1)])])).unwrap();
    });
    (mesh, web)
}

/// As a controller has it go: the listener first, and what it led to after.
fn end(mesh: &Mesh, end: impl Fn(&mut Store)) {
    mesh.tell(end);
    mesh.tell(|store| store.remove_routes(ROUTES));
    mesh.tell(|store| {
        store.remove_cluster("web");
        store.remove_endpoints("web");
    });
}

#[tokio::test]
async fn a_connection_of_http1_whose_port_goes_gets_its_answer_and_is_told_to_end() {
    for ends in [
        |store: &mut Store| store.put_listener(&listener(vec![])).unwrap(),
        |store: &mut Store| store.remove_listener(),
    ] {
        let (mesh, _web) = served().await;
        let mut client = mesh.http1().await;
        assert_eq!(client.get("/").await, (200, "web".to_owned()));
        end(&mesh, ends);
        let response = client.send(client.request("GET", "/", "")).await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["connection"], "close");
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "web");
        let ended = client.send(client.request("GET", "/", "")).await;
        assert!(ended.is_err(), "another answer: {ended:?}");
        // Nobody takes new ones.
        assert!(mesh.connect("client", crate::mesh::SERVICE).await.is_err());
    }
}

#[tokio::test]
async fn a_connection_of_http2_whose_port_goes_ends_when_its_last_request_has() {
    let (mesh, _web) = served().await;
    let mut client = mesh.http2().await;
    let (body, ends) = tokio::sync::oneshot::channel();
    let request = client.streaming("/", ends);
    let slow = tokio::spawn(async move {
        let response = client.send(request).await.unwrap();
        let status = response.status();
        (client, status, response.into_body().collect().await.unwrap().to_bytes())
    });
    let begun = async {
        while mesh.requests("web") == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(DEADLINE, begun).await.unwrap();
    end(&mesh, |store| store.put_listener(&listener(vec![])).unwrap());
    body.send(()).unwrap();
    let (mut client, status, body) = tokio::time::timeout(DEADLINE, slow).await.unwrap().unwrap();
    assert_eq!((status.as_u16(), &*body), (200, &b"web"[..]));
    assert!(client.send(client.request("GET", "/", "")).await.is_err(), "GOAWAY");
}

/// Asks one request after the other until the connection takes none any more, and counts the answers. Whether one said that it is
/// the last.
async fn ask_until_it_ends(mut client: Client, answered: Arc<AtomicUsize>) -> bool {
    let mut is_last = false;
    loop {
        match client.send(client.request("GET", "/", "")).await {
            Ok(response) => {
                assert!(!is_last, "an answer after the last");
                assert_eq!(response.status(), 200);
                is_last = response
                    .headers()
                    .get("connection")
                    .is_some_and(|value| value == "close");
                assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "web");
                answered.fetch_add(1, Ordering::SeqCst);
            }
            Err(error) => {
                let is_unsent = error.is_closed() || error.is_canceled() || is_refused_by_goaway(&error);
                assert!(is_unsent, "a request that was sent: {error:?}");
                return is_last;
            }
        }
    }
}

/// Whether GOAWAY came before the client had sent the request: it may ask elsewhere (RFC 9113, 6.8).
fn is_refused_by_goaway(error: &hyper::Error) -> bool {
    let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<h2::Error>());
    cause.is_some_and(|cause| cause.is_go_away() && cause.is_remote() && cause.reason() == Some(h2::Reason::NO_ERROR))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_under_way_fails_when_a_port_goes_under_load() {
    let (reached, answered) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (mesh, _web) = served_and_counted(Arc::clone(&reached)).await;
    let (mut one, mut two) = (Vec::new(), Vec::new());
    for _ in 0..4 {
        let (client, connection) = mesh.undriven_http1(SERVICE).await;
        let asking = ask_until_it_ends(client, Arc::clone(&answered));
        one.push(tokio::spawn(async { tokio::join!(asking, connection).0 }));
        let (client, connection) = mesh.undriven_http2().await;
        let asking = ask_until_it_ends(client, Arc::clone(&answered));
        two.push(tokio::spawn(async { tokio::join!(asking, connection).0 }));
    }
    let is_loaded = async {
        while answered.load(Ordering::SeqCst) < 200 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(DEADLINE, is_loaded).await.unwrap();
    end(&mesh, |store| store.put_listener(&listener(vec![])).unwrap());
    let ended = async {
        for client in one {
            assert!(
                client.await.unwrap(),
                "the last answer of HTTP/1 says `connection: close`"
            );
        }
        for client in two {
            client.await.unwrap();
        }
    };
    tokio::time::timeout(DEADLINE, ended)
        .await
        .expect("connections are told to end");
    assert_eq!(
        reached.load(Ordering::SeqCst),
        answered.load(Ordering::SeqCst),
        "what reached the endpoint was answered, once"
    );
}

#[tokio::test]
async fn policies_that_change_hold_for_requests_of_open_connections_and_end_none() {
    let (mesh, _web) = served().await;
    let (mut one, mut two) = (mesh.http1().await, mesh.http2().await);
    let allowing = |account| http_listener(vec![http_filter("rbac", allows(account))]);
    let allowed = (200, "web".to_owned());
    let denied = (403, "RBAC: access denied".to_owned());
    for (account, expected) in [("client", &allowed), ("other", &denied), ("client", &allowed)] {
        mesh.tell(|store| store.put_listener(&allowing(account)).unwrap());
        assert_eq!(one.get("/").await, *expected, "{account}");
        assert_eq!(two.get("/").await, *expected, "{account}");
    }
    // The same again changes nothing, and a port that is back before anybody asked was never away.
    mesh.tell(|store| store.put_listener(&allowing("client")).unwrap());
    mesh.tell(|store| {
        store.remove_listener();
        store.put_listener(&allowing("other")).unwrap();
    });
    assert_eq!(one.get("/").await, denied);
    assert_eq!(two.get("/").await, denied);
}
