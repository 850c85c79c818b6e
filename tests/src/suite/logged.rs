//! What the access log has of requests.

use culvert_lab::wait_until;
use serde_json::json;

use super::Suite;
use crate::{
    app,
    cases::{Ask, Case},
    patience::PATIENCE,
};

/// What a line of the access log begins with, by which it is told from all else that is printed.
const LOGGED: &str = "LOGGED";

/// Whether a case says what is logged of a request.
pub(super) fn is_logged(ask: &Ask) -> bool {
    let envoys = ask.envoy.as_ref().and_then(|envoy| envoy.expected.logged.as_ref());
    ask.expected.logged.is_some() || envoys.is_some()
}

impl Suite<'_> {
    /// Has the waypoint write what became of each request.
    pub(super) fn log_all(&self) {
        let lab = self.0.town.lab;
        lab.namespace("culvert-system").unwrap();
        let text = format!(
            "{LOGGED} %REQ({})% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS%\n",
            app::KEY
        );
        let log = json!({ "path": "/dev/stdout", "logFormat": { "text": text } });
        let mesh = json!({ "extensionProviders": [{ "name": "lines", "envoyFileAccessLog": log }] }).to_string();
        lab.apply(&json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "culvert-mesh", "namespace": "culvert-system" },
            "data": { "mesh": mesh },
        }))
        .unwrap();
        lab.apply(&json!({
            "apiVersion": "telemetry.istio.io/v1", "kind": "Telemetry", "metadata": { "name": "lines", "namespace": "town" },
            "spec": { "accessLogging": [{ "providers": [{ "name": "lines" }] }] },
        }))
        .unwrap();
        let ask = Ask::get("/");
        let waited = wait_until("a line in the access log", PATIENCE, || {
            let _ = self.ask(&ask, "is-logged");
            self.0.waypoint.process.log().contains(&format!("{LOGGED} is-logged"))
        });
        waited.unwrap_or_else(|error| panic!("{}\n{error:#}", self.0.last_words()));
    }

    /// Lines of the access log that are not as cases say. They come a while after what they tell of.
    pub(super) fn unlogged(&self, cases: &[Case]) -> Vec<String> {
        let mut left: Vec<(String, String)> = Vec::new();
        for case in cases {
            for (index, ask) in case.requests.iter().enumerate() {
                let logged = self.expected(ask).logged.clone();
                left.extend(logged.map(|logged| (format!("{}-{index}", case.name), logged)));
            }
        }
        let mut found = String::new();
        let waited = wait_until("the access log", PATIENCE, || {
            let log = self.0.waypoint.process.log();
            left.retain(|(key, logged)| {
                let line = format!("{LOGGED} {key} {logged}");
                !log.lines().any(|found| found.starts_with(&line))
            });
            let lines = log.lines().filter(|line| line.starts_with(LOGGED));
            let of_left = |line: &&str| left.iter().any(|(key, _)| line.contains(&format!(" {key} ")));
            found = lines.filter(of_left).collect::<Vec<_>>().join("\n");
            left.is_empty()
        });
        match waited {
            Ok(()) => Vec::new(),
            Err(_) => vec![format!("the access log has not {left:?}, but\n{found}")],
        }
    }
}
