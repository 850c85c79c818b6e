//! Questions and answers, as JSON.

use culvert_objects::ObjectName;
use culvert_resources::files::{self, File};
use culvert_telemetry::{Request, Response, StatusCode};
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::oneshot;

use super::{Ask, Inquiries, Inquiry};

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

/// Answers what holds at a Service: `null` where there is no such Service.
pub(crate) async fn rules(request: Request, inquiries: Inquiries) -> Response {
    let question: OfService = match serde_json::from_slice(request.body()) {
        Ok(question) => question,
        Err(error) => return Response::status(StatusCode::BAD_REQUEST, format!("not a question: {error}\n")),
    };
    let Some((namespace, name)) = question.service.split_once('/') else {
        let why = format!("{:?} is no name of a Service: namespace/name\n", question.service);
        return Response::status(StatusCode::BAD_REQUEST, why);
    };
    let name = ObjectName::new(namespace, name);
    let ask: Ask = Box::new(move |model, _| serde_json::to_value(model.rules(&name)).unwrap_or_default());
    ask_model(inquiries, files::Read::default(), ask).await
}

/// Answers what is wrong or without effect: a list, the worst first.
pub(crate) async fn analyze(request: Request, inquiries: Inquiries) -> Response {
    let question: OfAll = match serde_json::from_slice(request.body()) {
        Ok(question) => question,
        Err(error) => return Response::status(StatusCode::BAD_REQUEST, format!("not a question: {error}\n")),
    };
    let ask: Ask = Box::new(|model, findings| serde_json::to_value(model.analyze(findings)).unwrap_or_default());
    ask_model(inquiries, files::read(&question.files), ask).await
}

async fn ask_model(inquiries: Inquiries, files: files::Read, ask: Ask) -> Response {
    let (answer, said) = oneshot::channel::<Value>();
    let is_sent = inquiries.send(Inquiry { files, ask, answer }).await.is_ok();
    match said.await {
        Ok(said) if is_sent => Response::json(&said),
        _ => Response::status(StatusCode::SERVICE_UNAVAILABLE, "the controller is ending\n"),
    }
}
