use super::*;
use http::Request;

fn parts(request: http::request::Builder) -> request::Parts {
    request.body(()).unwrap().into_parts().0
}

static CLIENT: HeaderValue = HeaderValue::from_static("198.18.0.1");

#[test]
fn an_absolute_target_replaces_host() {
    let mut request = parts(Request::get("http://a.example/x").header("host", "b.example"));
    receive(&mut request, &CLIENT).unwrap();
    assert_eq!(request.uri, "http://a.example/x");
    send(&mut request, false).unwrap();
    assert_eq!(request.headers["host"], "a.example");
    assert_eq!(request.uri, "/x");
}

#[test]
fn the_scheme_is_that_of_the_target_or_else_what_the_proxy_before_says() {
    let scheme_of = |target: &str, said: Option<&str>| {
        let mut request = Request::get(target).header("host", "a.example");
        if let Some(said) = said {
            request = request.header("x-forwarded-proto", said);
        }
        let mut request = parts(request);
        receive(&mut request, &CLIENT).unwrap();
        request.uri.scheme_str().unwrap().to_owned()
    };
    assert_eq!(scheme_of("/x", None), "http");
    assert_eq!(scheme_of("/x", Some("https")), "https");
    assert_eq!(scheme_of("/x", Some("gopher")), "http");
    assert_eq!(scheme_of("https://a.example/x", None), "https");
    assert_eq!(scheme_of("http://a.example/x", Some("https")), "http");
    assert_eq!(scheme_of("gopher://a.example/x", None), "http");
}

#[test]
fn a_request_without_host_or_with_two_is_refused() {
    let mut none = parts(Request::get("/x"));
    assert_eq!(receive(&mut none, &CLIENT), Err(BadRequest::Host));
    let mut two = parts(Request::get("/x").header("host", "a").header("host", "b"));
    assert_eq!(receive(&mut two, &CLIENT), Err(BadRequest::Host));
}

#[test]
fn a_target_that_is_no_path_and_a_host_with_a_user_are_refused() {
    let mut no_path = parts(Request::get("one").header("host", "a"));
    assert_eq!(receive(&mut no_path, &CLIENT), Err(BadRequest::Path));
    for request in [
        Request::get("/x").header("host", "user@a"),
        Request::get("http://user@a/x").header("host", "a"),
    ] {
        assert_eq!(receive(&mut parts(request), &CLIENT), Err(BadRequest::Host));
    }
    let mut any = parts(Request::options("*").header("host", "a"));
    receive(&mut any, &CLIENT).unwrap();
    send(&mut any, false).unwrap();
    assert_eq!(any.uri, "*");
}

#[test]
fn a_body_comes_in_chunks_or_as_it_is() {
    let coded = |codings: &[&str]| {
        let mut request = Request::post("/x").header("host", "a");
        for coding in codings {
            request = request.header("transfer-encoding", *coding);
        }
        receive(&mut parts(request), &CLIENT)
    };
    assert_eq!(coded(&[]), Ok(()));
    assert_eq!(coded(&["Chunked"]), Ok(()));
    for codings in [&["gzip, chunked"][..], &["chunked", "chunked"], &["identity"]] {
        assert_eq!(coded(codings), Err(BadRequest::Coding), "{codings:?}");
    }
}

#[test]
fn trailers_say_nothing_of_the_message_as_a_whole() {
    let mut trailers = HeaderMap::new();
    for name in [
        "content-length",
        "content-type",
        "transfer-encoding",
        "host",
        "x-forwarded-client-cert",
        "x-forwarded-for",
        "x-envoy-retry-on",
        "authorization",
        "connection",
        "grpc-status",
        "x-checksum",
    ] {
        trailers.insert(HeaderName::from_static(name), HeaderValue::from_static("1"));
    }
    clean_trailers(&mut trailers);
    let mut left: Vec<&str> = trailers.keys().map(HeaderName::as_str).collect();
    left.sort_unstable();
    assert_eq!(left, ["grpc-status", "x-checksum"]);
}

#[test]
fn what_belongs_to_one_connection_goes_no_further() {
    let mut request = parts(
        Request::get("/x")
            .header("host", "a")
            .header("connection", "x-foo, Upgrade, host")
            .header("upgrade", "h2c")
            .header("x-foo", "1")
            .header("x-bar", "1")
            .header("te", "trailers, deflate")
            .header("keep-alive", "timeout=5")
            .header("expect", "100-continue")
            .header("x-envoy-max-retries", "9"),
    );
    receive(&mut request, &CLIENT).unwrap();
    send(&mut request, false).unwrap();
    let mut names: Vec<&str> = request.headers.keys().map(HeaderName::as_str).collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "host",
            "te",
            "x-bar",
            "x-forwarded-for",
            "x-forwarded-proto",
            "x-request-id"
        ]
    );
    assert_eq!(request.headers["te"], "trailers");
}

#[test]
fn nothing_that_only_a_proxy_may_say_is_believed_of_a_client() {
    for name in &INTERNAL {
        let mut request = parts(
            Request::get("http://a/x")
                .header(name, "1")
                .header("x-envoy-other", "1"),
        );
        receive(&mut request, &CLIENT).unwrap();
        assert!(!request.headers.contains_key(name), "{name}");
        assert!(request.headers.contains_key("x-envoy-other"));
        let mut alone = parts(Request::get("http://a/x").header(name, "1"));
        receive(&mut alone, &CLIENT).unwrap();
        assert!(!alone.headers.contains_key(name), "{name} alone");
    }
    let prefixes = ["x-envoy-", "x-forwarded-client-cert"];
    assert!(
        INTERNAL
            .iter()
            .all(|name| prefixes.iter().any(|prefix| name.as_str().starts_with(prefix)))
    );
}

#[test]
fn cookies_become_one_line_and_addresses_one_list() {
    let mut request = parts(
        Request::get("http://a/x")
            .header("cookie", "a=1")
            .header("cookie", "b=2")
            .header("x-forwarded-for", "203.0.113.1")
            .header("x-request-id", "given"),
    );
    receive(&mut request, &CLIENT).unwrap();
    assert_eq!(request.headers["cookie"], "a=1; b=2");
    assert_eq!(request.headers["x-forwarded-for"], "203.0.113.1,198.18.0.1");
    assert_eq!(request.headers["x-request-id"], "given");
}

#[test]
fn an_address_is_the_whole_list_where_there_was_none() {
    assert_eq!(address(IpAddr::from([198, 18, 0, 1])), CLIENT.clone());
    let mut request = parts(Request::get("http://a/x"));
    receive(&mut request, &CLIENT).unwrap();
    assert_eq!(request.headers["x-forwarded-for"], "198.18.0.1");
}

#[test]
fn a_request_id_is_a_uuid_of_version_4() {
    let id = request_id();
    let id = id.to_str().unwrap();
    assert_eq!(id.len(), 36);
    let groups: Vec<usize> = id.split('-').map(str::len).collect();
    assert_eq!(groups, [8, 4, 4, 4, 12], "{id}");
    assert!(
        id.bytes()
            .all(|byte| byte == b'-' || byte.is_ascii_hexdigit() && !byte.is_ascii_uppercase()),
        "{id}"
    );
    assert_eq!(&id[14..15], "4");
    assert!("89ab".contains(&id[19..20]), "{id}");
}

#[test]
fn grpc_is_told_by_its_content_type() {
    for (value, expected) in [
        ("application/grpc", true),
        ("application/grpc+proto", true),
        ("application/grpc-web", false),
        ("application/grpc;x", false),
        ("text/plain", false),
    ] {
        let request = parts(Request::get("/").header("content-type", value));
        assert_eq!(is_grpc(&request.headers), expected, "{value}");
    }
}
