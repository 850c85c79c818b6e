//! A rule of an AuthorizationPolicy, on the side that it must not err to.

use culvert_proto::security::{Clause, Match, Rule};
use serde_json::{Map, Value};

use super::conditions::{self, Conditions, Field, Part};
use super::notes::Notes;
use super::side::Side;
use super::value;

/// Reads the rules of one policy.
pub(super) struct Reading<'a> {
    pub(super) side: Side,
    pub(super) namespace: &'a str,
    pub(super) notes: Notes,
}

const LAYER_7: [&str; 10] = [
    "hosts",
    "notHosts",
    "methods",
    "notMethods",
    "paths",
    "notPaths",
    "requestPrincipals",
    "notRequestPrincipals",
    "remoteIpBlocks",
    "notRemoteIpBlocks",
];

impl Reading<'_> {
    /// The rules that can match at all; a rule that is none is left out where the policy allows, and matches everybody where
    /// it denies.
    pub(super) fn rules(&mut self, rules: Option<&Value>) -> Vec<Rule> {
        let all = match rules {
            None | Some(Value::Null) => return Vec::new(),
            Some(Value::Array(all)) => all,
            Some(_) => {
                self.notes.add("spec.rules", self.instead("not a list of rules"));
                return match self.side {
                    Side::Under => Vec::new(),
                    Side::Over => vec![Rule::default()],
                };
            }
        };
        let rules = all
            .iter()
            .enumerate()
            .map(|(index, rule)| self.rule(&format!("spec.rules[{index}]"), rule));
        let parts: Vec<Part<Rule>> = rules.collect();
        parts
            .into_iter()
            .filter_map(|part| match part {
                Part::Always => Some(Rule::default()),
                Part::Never => None,
                Part::Asks(rule) => Some(rule),
            })
            .collect()
    }

    fn rule(&mut self, at: &str, rule: &Value) -> Part<Rule> {
        let Some(fields) = self.object(at, rule) else {
            return Part::doubt(self.side);
        };
        let mut parts = self.unknown(at, fields, &["from", "to", "when"]);
        // The order in which Istio's control plane sends them.
        parts.push(self.one_of(at, "to", fields, |reading, at, entry| {
            reading.part_of(at, entry, "operation")
        }));
        parts.push(self.one_of(at, "from", fields, |reading, at, entry| {
            reading.part_of(at, entry, "source")
        }));
        parts.extend(self.conditions(&format!("{at}.when"), fields.get("when")));
        let mut clauses = Vec::new();
        for part in parts {
            match part {
                Part::Always => {}
                Part::Never => return Part::Never,
                Part::Asks(clause) => clauses.push(clause),
            }
        }
        if clauses.is_empty() {
            return Part::Always;
        }
        Part::Asks(Rule { clauses })
    }

    /// `from` or `to`: one of its entries must match. Without entries it asks for nothing.
    fn one_of(
        &mut self,
        at: &str,
        name: &str,
        fields: &Map<String, Value>,
        read: fn(&mut Self, &str, &Value) -> Part<Match>,
    ) -> Part<Clause> {
        let at = format!("{at}.{name}");
        let Some(entries) = fields.get(name).filter(|value| !value.is_null()) else {
            return Part::Always;
        };
        let Some(entries) = self.list(&at, entries) else {
            return Part::doubt(self.side);
        };
        if entries.is_empty() {
            return Part::Always;
        }
        let (mut matches, mut always) = (Vec::new(), false);
        for (index, entry) in entries.iter().enumerate() {
            match read(self, &format!("{at}[{index}]"), entry) {
                Part::Always => always = true,
                Part::Never => {}
                Part::Asks(one) => matches.push(one),
            }
        }
        match (always, matches.is_empty()) {
            (true, _) => Part::Always,
            (false, true) => Part::Never,
            (false, false) => Part::Asks(Clause { matches }),
        }
    }

    /// One entry of `from` or `to`.
    fn part_of(&mut self, at: &str, entry: &Value, name: &str) -> Part<Match> {
        let Some(entry) = self.object(at, entry) else {
            return Part::doubt(self.side);
        };
        let doubts = self.unknown(at, entry, &[name]);
        let empty = Map::new();
        let at = format!("{at}.{name}");
        let fields = match entry.get(name) {
            None | Some(Value::Null) => &empty,
            Some(value) => match self.object(&at, value) {
                Some(fields) => fields,
                None => return Part::doubt(self.side),
            },
        };
        let mut built = Conditions::new(doubts);
        for (name, value) in fields {
            self.constrain(&at, name, value, &mut built);
        }
        if built.is_empty() {
            self.notes.add(&at, self.instead("it is empty"));
        }
        if built.are_not_comparable() {
            let instead = match self.side {
                Side::Under => "such values are left out",
                Side::Over => "such values hold for every trust domain",
            };
            let what = "what an identity ends in is not compared together with its trust domain at layer 4";
            self.notes
                .add(&format!("{at}.principals"), format!("{what}: {instead}"));
        }
        built.part(self.side)
    }

    /// One field of a source or an operation.
    fn constrain(&mut self, at: &str, name: &str, value: &Value, built: &mut Conditions) {
        let path = format!("{at}.{name}");
        let namespace = self.namespace;
        let (base, is_exception) = positive(name);
        match base.as_str() {
            "principals" => self.values(
                &path,
                value,
                conditions::principals(is_exception),
                value::principal,
                built,
            ),
            "namespaces" => self.values(&path, value, conditions::namespaces(is_exception), value::text, built),
            "trustDomains" => {
                self.values(
                    &path,
                    value,
                    conditions::trust_domains(is_exception),
                    value::trust_domain,
                    built,
                );
            }
            "serviceAccounts" => {
                let read = |text: &str| value::service_account(text, namespace);
                self.values(&path, value, conditions::service_accounts(is_exception), read, built);
            }
            "ipBlocks" => self.values(&path, value, conditions::source_ips(is_exception), value::range, built),
            "ports" if at.ends_with("operation") => {
                self.values(
                    &path,
                    value,
                    conditions::destination_ports(is_exception),
                    value::port,
                    built,
                );
            }
            _ if is_empty(value) => {}
            _ => {
                let what = if LAYER_7.contains(&name) {
                    "it needs layer 7, which is a waypoint's"
                } else {
                    "it is unknown"
                };
                self.notes.add(&path, self.instead(what));
                built.add(Part::doubt(self.side));
            }
        }
    }

    /// `when`: all of it must hold.
    fn conditions(&mut self, at: &str, when: Option<&Value>) -> Vec<Part<Clause>> {
        let Some(when) = when.filter(|value| !value.is_null()) else {
            return Vec::new();
        };
        let Some(conditions) = self.list(at, when) else {
            return vec![Part::doubt(self.side)];
        };
        let all = conditions.iter().enumerate();
        all.map(
            |(index, condition)| match self.condition(&format!("{at}[{index}]"), condition) {
                Part::Always => Part::Always,
                Part::Never => Part::Never,
                Part::Asks(one) => Part::Asks(Clause { matches: vec![one] }),
            },
        )
        .collect()
    }

    fn condition(&mut self, at: &str, condition: &Value) -> Part<Match> {
        let Some(fields) = self.object(at, condition) else {
            return Part::doubt(self.side);
        };
        let mut built = Conditions::new(self.unknown(at, fields, &["key", "values", "notValues"]));
        let key = fields.get("key").and_then(Value::as_str).unwrap_or_default();
        let lists = [("values", false), ("notValues", true)];
        let lists = lists
            .iter()
            .filter_map(|(name, is_exception)| Some((*name, *is_exception, fields.get(*name)?)))
            .filter(|(_, _, value)| !is_empty(value));
        let lists: Vec<_> = lists.collect();
        if lists.is_empty() {
            self.notes.add(at, self.instead("it has no values"));
            return Part::doubt(self.side);
        }
        let namespace = self.namespace;
        for (name, is_exception, value) in lists {
            let path = format!("{at}.{name}");
            match key {
                "source.ip" => self.values(
                    &path,
                    value,
                    conditions::source_ips(is_exception),
                    value::range,
                    &mut built,
                ),
                "source.namespace" => self.values(
                    &path,
                    value,
                    conditions::namespaces(is_exception),
                    value::text,
                    &mut built,
                ),
                "source.principal" => self.values(
                    &path,
                    value,
                    conditions::principals(is_exception),
                    value::principal,
                    &mut built,
                ),
                "source.trustDomain" => {
                    let field = conditions::trust_domains(is_exception);
                    self.values(&path, value, field, value::trust_domain, &mut built);
                }
                "source.serviceAccount" => {
                    let read = |text: &str| value::service_account(text, namespace);
                    self.values(
                        &path,
                        value,
                        conditions::service_accounts(is_exception),
                        read,
                        &mut built,
                    );
                }
                "destination.ip" => self.values(
                    &path,
                    value,
                    conditions::destination_ips(is_exception),
                    value::range,
                    &mut built,
                ),
                "destination.port" => {
                    self.values(
                        &path,
                        value,
                        conditions::destination_ports(is_exception),
                        value::port,
                        &mut built,
                    );
                }
                _ => {
                    let what = format!("{key:?} is not decided at layer 4");
                    self.notes.add(&format!("{at}.key"), self.instead(&what));
                    return Part::doubt(self.side);
                }
            }
        }
        built.part(self.side)
    }

    /// A list of texts, of which each is to mean something.
    fn values<T>(
        &mut self,
        at: &str,
        value: &Value,
        field: Field<T>,
        read: impl Fn(&str) -> Option<T>,
        built: &mut Conditions,
    ) {
        if is_empty(value) {
            return;
        }
        let Some(texts) = self.list(at, value) else {
            return built.add(Part::doubt(self.side));
        };
        let mut good = Vec::new();
        let mut is_doubtful = false;
        for (index, text) in texts.iter().enumerate() {
            match text.as_str().and_then(&read) {
                Some(value) => good.push(value),
                None => {
                    is_doubtful = true;
                    let what = format!("{text} is none of the values that it may have{}", field.but);
                    self.notes
                        .add(&format!("{at}[{index}]"), self.without(&what, field.is_exception));
                }
            }
        }
        let part = match (is_doubtful, field.is_exception, self.side) {
            // A good value more or less among those that allow: less is less.
            (true, false, Side::Under) if good.is_empty() => Part::Never,
            (true, false, Side::Over) => Part::Always,
            (true, true, Side::Under) => Part::Never,
            (true, true, Side::Over) if good.is_empty() => Part::Always,
            _ => {
                (field.put)(built).extend(good);
                Part::Asks(())
            }
        };
        built.add(part);
    }

    fn object<'v>(&mut self, at: &str, value: &'v Value) -> Option<&'v Map<String, Value>> {
        let object = value.as_object();
        if object.is_none() {
            self.notes.add(at, self.instead("it is not an object"));
        }
        object
    }

    fn list<'v>(&mut self, at: &str, value: &'v Value) -> Option<&'v Vec<Value>> {
        let list = value.as_array();
        if list.is_none() {
            self.notes.add(at, self.instead("it is not a list"));
        }
        list
    }

    /// A doubt for each field that is none of these.
    fn unknown<T>(&mut self, at: &str, fields: &Map<String, Value>, known: &[&str]) -> Vec<Part<T>> {
        let unknown = fields.keys().filter(|name| !known.contains(&name.as_str()));
        let mut parts = Vec::new();
        for name in unknown {
            self.notes.add(&format!("{at}.{name}"), self.instead("it is unknown"));
            parts.push(Part::doubt(self.side));
        }
        parts
    }

    /// What is wrong with a condition, and what holds instead of it.
    fn instead(&self, what: &str) -> String {
        match self.side {
            Side::Under => format!("{what}: it holds for nobody, so that nobody is allowed by it"),
            Side::Over => format!("{what}: it holds for everybody, so that nobody gets past it"),
        }
    }

    /// What is wrong with a value, and what holds instead of its list.
    fn without(&self, what: &str, is_exception: bool) -> String {
        match (self.side, is_exception) {
            (Side::Under, false) | (Side::Over, true) => format!("{what}: it is left out"),
            (Side::Under, true) | (Side::Over, false) => self.instead(what),
        }
    }
}

/// `notPorts` is about `ports`.
fn positive(name: &str) -> (String, bool) {
    match name.strip_prefix("not") {
        Some(rest) if rest.starts_with(|first: char| first.is_ascii_uppercase()) => {
            let (first, others) = rest.split_at(1);
            (format!("{}{others}", first.to_ascii_lowercase()), true)
        }
        _ => (name.to_owned(), false),
    }
}

fn is_empty(value: &Value) -> bool {
    value.is_null() || value.as_array().is_some_and(Vec::is_empty)
}
