//! Texts with `%COMMANDS%` in them, as Envoy has them in values of header fields.

use http::request::Parts;

use crate::error::CompileError;
use crate::request::{FieldName, Peer};

/// What commands are filled in from.
pub(crate) struct Context<'a> {
    /// The request, as it is at the time.
    pub(crate) request: &'a Parts,
    pub(crate) peer: &'a Peer<'a>,
}

/// A text with commands.
#[derive(Clone, Debug)]
pub(crate) struct Format(Vec<Piece>);

#[derive(Clone, Debug)]
enum Piece {
    Text(String),
    /// The first line of a field, or of another one if there is none; at most so many bytes.
    Request(FieldName, Option<FieldName>, Option<usize>),
    PeerAddress {
        port: bool,
    },
    PeerPrincipal,
}

impl Format {
    /// Reads a text. `%%` is a percent sign.
    pub(crate) fn compile(text: &str) -> Result<Self, CompileError> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('%') {
            pieces.push(Piece::Text(before.to_owned()));
            if let Some(after) = after.strip_prefix('%') {
                pieces.push(Piece::Text("%".to_owned()));
                rest = after;
                continue;
            }
            let (command, after) = after
                .split_once('%')
                .ok_or_else(|| CompileError::invalid("value", format_args!("{text:?} has a single % in it")))?;
            pieces.push(Piece::compile(command)?);
            rest = after;
        }
        pieces.push(Piece::Text(rest.to_owned()));
        pieces.retain(|piece| !matches!(piece, Piece::Text(text) if text.is_empty()));
        Ok(Self(pieces))
    }

    /// The text, with what is not there left out.
    pub(crate) fn text(&self, context: &Context<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        for piece in &self.0 {
            piece.add(context, &mut out);
        }
        out
    }
}

impl Piece {
    fn compile(command: &str) -> Result<Self, CompileError> {
        let bad = || CompileError::invalid("value", format_args!("%{command}% is not a command that is served"));
        match command {
            "DOWNSTREAM_REMOTE_ADDRESS" | "DOWNSTREAM_DIRECT_REMOTE_ADDRESS" => {
                return Ok(Self::PeerAddress { port: true });
            }
            "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT" | "DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT" => {
                return Ok(Self::PeerAddress { port: false });
            }
            "FILTER_STATE(io.istio.peer_principal:PLAIN)" => return Ok(Self::PeerPrincipal),
            _ => {}
        }
        let (names, length) = command
            .strip_prefix("REQ(")
            .and_then(|rest| rest.split_once(')'))
            .ok_or_else(bad)?;
        let length = match length.strip_prefix(':') {
            Some(digits) => Some(digits.parse().map_err(|_| bad())?),
            None if length.is_empty() => None,
            None => return Err(bad()),
        };
        let (first, second) = match names.split_once('?') {
            Some((first, second)) => (first, Some(FieldName::parse(second).ok_or_else(bad)?)),
            None => (names, None),
        };
        Ok(Self::Request(FieldName::parse(first).ok_or_else(bad)?, second, length))
    }

    fn add(&self, context: &Context<'_>, out: &mut Vec<u8>) {
        match self {
            Self::Text(text) => out.extend_from_slice(text.as_bytes()),
            Self::Request(first, second, length) => {
                let value = first
                    .first(context.request)
                    .or_else(|| second.as_ref().and_then(|second| second.first(context.request)));
                if let Some(value) = value {
                    out.extend_from_slice(&value[..length.unwrap_or(usize::MAX).min(value.len())]);
                }
            }
            Self::PeerAddress { port } => {
                if let Some(address) = context.peer.address {
                    let text = if *port {
                        address.to_string()
                    } else {
                        address.ip().to_string()
                    };
                    out.extend_from_slice(text.as_bytes());
                }
            }
            Self::PeerPrincipal => out.extend_from_slice(context.peer.principal.unwrap_or_default().as_bytes()),
        }
    }
}
