//! Cases of routing as data: objects, the requests that are sent once these are in force, and what becomes of them.
//!
//! A file is one case, in YAML; its fields are those of [`Case`].

use serde::Deserialize;
use serde_json::{Value, json};
use std::{collections::BTreeMap, fs, path::Path};

/// One file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// Its file's name, without the ending.
    #[serde(skip)]
    pub name: String,
    /// What it protects.
    pub what: String,
    /// Routes, which get one more rule each: by that it is seen that they are in force.
    pub objects: Vec<Value>,
    /// In order.
    pub requests: Vec<Ask>,
}

/// A request, and what becomes of it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ask {
    /// Method and path with the query.
    pub ask: String,
    /// The host; `web.town` if there is none.
    pub host: Option<String>,
    /// Further headers.
    #[serde(default)]
    pub with: BTreeMap<String, String>,
    /// Whether a client of another namespace asks.
    #[serde(default)]
    pub as_guest: bool,
    /// How often it is sent; once if there is no number. More than once means that `shares` say what comes back.
    pub times: Option<u32>,
    /// Whether it is sent again until this becomes of it: what is asked for holds some time after the routes do.
    #[serde(default)]
    pub eventually: bool,
    /// What becomes of it.
    #[serde(flatten)]
    pub expected: Expected,
    /// What becomes of it with Envoy, where that differs, and why.
    pub envoy: Option<Difference>,
}

/// Where Envoy does otherwise.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Difference {
    /// For readers.
    pub why: String,
    /// Instead of what is expected otherwise.
    #[serde(flatten)]
    pub expected: Expected,
}

/// What becomes of a request. What is not given may be anything.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Expected {
    /// The answer's status.
    pub status: Option<u16>,
    /// The application that answered, or `none` where the waypoint did.
    pub from: Option<String>,
    /// Headers of the answer, all values of a name with commas between; null for one that must not be there.
    #[serde(default)]
    pub back: BTreeMap<String, Option<String>>,
    /// Headers of the answer, where a `*` in the value stands for any text.
    #[serde(default)]
    pub like: BTreeMap<String, String>,
    /// Flags, details and the status of gRPC in the waypoint's access log, with spaces between; `*` as in `like`.
    pub log: Option<String>,
    /// The request line without the protocol, as the application that answered saw it first.
    pub saw: Option<String>,
    /// Headers as it saw them, as in `back`.
    #[serde(default)]
    pub seen: BTreeMap<String, Option<String>>,
    /// The answer's body.
    pub body: Option<String>,
    /// Milliseconds that it takes at least.
    pub after_ms: Option<u64>,
    /// How often that application was asked.
    pub tries: Option<usize>,
    /// An application that gets a copy, and the request line and headers that it sees.
    pub copy: Option<Copy>,
    /// Between how many and how many answers come, by the application or the status where there is none.
    #[serde(default)]
    pub shares: BTreeMap<String, [u32; 2]>,
    /// Whether all answers come from one application, whichever it is.
    #[serde(default)]
    pub one: bool,
}

/// A copy of a request.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Copy {
    /// The application that gets it.
    pub at: String,
    /// As in [`Expected::saw`].
    pub saw: String,
    /// As in [`Expected::seen`].
    #[serde(default)]
    pub seen: BTreeMap<String, Option<String>>,
}

impl Case {
    /// All cases of a folder itself, by name.
    pub fn read_all(folder: &Path) -> Vec<Self> {
        let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        let paths = entries.map(|entry| entry.unwrap().path());
        let mut files: Vec<_> = paths.filter(|path| path.is_file()).collect();
        files.sort();
        let one = |file: &std::path::PathBuf| {
            let text = fs::read_to_string(file).unwrap();
            let case = serde_yaml_ng::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
            let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            Self { name, ..case }
        };
        files.iter().map(one).collect()
    }

    /// The objects with the rules by which it is seen that they are in force, and the path that these are for. Who asks for it gets an
    /// answer with the path in the header [`IN_FORCE`].
    pub fn marked(&self) -> Vec<(Value, String)> {
        let mark = |(index, object): (usize, &Value)| {
            let mut object = object.clone();
            let method = format!("{}-{index}", self.name);
            let path = format!("/in.force/{method}");
            let matched = match object["kind"].as_str() {
                Some("HTTPRoute") => json!({ "path": { "type": "Exact", "value": path } }),
                Some("GRPCRoute") => json!({ "method": { "service": "in.force", "method": method } }),
                Some("VirtualService") => {
                    // Who asks for the path asks `web`. Others hold as part of one that is for it.
                    let is_for_web = object["spec"]["hosts"]
                        .as_array()
                        .is_some_and(|hosts| hosts.contains(&json!("web")));
                    if !is_for_web {
                        return (object, String::new());
                    }
                    if let Some(rules) = object["spec"]["http"].as_array_mut() {
                        rules.insert(0, virtual_mark(&path));
                        return (object, path);
                    }
                    return (object, String::new());
                }
                _ => return (object, String::new()),
            };
            let filter = json!({
                "type": "ResponseHeaderModifier",
                "responseHeaderModifier": { "set": [{ "name": IN_FORCE, "value": path }] },
            });
            // What a route is for it may always send back to.
            let backend = json!({ "name": "web", "namespace": "town", "port": 80 });
            if let Some(rules) = object["spec"]["rules"].as_array_mut() {
                rules.push(json!({ "matches": [matched], "filters": [filter], "backendRefs": [backend] }));
            }
            (object, path)
        };
        self.objects.iter().enumerate().map(mark).collect()
    }
}

/// The rule of a VirtualService by which it is seen that it is in force. It is the first, since rules stay in order.
fn virtual_mark(path: &str) -> Value {
    json!({
        "match": [{ "uri": { "exact": path } }],
        "directResponse": { "status": 200 },
        "headers": { "response": { "set": { IN_FORCE: path } } },
    })
}

/// Whether a text is like a pattern, in which a `*` stands for any text.
pub fn is_like(text: &str, pattern: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else {
        return text == pattern;
    };
    let Some(mut left) = text.strip_prefix(first) else {
        return false;
    };
    let (middle, last) = rest.rsplit_once('*').unwrap_or(("", rest));
    for part in middle.split('*') {
        match left.find(part) {
            Some(at) => left = &left[at + part.len()..],
            None => return false,
        }
    }
    left.ends_with(last)
}

/// The header by which it is seen that a route is in force.
pub const IN_FORCE: &str = "x-in-force";

#[cfg(test)]
mod tests {
    use super::is_like;

    #[test]
    fn a_star_stands_for_any_text() {
        assert!(is_like("a=\"1f\"; Path=/; HttpOnly", "a=\"*\"; *HttpOnly"));
        assert!(is_like("ab", "*") && is_like("ab", "ab*") && is_like("ab", "a*b"));
        assert!(!is_like("ab", "a*c") && !is_like("a", "a*a") && !is_like("abc", "*x*c"));
    }
}
