//! Answers that send clients elsewhere.

use super::*;

fn location(action: RedirectAction, uri: &str, host: &str) -> String {
    let route = route_of(prefix("/a"), route::Action::Redirect(action));
    let Action::Redirect(redirect) = route.action() else {
        panic!("no redirect")
    };
    redirect
        .location(&request("GET", uri, &[("host", host)]))
        .unwrap()
        .to_str()
        .unwrap()
        .to_owned()
}

#[test]
fn redirects_keep_ports_as_envoy_does() {
    use redirect_action::SchemeRewriteSpecifier::HttpsRedirect;
    let https = || RedirectAction {
        scheme_rewrite_specifier: Some(HttpsRedirect(true)),
        ..RedirectAction::default()
    };
    assert_eq!(location(https(), "/a?q", "h:8080"), "https://h:8080/a?q");
    assert_eq!(location(https(), "/a", "h:80"), "https://h/a");
    let port = RedirectAction {
        port_redirect: 443,
        ..https()
    };
    assert_eq!(location(port, "/a", "h:80"), "https://h:443/a");
    let host = RedirectAction {
        host_redirect: "other".into(),
        ..RedirectAction::default()
    };
    assert_eq!(location(host, "/a", "h:8080"), "http://other/a");
}

#[test]
fn redirects_replace_paths_and_queries_as_envoy_does() {
    use redirect_action::PathRewriteSpecifier::{PathRedirect, PrefixRewrite};
    let to = |path: redirect_action::PathRewriteSpecifier, strip_query| RedirectAction {
        path_rewrite_specifier: Some(path),
        strip_query,
        ..RedirectAction::default()
    };
    assert_eq!(
        location(to(PathRedirect("/b?x".into()), false), "/a?q", "h"),
        "http://h/b?x"
    );
    assert_eq!(
        location(to(PathRedirect("/b".into()), false), "/a?q", "h"),
        "http://h/b?q"
    );
    assert_eq!(location(to(PathRedirect("/b".into()), true), "/a?q", "h"), "http://h/b");
    assert_eq!(
        location(to(PrefixRewrite("/".into()), false), "/a/x", "h"),
        "http://h//x"
    );
}

#[test]
fn every_redirect_status_is_served() {
    for (code, status) in [(0, 301), (1, 302), (2, 303), (3, 307), (4, 308)] {
        let action = RedirectAction {
            response_code: code,
            ..RedirectAction::default()
        };
        let route = route_of(prefix("/"), route::Action::Redirect(action));
        assert!(matches!(route.action(), Action::Redirect(redirect) if redirect.status() == status));
    }
}

#[test]
fn a_direct_3xx_has_the_address_that_was_asked_for() {
    let direct = |status| {
        route_of(
            prefix("/"),
            route::Action::DirectResponse(DirectResponseAction {
                status,
                ..DirectResponseAction::default()
            }),
        )
    };
    let asked = request("GET", "/x?q", &[("host", "h")]);
    let location = |route: &Route| match route.action() {
        Action::Direct(direct) => direct.location(&asked),
        other => panic!("{other:?}"),
    };
    assert_eq!(location(&direct(301)).unwrap(), "http://h/x?q");
    assert_eq!(location(&direct(410)), None);
}
