//! Rules in words, for people who ask what holds.

use std::time::Duration;

use super::external_auth::ExternalAuth;
use super::model::{Action, Forward, Headers, Match, NewPath, Path, Redirect, Retry, Text};

/// Which requests, one condition after the other; none is every request.
pub(crate) fn of_match(matched: &Match) -> Vec<String> {
    let mut words = Vec::new();
    match &matched.path {
        Path::Exact(path) => words.push(format!("path {path}")),
        Path::Prefix(prefix) | Path::Plain(prefix) if prefix.is_empty() => {}
        Path::Prefix(prefix) => words.push(format!("path {prefix} and below")),
        Path::Plain(prefix) => words.push(format!("path {prefix}*")),
        Path::Regex(regex) => words.push(format!("path ~ {regex}")),
    }
    if matched.ignores_case {
        words.push("in either case".to_owned());
    }
    words.extend(matched.method.iter().map(|method| format!("method {method}")));
    words.extend(matched.headers.iter().map(|(name, text)| of_text("header", name, text)));
    let without = matched.without.iter();
    words.extend(without.map(|(name, text)| format!("not {}", of_text("header", name, text))));
    words.extend(matched.query.iter().map(|(name, text)| of_text("query", name, text)));
    words
}

fn of_text(what: &str, name: &str, text: &Text) -> String {
    match text {
        Text::Exact(text) => format!("{what} {name}={text}"),
        Text::Prefix(text) => format!("{what} {name}={text}*"),
        Text::Regex(text) => format!("{what} {name} ~ {text}"),
        Text::Present => format!("{what} {name}"),
    }
}

/// What is done to a request and its answer, beside where it goes.
pub(crate) fn of_filters(action: &Action) -> Vec<String> {
    let mut words = Vec::new();
    match action {
        Action::Forward(forward) => of_forward(forward, &mut words),
        Action::Redirect(redirect) => {
            words.extend(redirect.auth.as_ref().map(of_auth));
            of_headers("response", &redirect.response, &mut words);
        }
        Action::Direct(direct) => of_headers("response", &direct.response, &mut words),
        Action::Fail(_) => {}
    }
    words
}

fn of_auth(auth: &ExternalAuth) -> String {
    format!("asks {}:{} first", auth.host, auth.backend.port)
}

fn of_forward(forward: &Forward, words: &mut Vec<String>) {
    words.extend(forward.auth.as_ref().map(of_auth));
    of_headers("request", &forward.request, words);
    of_headers("response", &forward.response, words);
    words.extend(forward.host.iter().map(|host| format!("host becomes {host}")));
    words.extend(forward.path.iter().map(of_path));
    if let Some(fault) = &forward.fault {
        words.extend(
            fault
                .delay
                .map(|(time, share)| format!("{} wait {time:?}", of_share(share))),
        );
        words.extend(
            fault
                .abort
                .map(|(abort, share)| format!("{} are answered with {abort:?}", of_share(share))),
        );
    }
    if forward.cors.is_some() {
        words.push("CORS".to_owned());
    }
    words.extend(forward.hash.iter().map(|by| format!("endpoint by {by:?}")));
}

/// How a request is answered that goes nowhere.
pub(crate) fn of_answer(action: &Action) -> Option<String> {
    match action {
        Action::Fail(status) => Some(status.to_string()),
        Action::Direct(direct) => Some(direct.status.to_string()),
        Action::Redirect(redirect) => Some(of_redirect(redirect)),
        Action::Forward(_) => None,
    }
}

fn of_redirect(redirect: &Redirect) -> String {
    let mut words = format!("{} to", redirect.status);
    let scheme = redirect.scheme.as_ref().map(|scheme| format!("{scheme}://"));
    let port = redirect.port.map(|port| format!("port {port}"));
    let path = redirect.path.as_ref().map(of_path);
    for part in [scheme, redirect.host.clone(), port, path].into_iter().flatten() {
        words.push(' ');
        words.push_str(&part);
    }
    words
}

fn of_path(path: &NewPath) -> String {
    match path {
        NewPath::Full(path) => format!("path becomes {path}"),
        NewPath::Prefix(path) | NewPath::Plain(path) => format!("prefix becomes {path}"),
        NewPath::Regex(regex, path) => format!("path ~ {regex} becomes {path}"),
    }
}

fn of_headers(whose: &str, headers: &Headers, words: &mut Vec<String>) {
    let list = |all: &[(String, String)]| {
        let all: Vec<String> = all.iter().map(|(name, value)| format!("{name}={value}")).collect();
        all.join(", ")
    };
    for (what, text) in [
        ("set", list(&headers.set)),
        ("add", list(&headers.add)),
        ("remove", headers.remove.join(", ")),
    ] {
        if !text.is_empty() {
            words.push(format!("{whose} headers: {what} {text}"));
        }
    }
}

/// A share of a million.
pub(crate) fn of_share(share: u32) -> String {
    format!("{}%", f64::from(share) / 10_000.0)
}

/// When a request is tried again; none where that is as without a word of the route.
pub(crate) fn of_retry(retry: &Retry) -> Option<String> {
    if *retry == Retry::default() {
        return None;
    }
    let mut words = format!("{} more", retry.attempts);
    if let Some(on) = &retry.on {
        words += &format!(", on {on}");
    }
    if !retry.codes.is_empty() {
        let codes: Vec<String> = retry.codes.iter().map(u32::to_string).collect();
        words += &format!(", on {}", codes.join(", "));
    }
    let times = [("each within", retry.per_try), ("after", retry.backoff)];
    for (what, time) in times {
        if let Some(time) = time {
            words += &format!(", {what} {}", of_duration(time));
        }
    }
    Some(words)
}

/// As `1.5s`.
pub(crate) fn of_duration(time: Duration) -> String {
    format!("{time:?}")
}
