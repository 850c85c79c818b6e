//! What a line looks like: text, or JSON.

use culvert_envoy::pb::envoy::config::core::v3::{
    SubstitutionFormatString, data_source::Specifier, substitution_format_string::Format as Message,
};
use culvert_envoy::pb::google::protobuf::{self, value::Kind};
use serde_json::{Map, Value};

use super::command::Command;
use super::facts::Facts;
use crate::error::CompileError;

/// A line's form.
#[derive(Clone, Debug)]
pub(super) enum Format {
    Text(Text, Absent),
    Json(Node, bool),
}

/// What stands for what is not known, in a text.
type Absent = &'static str;

/// A text with commands.
#[derive(Clone, Debug)]
pub(super) struct Text(Vec<Piece>);

#[derive(Clone, Debug)]
enum Piece {
    Text(String),
    Command(Command),
}

/// JSON with texts in it.
#[derive(Clone, Debug)]
pub(super) enum Node {
    Always(Value),
    Text(Text),
    List(Vec<Node>),
    /// By name, in the order of names.
    Object(Vec<(String, Node)>),
}

impl Format {
    /// A text alone.
    pub(super) fn text(text: &str) -> Result<Self, CompileError> {
        Ok(Self::Text(Text::compile(text)?, "-"))
    }

    pub(super) fn compile(mut message: SubstitutionFormatString) -> Result<Self, CompileError> {
        let omits_empty = std::mem::take(&mut message.omit_empty_values);
        let format = message
            .format
            .take()
            .ok_or_else(|| CompileError::missing("log_format"))?;
        message.content_type.clear();
        // `sort_properties` sorts what is sorted.
        message.json_format_options = None;
        if message != SubstitutionFormatString::default() {
            return Err(CompileError::unserved("log_format.formatters"));
        }
        let text = |text: &str| {
            let absent = if omits_empty { "" } else { "-" };
            Ok(Self::Text(Text::compile(text)?, absent))
        };
        match format {
            #[expect(deprecated, reason = "configurations have it all the same")]
            Message::TextFormat(format) => text(&format),
            Message::TextFormatSource(source) => match source.specifier {
                Some(Specifier::InlineString(format)) => text(&format),
                _ => Err(CompileError::unserved("text_format_source, other than inline_string")),
            },
            Message::JsonFormat(format) => Ok(Self::Json(Node::of_struct(&format)?, omits_empty)),
        }
    }

    /// The line, with its end.
    pub(super) fn line(&self, facts: &Facts<'_>) -> String {
        match self {
            Self::Text(text, absent) => text.text(facts, absent),
            Self::Json(node, omits_empty) => {
                let mut line = node.json(facts, *omits_empty).unwrap_or_default().to_string();
                line.push('\n');
                line
            }
        }
    }
}

impl Text {
    fn compile(text: &str) -> Result<Self, CompileError> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('%') {
            pieces.push(Piece::Text(before.to_owned()));
            if let Some(after) = after.strip_prefix('%') {
                pieces.push(Piece::Text("%".to_owned()));
                rest = after;
                continue;
            }
            let command = after.split_once('%');
            let (command, after) = command
                .ok_or_else(|| CompileError::invalid("format", format_args!("{text:?} has a single % in it")))?;
            pieces.push(Piece::Command(Command::compile(command)?));
            rest = after;
        }
        pieces.push(Piece::Text(rest.to_owned()));
        pieces.retain(|piece| !matches!(piece, Piece::Text(text) if text.is_empty()));
        Ok(Self(pieces))
    }

    fn text(&self, facts: &Facts<'_>, absent: &str) -> String {
        let mut out = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => out.push_str(text),
                Piece::Command(command) => command.add(facts, absent, &mut out),
            }
        }
        out
    }
}

impl Node {
    fn of_struct(format: &protobuf::Struct) -> Result<Self, CompileError> {
        let mut fields: Vec<_> = format.fields.iter().collect();
        fields.sort_by_key(|(name, _)| *name);
        let fields = fields.into_iter().map(|(name, value)| {
            let node = Self::of(value).map_err(|error| error.within(format!("`{name}`")))?;
            Ok((name.clone(), node))
        });
        Ok(Self::Object(fields.collect::<Result<_, CompileError>>()?))
    }

    fn of(value: &protobuf::Value) -> Result<Self, CompileError> {
        Ok(match &value.kind {
            None | Some(Kind::NullValue(_)) => Self::Always(Value::Null),
            Some(Kind::BoolValue(value)) => Self::Always((*value).into()),
            Some(Kind::NumberValue(value)) if value.fract() == 0.0 && value.abs() < 9e15 => {
                Self::Always((*value as i64).into())
            }
            Some(Kind::NumberValue(value)) => Self::Always((*value).into()),
            Some(Kind::StringValue(text)) => Self::Text(Text::compile(text)?),
            Some(Kind::StructValue(fields)) => Self::of_struct(fields)?,
            Some(Kind::ListValue(list)) => {
                Self::List(list.values.iter().map(Self::of).collect::<Result<_, CompileError>>()?)
            }
        })
    }

    /// None for what is left out.
    fn json(&self, facts: &Facts<'_>, omits_empty: bool) -> Option<Value> {
        let value = match self {
            Self::Always(value) => value.clone(),
            Self::Text(text) => match &*text.0 {
                [Piece::Command(command)] => command.json(facts),
                _ => Value::String(text.text(facts, if omits_empty { "" } else { "-" })),
            },
            Self::List(items) => Value::Array(items.iter().filter_map(|item| item.json(facts, omits_empty)).collect()),
            Self::Object(fields) => {
                let fields = fields.iter();
                let fields = fields.filter_map(|(name, node)| Some((name.clone(), node.json(facts, omits_empty)?)));
                Value::Object(fields.collect::<Map<_, _>>())
            }
        };
        (!(omits_empty && value.is_null())).then_some(value)
    }
}
