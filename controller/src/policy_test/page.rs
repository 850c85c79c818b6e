//! The question and its answer, as JSON.

use std::fmt::Write as _;

use culvert_objects::{Finding, Kind, Object};
use culvert_telemetry::{Request, Response, StatusCode};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::judge::{Asked, Judge, Verdict};
use super::{Outlook, Trial, Trials};

/// Bytes. Some 200 connections take 32 KiB.
pub(crate) const LONGEST_QUESTION: usize = 32 << 20;

/// Which of these connections would these files refuse?
#[derive(Debug, Deserialize)]
struct Question {
    files: Vec<File>,
    connections: Vec<Asked>,
}

#[derive(Debug, Deserialize)]
struct File {
    name: String,
    text: String,
}

#[derive(Debug, Serialize)]
struct Answer {
    /// What was tried, as `Kind namespace/name`.
    objects: Vec<String>,
    /// What is in the files and has no say in who may connect.
    passed_over: Vec<String>,
    /// What waypoints decide by, about each request: it is not judged here.
    for_waypoints: Vec<String>,
    /// What would be wrong with the objects.
    findings: Vec<String>,
    /// In the order of the question.
    connections: Vec<Fate>,
}

/// What is said of a connection now, and what would be; none where nobody is known at its destination.
#[derive(Debug, Serialize)]
struct Fate {
    now: Option<Verdict>,
    then: Option<Verdict>,
}

/// Answers a question.
pub(crate) async fn answer(request: Request, trials: Trials) -> Response {
    let question: Question = match serde_json::from_slice(request.body()) {
        Ok(question) => question,
        Err(error) => return Response::status(StatusCode::BAD_REQUEST, format!("not a question: {error}\n")),
    };
    let (objects, passed_over) = match read(&question.files) {
        Ok(read) => read,
        Err(faults) => return Response::status(StatusCode::BAD_REQUEST, faults),
    };
    let tried = objects.clone();
    let (answer, outlook) = oneshot::channel();
    let is_sent = trials.send(Trial { objects, answer }).await.is_ok();
    let outlook = match outlook.await {
        Ok(outlook) if is_sent => outlook,
        _ => return Response::status(StatusCode::SERVICE_UNAVAILABLE, "the controller is ending\n"),
    };
    // Thousands of connections and policies would keep the pages of others waiting.
    let judged = tokio::task::spawn_blocking(move || judged(&outlook, &question.connections, &tried, passed_over));
    match judged.await.map(serde_json::to_value) {
        Ok(Ok(value)) => Response::json(&value),
        Ok(Err(error)) => Response::status(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
        Err(error) => Response::status(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    }
}

fn judged(outlook: &Outlook, connections: &[Asked], tried: &[Object], passed_over: Vec<String>) -> Answer {
    let (now, then) = (Judge::new(&outlook.now), Judge::new(&outlook.then));
    let fate = |asked: &Asked| Fate {
        now: now.verdict(asked),
        then: then.verdict(asked),
    };
    let objects: Vec<String> = tried.iter().map(Object::title).collect();
    let for_waypoints = tried.iter().filter(|object| then.is_for_waypoints(object));
    let for_waypoints = for_waypoints.map(Object::title).collect();
    let is_ours = |finding: &&std::sync::Arc<Finding>| finding.object.as_ref().is_some_and(|of| objects.contains(of));
    let findings = outlook
        .findings
        .iter()
        .filter(is_ours)
        .map(ToString::to_string)
        .collect();
    Answer {
        findings,
        connections: connections.iter().map(fate).collect(),
        objects,
        passed_over,
        for_waypoints,
    }
}

/// The objects of the files that have a say in who may connect, and the titles of others.
fn read(files: &[File]) -> Result<(Vec<Object>, Vec<String>), String> {
    let (mut objects, mut passed_over, mut faults) = (Vec::new(), Vec::new(), String::new());
    for file in files {
        let parsed = culvert_objects::parse(&file.text, file.name.ends_with(".json"));
        for fault in parsed.faults.iter().chain(&parsed.unread) {
            // Writing to a text does not fail.
            let _ = write!(faults, "{}:{}: ", file.name, fault.line);
            let place = [&fault.object, &fault.field];
            for part in place.into_iter().flatten() {
                let _ = write!(faults, "{part}: ");
            }
            let _ = writeln!(faults, "{}", fault.message);
        }
        for document in parsed.documents {
            if has_a_say(document.object.kind()) {
                objects.push(document.object);
            } else {
                passed_over.push(document.object.title());
            }
        }
    }
    if objects.is_empty() && faults.is_empty() {
        faults.push_str("these files hold no object that has a say in who may connect\n");
    }
    if faults.is_empty() {
        Ok((objects, passed_over))
    } else {
        Err(faults)
    }
}

fn has_a_say(kind: Kind) -> bool {
    kind.descriptor().may_restrict()
}
