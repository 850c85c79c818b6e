//! Answers that are compressed.

use std::net::SocketAddr;

use culvert_lab::ServiceSpec;
use culvert_tests::{http::Head, lab, text_app, waypoint::Kind};
use serde_json::json;

use super::scene::{Scene, WEB, policy, port, route, service};

fn compresses_answers(kind: Kind) {
    let lab = lab(&format!("wp_compress_{}", kind.word()));
    let scene = Scene::set(&lab, kind);
    text_app::serve(&scene.town.server, WEB + 1);
    let text = ServiceSpec::new("town", "text")
        .port_object(port("http", 80, WEB + 1))
        .selector("app", "server")
        .label("culvert.dev/use-waypoint", "wp");
    let text = lab.service(text).unwrap();
    let to = SocketAddr::from((text.ip4(), 80));
    let fetch = |path: &str, accepted: &str, pieces: Option<usize>| {
        text_app::fetch(&scene.town.client, to, path, accepted, pieces).unwrap_or((Head(Vec::new()), Vec::new()))
    };
    let coding = |path: &str, accepted: &str| fetch(path, accepted, None).0.all("content-encoding");
    let types = ["text/plain", "text/event-stream"];
    scene.apply(&policy(
        "text",
        &service("text"),
        &json!({"compression": {"contentTypes": types}}),
    ));
    scene.wait("answers to be compressed", &mut || coding("/long", "gzip").is_some());

    let long = text_app::long();
    for accepted in ["gzip", "br", "zstd"] {
        let (head, body) = fetch("/long", accepted, None);
        assert_eq!(head.all("content-encoding").as_deref(), Some(accepted), "{head:?}");
        assert!(body.len() < long.len() / 10, "{accepted}: {}", body.len());
        assert_eq!(text_app::unpacked(accepted, &body), long);
        assert_eq!(head.get("etag"), Some("W/\"tag\""), "{head:?}");
        let vary = head.get("vary").unwrap_or_default().to_ascii_lowercase();
        assert_eq!(vary, "accept-encoding", "{head:?}");
    }
    // As the client likes it best.
    let some = |text: &str| Some(text.to_owned());
    for (accepted, expected) in [
        ("gzip, deflate, br, zstd", some("zstd")),
        ("gzip, br", some("gzip")),
        ("gzip;q=0.5, br;q=0.8", some("br")),
        ("gzip;q=0, *", some("zstd")),
        ("identity", None),
        ("deflate", None),
        ("gzip;q=0", None),
    ] {
        assert_eq!(coding("/long", accepted), expected, "{accepted}");
    }
    // What is short, no text, compressed already or a part is left alone.
    for (path, expected) in [
        ("/short", None),
        ("/image", None),
        ("/packed", some("x-own")),
        ("/part", None),
    ] {
        let (head, body) = fetch(path, "gzip", None);
        assert_eq!(head.all("content-encoding"), expected, "{path}");
        assert!(path == "/short" || body == long.as_bytes(), "{path}");
    }
    // An event can be read when it is there, though nothing follows.
    let (head, mut body) = fetch("/events", "gzip", Some(1));
    if text_app::unpacked("gzip", &body).is_empty() {
        // The head of the stream may come by itself.
        body = fetch("/events", "gzip", Some(2)).1;
    }
    assert_eq!(head.get("content-encoding"), Some("gzip"));
    assert_eq!(text_app::unpacked("gzip", &body), "data: first\n\n");

    // A route's own algorithms hold in the place of the Service's.
    scene.apply(&json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"name": "t", "namespace": "town"},
        "spec": {"parentRefs": [{"group": "", "kind": "Service", "name": "text"}], "rules": [
            {"name": "own", "matches": [{"path": {"value": "/own"}}], "backendRefs": [{"name": "text", "port": 80}]},
            {"filters": [{"type": "RequestHeaderModifier", "requestHeaderModifier": {"remove": ["accept-encoding"]}}],
             "backendRefs": [{"name": "text", "port": 80}]},
        ]},
    }));
    scene.apply(&policy(
        "own",
        &route("t", Some("own")),
        &json!({"compression": {"algorithms": ["br"]}}),
    ));
    scene.wait("a rule's own algorithm to hold", &mut || {
        coding("/own", "gzip, br") == some("br") && coding("/own", "gzip").is_none()
    });
    // What the client accepts counts, also where the application is not told.
    assert_eq!(coding("/long", "gzip"), some("gzip"));
}

#[test]
fn culvert_compresses_answers() {
    compresses_answers(Kind::Culvert);
}

#[test]
fn envoy_compresses_answers() {
    compresses_answers(Kind::Envoy);
}
