//! Reading a rule, on the side that it must not err to.

use serde_json::{Map, Value};

use super::super::notes::Notes;
use super::super::side::Side;
use super::test::{Layer, Rule, Test};

/// What a part of a rule comes to.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Part {
    /// It holds for everybody.
    Always,
    /// It holds for nobody.
    Never,
    /// It is decided per request.
    Asks(Test),
}

/// Reads the rules of one policy.
pub(super) struct Reading<'a> {
    pub(super) side: Side,
    pub(super) layer: Layer,
    pub(super) namespace: &'a str,
    pub(super) notes: Notes,
    pub(super) needs_requests: bool,
}

impl Reading<'_> {
    /// The rules that can match at all.
    pub(super) fn rules(&mut self, rules: Option<&Value>) -> Vec<Rule> {
        let all = match rules {
            None | Some(Value::Null) => return Vec::new(),
            Some(Value::Array(all)) => all.as_slice(),
            Some(_) => {
                self.notes.add("spec.rules", self.instead("not a list of rules"));
                &[Value::Bool(false)]
            }
        };
        let rules = all.iter().enumerate();
        rules
            .filter_map(|(index, rule)| {
                let (operation, source) = self.rule(&format!("spec.rules[{index}]"), rule)?;
                Some(Rule {
                    index,
                    operation,
                    source,
                })
            })
            .collect()
    }

    /// What is asked for, and who asks; none if it can match nobody.
    fn rule(&mut self, at: &str, rule: &Value) -> Option<(Vec<Test>, Vec<Test>)> {
        let Some(fields) = self.object(at, rule) else {
            return tests(vec![self.doubt()]).map(|none| (none, Vec::new()));
        };
        let mut source = self.unknown(at, fields, &["from", "to", "when"]);
        let mut operation = vec![self.one_of(at, "to", fields, |reading, at, entry| {
            reading.entry(at, entry, "operation")
        })];
        source.push(self.one_of(at, "from", fields, |reading, at, entry| {
            reading.entry(at, entry, "source")
        }));
        self.conditions(&format!("{at}.when"), fields.get("when"), &mut operation, &mut source);
        Some((tests(operation)?, tests(source)?))
    }

    /// `from` or `to`: one of its entries must match. Without entries it asks for nothing.
    fn one_of(
        &mut self,
        at: &str,
        name: &str,
        fields: &Map<String, Value>,
        read: fn(&mut Self, &str, &Value) -> Part,
    ) -> Part {
        let at = format!("{at}.{name}");
        let Some(entries) = fields.get(name).filter(|value| !value.is_null()) else {
            return Part::Always;
        };
        let Some(entries) = self.list(&at, entries) else {
            return self.doubt();
        };
        if entries.is_empty() {
            return Part::Always;
        }
        let parts = entries.iter().enumerate();
        let parts: Vec<Part> = parts
            .map(|(index, entry)| read(self, &format!("{at}[{index}]"), entry))
            .collect();
        any(parts)
    }

    /// A list of texts, one of which must be so, or none where they are exceptions.
    pub(super) fn values(
        &mut self,
        at: &str,
        value: &Value,
        is_exception: bool,
        read: impl Fn(&str) -> Option<Test>,
    ) -> Part {
        let Some(texts) = self.list(at, value) else {
            return self.doubt();
        };
        let mut good = Vec::new();
        let mut is_doubtful = false;
        for (index, text) in texts.iter().enumerate() {
            match text.as_str().and_then(&read) {
                Some(test) => good.push(test),
                None => {
                    is_doubtful = true;
                    let what = format!("{text} is none of the values that it may have");
                    let message = match (self.side, is_exception) {
                        (Side::Under, false) | (Side::Over, true) => format!("{what}: it is left out"),
                        (Side::Under, true) | (Side::Over, false) => self.instead(&what),
                    };
                    self.notes.add(&format!("{at}[{index}]"), message);
                }
            }
        }
        match (is_doubtful, is_exception, self.side) {
            (true, false, Side::Over) => Part::Always,
            (true, true, Side::Under) => Part::Never,
            (_, false, _) if good.is_empty() => Part::Never,
            (_, true, _) if good.is_empty() => Part::Always,
            (_, false, _) => Part::Asks(or(good)),
            (_, true, _) => Part::Asks(Test::Not(Box::new(or(good)))),
        }
    }

    /// What holds for a condition that needs requests: it itself, or what stands for it where there are connections alone.
    pub(super) fn of_requests(&mut self, part: Part) -> Part {
        match self.layer {
            Layer::Requests => part,
            Layer::Connections => {
                self.needs_requests = true;
                self.doubt()
            }
        }
    }

    /// What stands for something that cannot be decided.
    pub(super) fn doubt(&self) -> Part {
        match self.side {
            Side::Under => Part::Never,
            Side::Over => Part::Always,
        }
    }

    /// What is wrong with a condition, and what holds instead of it.
    pub(super) fn instead(&self, what: &str) -> String {
        match self.side {
            Side::Under => format!("{what}: it holds for nobody, so that nobody is allowed by it"),
            Side::Over => format!("{what}: it holds for everybody, so that nobody gets past it"),
        }
    }

    pub(super) fn object<'v>(&mut self, at: &str, value: &'v Value) -> Option<&'v Map<String, Value>> {
        let object = value.as_object();
        if object.is_none() && at != "spec.rules" {
            self.notes.add(at, self.instead("it is not an object"));
        }
        object
    }

    pub(super) fn list<'v>(&mut self, at: &str, value: &'v Value) -> Option<&'v Vec<Value>> {
        let list = value.as_array();
        if list.is_none() {
            self.notes.add(at, self.instead("it is not a list"));
        }
        list
    }

    /// A doubt for each field that is none of these.
    pub(super) fn unknown(&mut self, at: &str, fields: &Map<String, Value>, known: &[&str]) -> Vec<Part> {
        let unknown = fields.keys().filter(|name| !known.contains(&name.as_str()));
        let mut parts = Vec::new();
        for name in unknown {
            self.notes.add(&format!("{at}.{name}"), self.instead("it is unknown"));
            parts.push(self.doubt());
        }
        parts
    }
}

/// All must hold; none if that cannot be.
fn tests(parts: Vec<Part>) -> Option<Vec<Test>> {
    let mut made = Vec::new();
    for part in parts {
        match part {
            Part::Always => {}
            Part::Never => return None,
            Part::Asks(test) => made.push(test),
        }
    }
    Some(made)
}

/// All must hold.
pub(super) fn all(parts: Vec<Part>) -> Part {
    match tests(parts) {
        None => Part::Never,
        Some(mut tests) => match tests.len() {
            0 => Part::Always,
            1 => tests.pop().map_or(Part::Always, Part::Asks),
            _ => Part::Asks(Test::All(tests)),
        },
    }
}

/// One must hold.
fn any(parts: Vec<Part>) -> Part {
    let mut made = Vec::new();
    for part in parts {
        match part {
            Part::Always => return Part::Always,
            Part::Never => {}
            Part::Asks(test) => made.push(test),
        }
    }
    if made.is_empty() {
        Part::Never
    } else {
        Part::Asks(or(made))
    }
}

fn or(mut tests: Vec<Test>) -> Test {
    match (tests.len(), tests.pop()) {
        (1, Some(one)) => one,
        (_, last) => {
            tests.extend(last);
            Test::Any(tests)
        }
    }
}

/// Whether a field says nothing.
pub(super) fn is_empty(value: &Value) -> bool {
    value.is_null() || value.as_array().is_some_and(Vec::is_empty)
}
