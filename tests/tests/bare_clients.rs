//! Programs that know HTTP/2 and nothing of the mesh, as clients of the tunnel port: nghttp2's proxy with curl before it, and
//! nghttp, which asks for what is not served.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests fail as tests do"
)]

use culvert_lab::{Lab, Pod, PodSpec, wait_until};
use culvert_tests::{
    Town,
    authority::{Authority, Leaf},
    lab, programs,
};
use serde_json::json;
use std::path::PathBuf;

/// Where nghttp2's proxy takes connections, and where the web server is.
const PROXY: u16 = 3128;
const WEB: u16 = 8090;

/// A pod that the mesh does not capture, and its certificate in files.
struct Bare {
    pod: Pod,
    chain: PathBuf,
    key: PathBuf,
}

impl Bare {
    fn new(lab: &Lab) -> Self {
        let spec = PodSpec::new("town", "bare").on(1).service_account("bare");
        let pod = lab.pod(spec.label("culvert.dev/mesh", "none")).unwrap();
        let Leaf { chain_pem, key_pem, .. } = Authority::of(lab).leaf(&[&pod.identity()]);
        let folder = programs::folder(lab, "bare");
        Self {
            chain: programs::file(&folder, "chain.pem", chain_pem.as_bytes()),
            key: programs::file(&folder, "key.pem", key_pem.as_bytes()),
            pod,
        }
    }
}

#[test]
fn nghttp2_as_a_client_of_connect_carries_curls_bytes_and_is_refused_by_policy() {
    let lab = lab("bare_connect");
    let town = Town::meshed(&lab);
    let bare = Bare::new(&lab);
    let site = programs::folder(&lab, "site");
    let text = programs::text(200_000);
    programs::file(&site, "text", text.as_bytes());
    let mut web = programs::unprivileged("/usr/bin/python3", "python3");
    web.args(["-m", "http.server", &WEB.to_string(), "--directory"])
        .arg(&site);
    let _web = programs::serve(&town.server, "web", &mut web, WEB);

    let mut proxy = programs::unprivileged("/usr/sbin/nghttpx", "nghttp2-proxy");
    proxy
        .args(["--http2-proxy", "--insecure", "--workers=1", "--conf=/dev/null"])
        .arg(format!("--frontend=*,{PROXY};no-tls"))
        .arg(format!("--backend={},15008;;proto=h2;tls", town.server.ip4()))
        .arg(format!("--client-cert-file={}", bare.chain.display()))
        .arg(format!("--client-private-key-file={}", bare.key.display()));
    let proxy = programs::serve(&bare.pod, "nghttpx", &mut proxy, PROXY);

    let curl = || {
        let mut curl = programs::command("/usr/bin/curl", "curl");
        curl.args(["--silent", "--show-error", "--max-time", "20", "--proxytunnel"])
            .args(["--proxy", &format!("http://{}:{PROXY}", bare.pod.ip4())])
            .arg(format!("http://{}:{WEB}/text", town.server.ip4()));
        bare.pod.output(&mut curl).unwrap()
    };
    let answer = town.in_the_tunnel(curl);
    let complaint = String::from_utf8_lossy(&answer.stderr).into_owned();
    assert!(answer.status.success(), "{complaint}\n{}", proxy.log_tail(20));
    assert!(answer.stdout == text.as_bytes(), "{} bytes", answer.stdout.len());

    let deny = json!({
        "apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
        "metadata": { "name": "deny", "namespace": "town" },
        "spec": {
            "selector": { "matchLabels": { "app": "server" } },
            "action": "DENY",
            "rules": [{ "from": [{ "source": { "principals": ["cluster.local/ns/town/sa/bare"] } }] }],
        },
    });
    lab.apply(&deny).unwrap();
    let refused = || String::from_utf8_lossy(&curl().stderr).contains("401");
    wait_until("CONNECT is answered 401", culvert_tests::PATIENCE, refused).unwrap();
}

#[test]
fn nghttp_asks_for_a_page_and_is_told_that_there_is_none() {
    let lab = lab("bare_get");
    let town = Town::meshed(&lab);
    let bare = Bare::new(&lab);
    let mut nghttp = programs::command("/usr/bin/nghttp", "nghttp2-client");
    nghttp
        .args(["--verbose", "--null-out", "--no-dep", "--timeout=20"])
        .arg(format!("--cert={}", bare.chain.display()))
        .arg(format!("--key={}", bare.key.display()))
        .arg(format!("https://{}:15008/", town.server.ip4()));
    let output = bare.pod.output(&mut nghttp).unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains(":status: 405"), "{said}");
    assert!(
        said.contains("culvert-reason: bad request: method is not CONNECT"),
        "{said}"
    );
    town.assert_works();
}
