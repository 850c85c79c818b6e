//! Plays cases of routing at a waypoint, `culvert-waypoint` or Envoy. Where the two differ a case says so, and why;
//! `docs/waypoint-and-envoy.md` has the list.

use std::{
    collections::BTreeMap,
    path::Path,
    time::{Duration, Instant},
};

use crate::{
    app::{self, Arrival},
    cases::{Ask, Case, Expected, IN_FORCE, is_like},
    http::{self, Head},
    patience::PATIENCE,
    scene::Scene,
    town::lab,
    waypoint::Kind,
};
use culvert_lab::wait_until;
use serde_json::{Value, json};

/// How long an answer may take.
const ATTEMPT: Duration = Duration::from_secs(20);

/// Plays all cases of a folder, `tests/waypoint` or one below it, each by itself.
///
/// # Panics
/// Where something is not as a case says.
pub fn all_cases_hold(folder: &str, kind: Kind) {
    let word = folder.rsplit('/').next().unwrap_or_default();
    let lab = lab(&format!("wp_{word}_{}", kind.word()));
    let suite = Suite(Scene::set(&lab, kind));
    suite.log_all();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut wrong = Vec::new();
    let cases = Case::read_all(&folder);
    assert!(cases.len() >= 6, "only {} cases in {}", cases.len(), folder.display());
    for case in &cases {
        let found = suite.play(case);
        eprintln!(
            "{}: {} ({})",
            if found.is_empty() { "ok" } else { "WRONG" },
            case.name,
            case.what
        );
        wrong.extend(found);
    }
    // What is wrong comes last: of a long output the end is what is kept.
    assert!(wrong.is_empty(), "{}\n{}", suite.0.last_words(), wrong.join("\n"));
}

/// The cases' own part of a scene.
struct Suite<'lab>(Scene<'lab>);

/// What the access log has of each request: its key, and then what cases say of it.
const LINE: &str = "CASE %REQ(X-KEY)% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %GRPC_STATUS%\n";

impl Suite<'_> {
    /// Has the waypoint write a line for each request.
    fn log_all(&self) {
        let lab = self.0.town.lab;
        lab.namespace("culvert-system").unwrap();
        let lines =
            json!({ "name": "lines", "envoyFileAccessLog": { "path": "/dev/stdout", "logFormat": { "text": LINE } } });
        let mesh = json!({ "extensionProviders": [lines] });
        lab.apply(&json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "culvert-mesh", "namespace": "culvert-system" },
            "data": { "mesh": mesh.to_string() },
        }))
        .unwrap();
        lab.apply(&json!({
            "apiVersion": "telemetry.istio.io/v1", "kind": "Telemetry", "metadata": { "name": "lines", "namespace": "town" },
            "spec": { "accessLogging": [{ "providers": [{ "name": "lines" }] }] },
        }))
        .unwrap();
        let lines = ["GET / HTTP/1.1", "host: web.town", "x-key: logged"].map(str::to_owned);
        let waited = wait_until("a line for a request", PATIENCE, || {
            http::ask(&self.0.town.client, self.0.web, &lines, ATTEMPT).is_ok()
                && self.0.waypoint.process.log().contains("CASE logged ")
        });
        waited.unwrap_or_else(|error| panic!("{}\n{error:#}", self.0.last_words()));
    }

    /// Waits for the line of a request, and says what is not as expected.
    fn logged(&self, key: &str, expected: &str) -> Option<String> {
        let begins = format!("CASE {key} ");
        let mut found = None;
        let _ = wait_until("the access log to tell of it", PATIENCE, || {
            let log = self.0.waypoint.process.log();
            found = log
                .lines()
                .find_map(|line| Some(line.strip_prefix(&begins)?.to_owned()));
            found.is_some()
        });
        let is_it = found.as_deref().is_some_and(|found| is_like(found, expected));
        (!is_it).then(|| format!("log is {found:?}, not {expected:?}"))
    }

    fn ask(&self, ask: &Ask, key: &str) -> Result<(Head, String), String> {
        let mut lines = vec![
            format!("{} HTTP/1.1", ask.ask),
            format!("host: {}", ask.host.as_deref().unwrap_or("web.town")),
            format!("{}: {key}", app::KEY),
        ];
        lines.extend(ask.with.iter().map(|(name, value)| format!("{name}: {value}")));
        let from = if ask.as_guest {
            &self.0.guest
        } else {
            &self.0.town.client
        };
        http::ask(from, self.0.web, &lines, ATTEMPT).map_err(|error| format!("no answer: {error}"))
    }

    /// Waits until all routes of a case are in force, asked for by whom and as which host they are for.
    fn wait_in_force(&self, objects: &[(Value, String)]) {
        for (object, path) in objects.iter().filter(|(_, path)| !path.is_empty()) {
            let host = object["spec"]["hostnames"][0]
                .as_str()
                .map(|name| name.replace('*', "any"));
            let ask = Ask {
                ask: format!("GET {path}"),
                host,
                with: BTreeMap::new(),
                as_guest: object["metadata"]["namespace"] == "guests",
                times: None,
                eventually: false,
                expected: Expected::default(),
                envoy: None,
            };
            let mut last = String::new();
            let waited = wait_until(&format!("{path} to be in force"), PATIENCE, || {
                let answer = self.ask(&ask, "in-force");
                last = format!("{answer:?}");
                answer.is_ok_and(|(head, _)| head.get(IN_FORCE) == Some(path))
            });
            waited.unwrap_or_else(|error| panic!("{}\n{error:#}: {last}", self.0.last_words()));
        }
    }

    /// What is not as a case says.
    fn play(&self, case: &Case) -> Vec<String> {
        let objects = case.marked();
        for (object, _) in &objects {
            self.0.town.lab.apply(object).unwrap();
        }
        self.wait_in_force(&objects);
        let mut wrong = Vec::new();
        for (index, ask) in case.requests.iter().enumerate() {
            let key = format!("{}-{index}", case.name);
            let difference = ask.envoy.as_ref().filter(|_| self.0.kind != Kind::Culvert);
            let expected = difference.map_or(&ask.expected, |difference| &difference.expected);
            let mut found = Vec::new();
            let mut tries = 0;
            let mut play = || {
                // Each with what only it has: a key that is used again counts as a further try.
                let key = if tries == 0 {
                    key.clone()
                } else {
                    format!("{key}-{tries}")
                };
                tries += 1;
                found = match ask.times {
                    None => self.once(ask, &key, expected),
                    Some(times) => self.often(ask, &key, times, expected),
                };
                found.is_empty()
            };
            if ask.eventually {
                let _ = wait_until("it to be so", PATIENCE, &mut play);
            } else {
                play();
            }
            wrong.extend(
                found
                    .into_iter()
                    .map(|what| format!("{} [{index}] {}: {what}", case.name, ask.ask)),
            );
        }
        for object in &case.objects {
            let word = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
            let [kind, namespace, name] = ["/kind", "/metadata/namespace", "/metadata/name"].map(word);
            self.0.town.lab.delete(kind, namespace, name).unwrap();
        }
        wrong
    }

    fn once(&self, ask: &Ask, key: &str, expected: &Expected) -> Vec<String> {
        let start = Instant::now();
        let (head, body) = match self.ask(ask, key) {
            Ok(answer) => answer,
            Err(error) => return vec![error],
        };
        let mut wrong = Vec::new();
        if let Some(least) = expected
            .after_ms
            .filter(|least| start.elapsed() < Duration::from_millis(*least))
        {
            wrong.push(format!(
                "the answer came after {:?}, before {least} ms",
                start.elapsed()
            ));
        }
        let mut compare = |what: &str, expected: Option<String>, found: Option<String>| {
            if expected != found {
                wrong.push(format!("{what} is {found:?}, not {expected:?}"));
            }
        };
        if let Some(status) = expected.status {
            compare(
                "status",
                Some(status.to_string()),
                head.status().map(|status| status.to_string()),
            );
        }
        if let Some(expected) = &expected.body {
            compare("body", Some(expected.clone()), Some(body));
        }
        let from = head.get("x-app").map(str::to_owned);
        if let Some(name) = &expected.from {
            compare("application", (name != "none").then(|| name.clone()), from.clone());
        }
        for (name, value) in &expected.back {
            compare(&format!("answer's {name}"), value.clone(), head.all(name));
        }
        for (name, pattern) in &expected.like {
            let found = head.all(name);
            if !found.as_deref().is_some_and(|found| is_like(found, pattern)) {
                compare(&format!("answer's {name}"), Some(pattern.clone()), found);
            }
        }
        let arrivals = self.0.seen.with_key(key);
        let tried = |arrival: &&Arrival| from.as_ref().is_none_or(|from| arrival.at == *from);
        if let Some(tries) = expected.tries {
            let count = arrivals.iter().filter(tried).count();
            compare("number of tries", Some(tries.to_string()), Some(count.to_string()));
        }
        let first = arrivals.iter().find(tried);
        wrong.extend(seen(first, expected.saw.as_deref(), &expected.seen));
        wrong.extend(expected.log.as_ref().and_then(|expected| self.logged(key, expected)));
        if let Some(copy) = &expected.copy {
            let at = |arrival: &Arrival| arrival.at == copy.at;
            let came = wait_until("the copy to come", PATIENCE, || {
                self.0.seen.with_key(key).iter().any(at)
            });
            wrong.extend(came.err().map(|error| error.to_string()));
            let copied = self.0.seen.with_key(key);
            let found = seen(copied.iter().find(|arrival| at(arrival)), Some(&copy.saw), &copy.seen);
            wrong.extend(found.into_iter().map(|what| format!("copy: {what}")));
        }
        wrong
    }

    fn often(&self, ask: &Ask, key: &str, times: u32, expected: &Expected) -> Vec<String> {
        let mut counts: BTreeMap<String, u32> = BTreeMap::new();
        for _ in 0..times {
            let answer = match self.ask(ask, key) {
                Ok((head, _)) => head
                    .get("x-app")
                    .map_or_else(|| head.status().unwrap_or_default().to_string(), str::to_owned),
                Err(error) => error,
            };
            *counts.entry(answer).or_default() += 1;
        }
        if expected.one {
            return match counts.len() {
                1 => Vec::new(),
                _ => vec![format!("answers come from {counts:?}, not from one")],
            };
        }
        let is_promised = counts.keys().all(|answer| expected.shares.contains_key(answer));
        let holds = expected.shares.iter().all(|(answer, [least, most])| {
            let count = counts.get(answer).copied().unwrap_or_default();
            (*least..=*most).contains(&count)
        });
        match is_promised && holds {
            true => Vec::new(),
            false => vec![format!("answers come from {counts:?}, not {:?}", expected.shares)],
        }
    }
}

/// What an application should have seen and did not.
fn seen(arrival: Option<&Arrival>, saw: Option<&str>, headers: &BTreeMap<String, Option<String>>) -> Vec<String> {
    let mut wrong = Vec::new();
    let head = arrival.map(|arrival| &arrival.head);
    if let Some(saw) = saw {
        let line = head.map(|head| head.first().trim_end_matches(" HTTP/1.1"));
        if line != Some(saw) {
            wrong.push(format!("the application saw {line:?}, not {saw:?}"));
        }
    }
    for (name, value) in headers {
        let found = head.and_then(|head| head.all(name));
        if found != *value {
            wrong.push(format!("the application saw {name}: {found:?}, not {value:?}"));
        }
    }
    wrong
}
