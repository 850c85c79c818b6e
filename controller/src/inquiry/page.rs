//! Questions and answers, as JSON.

use std::sync::Arc;

use culvert_objects::ObjectName;
use culvert_resources::files::{self, File};
use culvert_resources::model::View;
use culvert_telemetry::{Request, Response, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::{Semaphore, oneshot};

use super::{Inquiries, Inquiry};

/// Bytes.
pub(crate) const LONGEST_QUESTION: usize = 32 << 20;

/// What holds at this Service?
#[derive(Debug, Deserialize)]
struct OfService {
    /// `namespace/name`.
    service: String,
}

/// What is wrong, with these files applied?
#[derive(Debug, Deserialize)]
struct OfAll {
    #[serde(default)]
    files: Vec<File>,
}

/// The pages.
#[derive(Clone)]
pub(crate) struct Pages {
    inquiries: Inquiries,
    /// One question at a time: each may look at all objects.
    turn: Arc<Semaphore>,
}

impl Pages {
    pub(crate) fn new(inquiries: Inquiries) -> Self {
        Self {
            inquiries,
            turn: Arc::new(Semaphore::new(1)),
        }
    }

    /// Answers what holds at a Service: `null` where there is no such Service.
    pub(crate) async fn rules(self, request: Request) -> Response {
        let question: OfService = match serde_json::from_slice(request.body()) {
            Ok(question) => question,
            Err(error) => return not_a_question(&error),
        };
        let Some((namespace, name)) = question.service.split_once('/') else {
            let why = format!("{:?} is no name of a Service: namespace/name\n", question.service);
            return Response::status(StatusCode::BAD_REQUEST, why);
        };
        let name = ObjectName::new(namespace, name);
        self.ask(files::Read::default(), move |view| to_json(&view.rules(&name)))
            .await
    }

    /// Answers what is wrong or without effect: a list, the worst first.
    pub(crate) async fn analyze(self, request: Request) -> Response {
        let question: OfAll = match serde_json::from_slice(request.body()) {
            Ok(question) => question,
            Err(error) => return not_a_question(&error),
        };
        self.ask(files::read(&question.files), |view| to_json(&view.analyze()))
            .await
    }

    async fn ask(self, files: files::Read, ask: impl FnOnce(View) -> Value + Send + 'static) -> Response {
        let Ok(turn) = self.turn.acquire_owned().await else {
            return ending();
        };
        let (answer, view) = oneshot::channel();
        let is_sent = self.inquiries.send(Inquiry { files, answer }).await.is_ok();
        let (true, Ok(view)) = (is_sent, view.await) else {
            return ending();
        };
        let said = tokio::task::spawn_blocking(move || {
            let said = ask(view);
            // Whoever asked may have gone by now, and yet the next one has to wait for the thread.
            drop(turn);
            said
        });
        match said.await {
            Ok(said) => Response::json(&said),
            Err(_) => ending(),
        }
    }
}

fn to_json(said: &impl Serialize) -> Value {
    serde_json::to_value(said).unwrap_or_default()
}

fn not_a_question(error: &serde_json::Error) -> Response {
    Response::status(StatusCode::BAD_REQUEST, format!("not a question: {error}\n"))
}

fn ending() -> Response {
    Response::status(StatusCode::SERVICE_UNAVAILABLE, "the controller is ending\n")
}
