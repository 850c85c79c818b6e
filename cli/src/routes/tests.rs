use super::*;
use std::fs;

const SHOP: &str = "
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop, labels: {culvert.dev/use-waypoint: wp}}
spec: {clusterIP: 198.19.0.1, ports: [{name: http, port: 80}, {name: tcp-sql, port: 90}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: canary, namespace: shop}
spec:
  parentRefs: [{group: '', kind: Service, name: web, port: 80}]
  rules:
  - matches: [{path: {value: /a}}]
    timeouts: {request: 2s}
    backendRefs: [{name: web, port: 80, weight: 9}, {name: gone, port: 80, weight: 1}]
  - matches: [{path: {value: /a}, method: GET}]
    backendRefs: [{name: web, port: 80}]
  - matches: [{path: {value: /a}}]
    backendRefs: [{name: web, port: 80}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: mine, namespace: client}
spec:
  parentRefs: [{group: '', kind: Service, name: web, namespace: shop, port: 80}]
  rules: [{name: only, backendRefs: [{name: web, namespace: shop, port: 80}]}]
";
const WAYPOINT: &str = "---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: wp, namespace: shop}
spec: {gatewayClassName: culvert-waypoint, listeners: [{name: mesh, port: 15008, protocol: HBONE}]}
";

fn asked(text: &str, service: &str, port: Option<u16>, from: Option<&str>) -> Result<Answer> {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("shop.yaml"), text).unwrap();
    of_files(&RoutesFlags {
        service: service.to_owned(),
        port,
        from: from.map(str::to_owned),
        files: vec![folder.path().to_owned()],
    })
}

#[test]
fn rules_are_in_the_order_in_which_they_are_asked_and_what_hides_one_is_named() {
    let answer = asked(&(SHOP.to_owned() + WAYPOINT), "shop/web", Some(80), Some("shop")).unwrap();
    assert!(answer.is_well);
    let rows = &answer.sections[2].rows;
    let cells: Vec<(&str, &str, &str)> = rows.iter().map(|row| (&*row[3], &*row[5], &*row[8])).collect();
    assert_eq!(
        cells,
        [
            (
                "path /a and below, method GET",
                "shop/web:80",
                "HTTPRoute shop/canary rule 1"
            ),
            (
                "path /a and below",
                "shop/web:80 (9), nowhere, answered 500 (1)",
                "HTTPRoute shop/canary rule 0"
            ),
            (
                "path /a and below",
                "shop/web:80",
                "HTTPRoute shop/canary rule 2 (never: HTTPRoute shop/canary[0] takes it all)"
            ),
        ]
    );
    assert_eq!(rows[1][6], "2s");
}

#[test]
fn clients_with_routes_of_their_own_are_shown_those_alone() {
    let whole = SHOP.to_owned() + WAYPOINT;
    let from = |from: Option<&str>| {
        let answer = asked(&whole, "shop/web", Some(80), from).unwrap();
        let rows = answer.sections[2].rows.iter();
        rows.map(|row| (row[2].clone(), row[8].clone())).collect::<Vec<_>>()
    };
    let own = from(Some("client"));
    assert_eq!(own.len(), 2, "{own:?}");
    assert!(own.iter().all(|(clients, _)| clients == "client"), "{own:?}");
    assert_eq!(own[0].1, "HTTPRoute client/mine rule only");
    assert_eq!((from(None).len(), from(Some("other")).len()), (5, 3));
}

#[test]
fn a_service_without_its_waypoint_says_so_and_is_not_well() {
    let answer = asked(SHOP, "shop/web", None, None).unwrap();
    assert!(!answer.is_well);
    assert!(
        answer.sections[0].when_empty.contains("there is no waypoint shop/wp"),
        "{:?}",
        answer.sections[0]
    );
    let tcp = &answer.sections[4].rows[0];
    assert_eq!((&*tcp[3], &*tcp[5]), ("connections", "shop/web:90"));
}

#[test]
fn policies_and_tls_of_a_port_are_named_with_their_objects() {
    let policies = "---
apiVersion: culvert.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: web, namespace: shop}
spec:
  targetRefs: [{group: '', kind: Service, name: web}]
  rateLimit: {local: [{requests: 10, per: 1m, by: {header: x-user}, match: {method: POST}}]}
  compression: {algorithms: [zstd, gzip], minimumSize: 100}
  timeouts: {streamIdle: 0s, requestReceive: 30s}
  retry: {retryAfterMax: 10s}
  healthCheck: {http: {path: /healthz}, interval: 10s}
---
apiVersion: culvert.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: of-a-rule, namespace: shop}
spec:
  targetRefs: [{group: gateway.networking.k8s.io, kind: HTTPRoute, name: canary}]
  rateLimit: {global: {provider: gone, domain: shop, descriptors: [{entries: [{key: user, header: x-user}]}]}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: tls, namespace: shop}
spec:
  host: web
  trafficPolicy:
    portLevelSettings:
    - {port: {number: 80}, tls: {mode: SIMPLE, sni: web.example}}
    - {port: {number: 90}, tls: {mode: MUTUAL, credentialName: web}}
";
    let answer = asked(&(SHOP.to_owned() + WAYPOINT + policies), "shop/web", None, None).unwrap();
    let rows = |section: usize| {
        let rows = answer.sections[section].rows.iter();
        rows.map(|row| row.join(" | ")).collect::<Vec<_>>()
    };
    assert_eq!(
        rows(3),
        [
            "TrafficPolicy shop/web | all requests | 10 requests in 60s, by header x-user, of those with method POST",
            "TrafficPolicy shop/web | all requests | compression by zstd, gzip, from 100 bytes",
            "TrafficPolicy shop/web | all requests | times: any time without a byte, 30s for the whole request to come",
            "TrafficPolicy shop/web | all requests | retries: wait as long as an endpoint's retry-after says, up to 10s",
            "TrafficPolicy shop/web | all requests | health check: GET /healthz every 10s",
            "TrafficPolicy shop/of-a-rule | HTTPRoute shop/canary[1], HTTPRoute shop/canary[0], HTTPRoute shop/canary[2] \
             | limit of gone, which is not there, domain shop; asked about user (header x-user)",
            "DestinationRule shop/tls | endpoints of shop/web:80 | TLS to endpoints: asks for web.example, demands a \
             certificate for web.example by the system's authorities",
        ]
    );
    assert_eq!(
        rows(6),
        [
            "TrafficPolicy shop/web | all connections | health check: GET /healthz every 10s",
            "DestinationRule shop/tls | endpoints of shop/web:90 | no endpoint: connections would go in another way than \
             it asks for",
        ]
    );
    let envoy = SHOP.to_owned() + &WAYPOINT.replace("culvert-waypoint", "culvert-envoy") + policies;
    let answer = asked(&envoy, "shop/web", Some(90), None).unwrap();
    assert_eq!(
        answer.sections[3].rows[0][2],
        "health check: GET /healthz every 10s, not by a waypoint that is Envoy"
    );
}

#[test]
fn what_is_not_there_is_an_error_that_names_it() {
    let error = |service: &str, port| asked(SHOP, service, port, None).unwrap_err().to_string();
    assert!(error("shop/gone", None).contains("shop/gone"));
    assert!(error("web", None).contains("NAMESPACE/SERVICE"));
    assert!(error("shop/web", Some(81)).contains("no port 81"));
    let broken = asked("kind: [", "shop/web", None, None).unwrap_err().to_string();
    assert!(broken.contains("shop.yaml"), "{broken}");
}
