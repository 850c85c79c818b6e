use std::time::SystemTime;

use culvert_envoy::pb::envoy::config::common::mutation_rules::v3::HeaderMutationRules;
use culvert_envoy::pb::envoy::config::core::v3::grpc_service::{EnvoyGrpc, TargetSpecifier};
use culvert_envoy::pb::envoy::config::core::v3::http_uri::HttpUpstreamType;
use culvert_envoy::pb::envoy::config::core::v3::{GrpcService, HeaderValue as PbHeader, HeaderValueOption, HttpUri};
use culvert_envoy::pb::envoy::extensions::filters::http::ext_authz::v3::ExtAuthz as Message;
use culvert_envoy::pb::envoy::extensions::filters::http::ext_authz::v3::ext_authz::Services;
use culvert_envoy::pb::envoy::extensions::filters::http::ext_authz::v3::{AuthorizationResponse, HttpService};
use culvert_envoy::pb::envoy::service::auth::v3::check_response::HttpResponse;
use culvert_envoy::pb::envoy::service::auth::v3::{CheckRequest, CheckResponse, DeniedHttpResponse, OkHttpResponse};
use culvert_envoy::pb::envoy::r#type::matcher::v3::{
    ListStringMatcher, RegexMatcher, StringMatcher, string_matcher::MatchPattern,
};
use culvert_envoy::pb::envoy::r#type::v3::HttpStatus;
use culvert_envoy::pb::google::rpc::Status;
use http::request::Parts;
use http::{HeaderMap, Request, Response, StatusCode, Version};
use prost::Message as _;

use super::*;
use crate::Peer;
use crate::filters::Answer;

fn names(names: &[&str]) -> Option<ListStringMatcher> {
    let exact = |name: &&str| StringMatcher {
        ignore_case: true,
        match_pattern: Some(MatchPattern::Exact((*name).to_owned())),
    };
    Some(ListStringMatcher {
        patterns: names.iter().map(exact).collect(),
    })
}

fn http() -> Message {
    Message {
        allowed_headers: names(&["x-door"]),
        services: Some(Services::HttpService(HttpService {
            server_uri: Some(HttpUri {
                uri: "http://door".to_owned(),
                http_upstream_type: Some(HttpUpstreamType::Cluster("door".to_owned())),
                ..HttpUri::default()
            }),
            path_prefix: "/check".to_owned(),
            authorization_response: Some(AuthorizationResponse {
                allowed_upstream_headers: names(&["x-user"]),
                allowed_client_headers: names(&["x-why"]),
                ..AuthorizationResponse::default()
            }),
            ..HttpService::default()
        })),
        ..Message::default()
    }
}

fn grpc() -> Message {
    Message {
        services: Some(Services::GrpcService(GrpcService {
            target_specifier: Some(TargetSpecifier::EnvoyGrpc(EnvoyGrpc {
                cluster_name: "door".to_owned(),
                authority: "door.bank".to_owned(),
                ..EnvoyGrpc::default()
            })),
            ..GrpcService::default()
        })),
        ..Message::default()
    }
}

fn request() -> Parts {
    let request = Request::post("http://web/a?b=1")
        .header("x-door", "1")
        .header("x-door", "2")
        .header("authorization", "me")
        .header("x-other", "3")
        .header("content-length", "99");
    request.body(()).unwrap().into_parts().0
}

fn asked(authz: &ExtAuthz, body: Option<Shown<'_>>) -> Request<Vec<u8>> {
    let peer = Peer {
        principal: Some("spiffe://a/ns/b/sa/c"),
        ..Peer::default()
    };
    let check = Check {
        request: &request(),
        peer: &peer,
        body,
        version: Version::HTTP_11,
        now: SystemTime::UNIX_EPOCH,
    };
    authz.check(&check).unwrap()
}

fn answer(status: u16, headers: &[(&'static str, &str)], body: Vec<u8>) -> Answer {
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(*name, *value);
    }
    Answer {
        head: response.body(()).unwrap().into_parts().0,
        body,
        trailers: None,
    }
}

fn grpc_answer(code: i32, response: Option<HttpResponse>) -> Answer {
    let message = CheckResponse {
        status: Some(Status {
            code,
            ..Status::default()
        }),
        http_response: response,
        ..CheckResponse::default()
    }
    .encode_to_vec();
    let mut body = vec![0];
    body.extend_from_slice(&u32::try_from(message.len()).unwrap().to_be_bytes());
    body.extend_from_slice(&message);
    Answer {
        trailers: Some(HeaderMap::from_iter([(
            "grpc-status".parse().unwrap(),
            "0".parse().unwrap(),
        )])),
        ..answer(200, &[], body)
    }
}

fn option(key: &str, value: &str) -> HeaderValueOption {
    HeaderValueOption {
        header: Some(PbHeader {
            key: key.to_owned(),
            value: value.to_owned(),
            ..PbHeader::default()
        }),
        ..HeaderValueOption::default()
    }
}

#[test]
fn an_http_service_sees_method_path_host_authorization_and_the_headers_that_are_listed_and_no_others() {
    let authz = ExtAuthz::compile(&http()).unwrap();
    let asked = asked(&authz, None);
    assert_eq!(asked.uri(), "http://web/check/a?b=1");
    assert_eq!(asked.method(), "POST");
    let mut headers: Vec<String> = asked
        .headers()
        .iter()
        .map(|(name, value)| format!("{name}: {value:?}"))
        .collect();
    headers.sort();
    assert_eq!(
        headers,
        [
            r#"authorization: "me""#,
            r#"content-length: "0""#,
            r#"x-door: "1""#,
            r#"x-door: "2""#
        ]
    );
}

#[test]
fn only_200_of_an_http_service_allows_and_what_else_it_says_is_the_clients_answer() {
    let authz = ExtAuthz::compile(&http()).unwrap();
    let headers = [
        ("x-user", "ann"),
        ("x-why", "so"),
        ("x-secret", "s"),
        ("content-length", "3"),
    ];
    let Verdict::Allowed(changes) = authz.verdict(answer(200, &headers, Vec::new())) else {
        panic!()
    };
    let mut head = request();
    assert!(changes.apply(&mut head));
    assert_eq!(head.headers["x-user"], "ann");
    assert!(!head.headers.contains_key("x-why"));
    for status in [204, 302, 401, 404] {
        let Verdict::Denied(denial) = authz.verdict(answer(status, &headers, b"no".to_vec())) else {
            panic!("{status}")
        };
        assert_eq!(
            (denial.status.as_u16(), denial.body.as_slice()),
            (status, b"no".as_slice())
        );
        assert_eq!(denial.headers.len(), 1, "{denial:?}");
        assert_eq!(denial.headers["x-why"], "so");
    }
    let failed = authz.verdict(answer(503, &headers, Vec::new()));
    assert!(matches!(failed, Verdict::Failed(StatusCode::FORBIDDEN)));
}

#[test]
fn a_request_keeps_its_length_host_and_connection_although_all_that_the_service_says_is_taken_over() {
    let any = RegexMatcher {
        regex: ".+".to_owned(),
        ..RegexMatcher::default()
    };
    let mut message = http();
    if let Some(Services::HttpService(service)) = &mut message.services {
        let response = service.authorization_response.as_mut().unwrap();
        response.allowed_upstream_headers = Some(ListStringMatcher {
            patterns: vec![StringMatcher {
                match_pattern: Some(MatchPattern::SafeRegex(any)),
                ..StringMatcher::default()
            }],
        });
    }
    message.decoder_header_mutation_rules = Some(HeaderMutationRules {
        disallow_expression: Some(RegexMatcher {
            regex: "content-length|te".to_owned(),
            ..RegexMatcher::default()
        }),
        ..HeaderMutationRules::default()
    });
    let headers = [
        ("x-user", "ann"),
        ("content-length", "0"),
        ("te", "trailers"),
        ("host", "other"),
        ("connection", "close"),
        ("x-envoy-upstream-service-time", "1"),
        ("tea", "green"),
    ];
    let Verdict::Allowed(changes) = ExtAuthz::compile(&message)
        .unwrap()
        .verdict(answer(200, &headers, Vec::new()))
    else {
        panic!()
    };
    let mut head = request();
    let before = head.headers.clone();
    assert!(changes.apply(&mut head));
    assert_eq!(
        (&head.headers["x-user"], &head.headers["tea"]),
        (&"ann".parse().unwrap(), &"green".parse().unwrap())
    );
    assert_eq!(head.headers["content-length"], "99");
    assert_eq!(head.headers.len(), before.len() + 2, "{:?}", head.headers);
}

#[test]
fn a_service_that_fails_closes_or_opens_as_it_is_said_and_with_the_status_that_is_said() {
    let closed = Message {
        status_on_error: Some(HttpStatus { code: 503 }),
        ..http()
    };
    let closed = ExtAuthz::compile(&closed).unwrap();
    assert!(matches!(
        closed.failed(),
        Verdict::Failed(StatusCode::SERVICE_UNAVAILABLE)
    ));
    let open = Message {
        failure_mode_allow: true,
        ..http()
    };
    assert!(matches!(
        ExtAuthz::compile(&open).unwrap().failed(),
        Verdict::Allowed(_)
    ));
}

#[test]
fn a_grpc_service_sees_all_headers_in_one_line_each_and_who_asks() {
    let authz = ExtAuthz::compile(&grpc()).unwrap();
    let asked = asked(
        &authz,
        Some(Shown {
            bytes: b"abc",
            is_partial: true,
        }),
    );
    assert_eq!(
        asked.uri(),
        "http://door.bank/envoy.service.auth.v3.Authorization/Check"
    );
    let message = CheckRequest::decode(&asked.body()[5..]).unwrap();
    let attributes = message.attributes.unwrap();
    assert_eq!(attributes.source.unwrap().principal, "spiffe://a/ns/b/sa/c");
    let http = attributes.request.unwrap().http.unwrap();
    assert_eq!(
        (http.path.as_str(), http.host.as_str(), http.size),
        ("/a?b=1", "web", 3)
    );
    assert_eq!((http.body.as_str(), http.protocol.as_str()), ("abc", "HTTP/1.1"));
    assert_eq!(http.headers["x-door"], "1,2");
    assert_eq!(http.headers[":method"], "POST");
    assert_eq!(http.headers["x-envoy-auth-partial-body"], "true");
}

#[test]
fn a_grpc_service_changes_requests_and_answers_and_refuses_with_its_own() {
    let authz = ExtAuthz::compile(&grpc()).unwrap();
    let ok = OkHttpResponse {
        headers: vec![option("x-door", "new")],
        headers_to_remove: vec!["x-other".to_owned()],
        response_headers_to_add: vec![option("x-told", "client")],
        query_parameters_to_remove: vec!["b".to_owned()],
        ..OkHttpResponse::default()
    };
    let Verdict::Allowed(changes) = authz.verdict(grpc_answer(0, Some(HttpResponse::OkResponse(ok)))) else {
        panic!()
    };
    let mut head = request();
    assert!(changes.apply(&mut head));
    assert_eq!(head.headers.get_all("x-door").iter().collect::<Vec<_>>(), ["new"]);
    assert!(!head.headers.contains_key("x-other"));
    assert_eq!(head.uri, "http://web/a");
    let mut response = HeaderMap::new();
    changes.apply_response(&mut response);
    assert_eq!(response["x-told"], "client");

    let denied = DeniedHttpResponse {
        status: Some(HttpStatus { code: 401 }),
        headers: vec![option("x-why", "so")],
        body: "no".to_owned(),
    };
    let Verdict::Denied(denial) = authz.verdict(grpc_answer(16, Some(HttpResponse::DeniedResponse(denied)))) else {
        panic!()
    };
    assert_eq!(denial.status, StatusCode::UNAUTHORIZED);
    assert_eq!(denial.headers["x-why"], "so");
    let Verdict::Denied(denial) = authz.verdict(grpc_answer(7, None)) else {
        panic!()
    };
    assert_eq!(denial.status, StatusCode::FORBIDDEN);
    for broken in [
        answer(200, &[], b"abc".to_vec()),
        answer(200, &[("grpc-status", "14")], Vec::new()),
    ] {
        assert!(matches!(authz.verdict(broken), Verdict::Failed(_)));
    }
}
