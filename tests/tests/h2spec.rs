//! h2spec, a conformance suite for HTTP/2 servers, against the tunnel port.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests fail as tests do"
)]

use culvert_lab::PodSpec;
use culvert_tests::{PATIENCE, Town, authority::Authority, lab, plain_front::PlainFront};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    process::Command,
};

/// How one of its cases ended.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Verdict {
    Passed,
    Skipped,
    /// With what it saw.
    Failed(String),
}

/// Answers of this server end with their headers: it serves nothing but `CONNECT`, and h2spec sends none.
const NO_BODY: &str = "an answer with a body is looked for: what is not CONNECT is answered 405, which has none";
/// RFC 9113, which replaces the RFC 7540 that h2spec checks.
const CLOSED: &str = "RFC 9113 section 5.1 leaves it to the server (MAY): what comes for a stream that is gone may have been under way \
                      when we reset it, and is passed over, up to a limit";
/// The same.
const PRIORITY: &str = "RFC 9113 section 5.3.2 deprecates priorities: they are not looked at";
/// Of requests other than `CONNECT`.
const NOT_SERVED: &str =
    "the request is answered 405 before its body comes; CONNECT has neither content-length nor trailers";

/// Of so many at a time.
const AT_ONCE: &str = "a request other than CONNECT is answered and over at once, so that so many are rarely open at a time; the limit \
                       itself is held by abuse::streams_up_to_the_limit_are_the_peers_own_and_more_are_refused";

/// Reasons whose cases pass now and then: those in which a frame of h2spec's and an answer of ours may pass each other.
const NOW_AND_THEN: [&str; 3] = [CLOSED, NOT_SERVED, AT_ONCE];

/// How often a case that failed is tried again: where a case sends two frames, the answer to the first may be faster than the second, and
/// its stream is gone.
const AGAIN: usize = 4;

/// Cases that do not apply, and why. One that passes has no business here, but for [`NOW_AND_THEN`].
const EXEMPT: [(&str, &str); 16] = [
    (
        "generic/2: Sends a PRIORITY frame on half-closed (remote) stream",
        NO_BODY,
    ),
    (
        "generic/2: Sends a WINDOW_UPDATE frame on half-closed (remote) stream",
        NO_BODY,
    ),
    ("generic/4: Sends a POST request with trailers", NOT_SERVED),
    (
        "http2/5.1.2: Sends HEADERS frames that causes their advertised concurrent stream limit to be exceeded",
        AT_ONCE,
    ),
    ("http2/5.1: closed: Sends a DATA frame", CLOSED),
    (
        "http2/5.1: closed: Sends a DATA frame after sending RST_STREAM frame",
        CLOSED,
    ),
    ("http2/5.1: closed: Sends a HEADERS frame", CLOSED),
    (
        "http2/5.1: closed: Sends a HEADERS frame after sending RST_STREAM frame",
        CLOSED,
    ),
    ("http2/5.3.1: Sends HEADERS frame that depend on itself", PRIORITY),
    ("http2/5.3.1: Sends PRIORITY frame that depend on itself", PRIORITY),
    (
        "http2/6.5.3: Sends multiple values of SETTINGS_INITIAL_WINDOW_SIZE",
        NO_BODY,
    ),
    (
        "http2/6.9.1: Sends SETTINGS frame to set the initial window size to 1 and sends HEADERS frame",
        NO_BODY,
    ),
    (
        "http2/6.9.2: Changes SETTINGS_INITIAL_WINDOW_SIZE after sending HEADERS frame",
        NO_BODY,
    ),
    (
        "http2/6.9.2: Sends a SETTINGS frame for window size to be negative",
        NO_BODY,
    ),
    (
        "http2/8.1.2.6: Sends a HEADERS frame with the &#34;content-length&#34; header field which does not equal the DATA frame payload length",
        NOT_SERVED,
    ),
    (
        "http2/8.1.2.6: Sends a HEADERS frame with the &#34;content-length&#34; header field which does not equal the sum of the multiple DATA frames payload length",
        NOT_SERVED,
    ),
];

#[test]
fn the_tunnel_port_is_http2_as_h2spec_knows_it() {
    let lab = lab("h2spec");
    let town = Town::meshed(&lab);
    let spec = PodSpec::new("town", "tester").on(1).service_account("tester");
    let tester = lab.pod(spec).unwrap();
    town.mesh.wait_enrolled(&[&tester], true, PATIENCE).unwrap();
    let leaf = Authority::of(&lab).leaf(&[&tester.identity()]);
    let front = PlainFront::serve(&tester, (town.server.ip4(), 15008).into(), leaf);
    let report = lab.dir().join("h2spec.xml");
    let mut verdicts = h2spec(&front, &report, None);
    assert!(verdicts.len() > 130, "{} cases", verdicts.len());
    for _ in 0..AGAIN {
        let failed = verdicts
            .iter()
            .filter(|(case, verdict)| **verdict != Verdict::Passed && exempt(case).is_none());
        let sections: BTreeSet<String> = failed.map(|(case, _)| section(case).to_owned()).collect();
        for section in &sections {
            let again = h2spec(&front, &report, Some(section)).into_iter();
            verdicts.extend(again.filter(|(_, verdict)| *verdict == Verdict::Passed));
        }
    }
    let mut wrong = Vec::new();
    for (case, verdict) in &verdicts {
        match (verdict, exempt(case)) {
            (Verdict::Failed(saw), None) => wrong.push(format!("{case}: {saw}")),
            (Verdict::Skipped, None) => wrong.push(format!("{case}: skipped")),
            (Verdict::Passed, Some(reason)) if !NOW_AND_THEN.contains(&reason) => {
                wrong.push(format!("{case}: passes, but is exempt: {reason}"));
            }
            _ => {}
        }
    }
    for (exempt, _) in EXEMPT {
        if !verdicts.contains_key(exempt) {
            wrong.push(format!("{exempt}: there is no such case"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let passed = verdicts.values().filter(|verdict| **verdict == Verdict::Passed).count();
    println!(
        "{passed} of {} cases passed, {} do not apply",
        verdicts.len(),
        EXEMPT.len()
    );
    town.assert_works();
}

/// Why a case does not apply, if it does not.
fn exempt(case: &str) -> Option<&'static str> {
    let found = EXEMPT.iter().find(|(exempt, _)| case == *exempt);
    found.map(|(_, reason)| *reason)
}

/// What h2spec calls a case's section.
fn section(case: &str) -> &str {
    case.split(':').next().unwrap_or(case)
}

/// Runs all that it has, or a section; the verdicts by section and title.
fn h2spec(front: &PlainFront, report: &Path, section: Option<&str>) -> BTreeMap<String, Verdict> {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/cluster/bin/h2spec");
    assert!(
        program.is_file(),
        "no {}: `cargo xtask test` builds it, `cargo xtask cluster programs` too",
        program.display()
    );
    let port = front.address().port().to_string();
    let mut command = Command::new(program);
    command.args(section);
    command.args(["--host", "127.0.0.1", "--port", &port, "--timeout", "3", "--strict"]);
    let output = command.arg("--junit-report").arg(report).output().unwrap();
    let text = std::fs::read_to_string(report)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stdout)));
    text.split("<testcase ").skip(1).map(case).collect()
}

/// A case of its report, from its attributes on.
fn case(text: &str) -> (String, Verdict) {
    let attribute = |name: &str| {
        let (_, rest) = text.split_once(&format!("{name}=\"")).unwrap();
        rest.split('"').next().unwrap()
    };
    let key = format!("{}: {}", attribute("package"), attribute("classname"));
    let body = text.split("</testcase>").next().unwrap();
    let verdict = if let Some((_, why)) = body.split_once("<failure>") {
        Verdict::Failed(why.split("</failure>").next().unwrap().to_owned())
    } else if let Some((_, why)) = body.split_once("<error>") {
        Verdict::Failed(why.split("</error>").next().unwrap().to_owned())
    } else if body.contains("<skipped") {
        Verdict::Skipped
    } else {
        Verdict::Passed
    };
    (key, verdict)
}
