//! What a header block must look like to be a CONNECT or its answer (RFC 9113 sections 8.1 to 8.5).
use crate::{BadAuthority, BadRequest, ConnectRequest, Response, hpack};

/// Gathers the headers of one block, and what is wrong with them.
pub(crate) struct Gathered {
    method: Option<Vec<u8>>,
    authority: Option<Vec<u8>>,
    status: Option<Vec<u8>>,
    /// `:scheme`, `:path` or `:protocol` is there.
    other_pseudo: bool,
    headers: Vec<(String, String)>,
    room: usize,
    too_large: bool,
    malformed: Option<&'static str>,
}

impl Gathered {
    /// `max`: size of the list, as [`hpack::size`] counts.
    pub(crate) fn new(max: usize) -> Self {
        Self {
            method: None,
            authority: None,
            status: None,
            other_pseudo: false,
            headers: Vec::new(),
            room: max,
            too_large: false,
            malformed: None,
        }
    }

    /// Takes one header. Nothing is kept beyond the bound, but the block must be decoded to its end.
    pub(crate) fn add(&mut self, name: &[u8], value: &[u8]) {
        match self.room.checked_sub(hpack::size(name, value)) {
            Some(room) => self.room = room,
            None => (self.room, self.too_large) = (0, true),
        }
        if self.too_large || self.malformed.is_some() {
            return;
        }
        let result = match name {
            [b':', pseudo @ ..] => self.add_pseudo(pseudo, value),
            _ => self.add_regular(name, value),
        };
        self.malformed = result.err();
    }

    fn add_pseudo(&mut self, name: &[u8], value: &[u8]) -> Result<(), &'static str> {
        if !self.headers.is_empty() {
            return Err("pseudo-header after a regular header");
        }
        let slot = match name {
            b"method" => &mut self.method,
            b"authority" => &mut self.authority,
            b"status" => &mut self.status,
            b"scheme" | b"path" | b"protocol" => {
                self.other_pseudo = true;
                return Ok(());
            }
            _ => return Err("unknown pseudo-header"),
        };
        if slot.replace(value.to_vec()).is_some() {
            return Err("pseudo-header given twice");
        }
        Ok(())
    }

    fn add_regular(&mut self, name: &[u8], value: &[u8]) -> Result<(), &'static str> {
        if name.is_empty() || !name.iter().all(|&byte| is_name_byte(byte)) {
            return Err("header name with a character that is not allowed");
        }
        let connection_specific: [&[u8]; 5] = [
            b"connection",
            b"proxy-connection",
            b"keep-alive",
            b"transfer-encoding",
            b"upgrade",
        ];
        if connection_specific.contains(&name) || (name == b"te" && value != b"trailers") {
            return Err("connection-specific header");
        }
        if value.iter().any(|byte| matches!(byte, 0 | b'\r' | b'\n')) || value.trim_ascii().len() != value.len() {
            return Err("header value with a character that is not allowed");
        }
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).map_err(|_| "header value that is not UTF-8");
        self.headers.push((text(name)?, text(value)?));
        Ok(())
    }

    /// As a request.
    pub(crate) fn request(self) -> Result<ConnectRequest, BadRequest> {
        if self.too_large {
            return Err(BadRequest::TooLarge);
        }
        if let Some(reason) = self.malformed {
            return Err(BadRequest::Headers(reason));
        }
        match self.method.as_deref() {
            Some(b"CONNECT") => {}
            Some(_) => return Err(BadRequest::Method),
            None => return Err(BadRequest::Headers("no :method")),
        }
        if self.other_pseudo || self.status.is_some() {
            return Err(BadRequest::Headers("pseudo-header that CONNECT must not have"));
        }
        let authority = self.authority.ok_or(BadRequest::Headers("no :authority"))?;
        let authority = str::from_utf8(&authority).map_err(|_| BadRequest::Authority(BadAuthority::Host))?;
        let authority = authority.parse().map_err(BadRequest::Authority)?;
        Ok(ConnectRequest {
            authority,
            headers: self.headers,
        })
    }

    /// As an answer; an informational one (1xx) too.
    pub(crate) fn response(self) -> Result<Response, &'static str> {
        if self.too_large {
            return Err("headers too large");
        }
        if let Some(reason) = self.malformed {
            return Err(reason);
        }
        if self.method.is_some() || self.authority.is_some() || self.other_pseudo {
            return Err("pseudo-header of a request");
        }
        match self.status.as_deref() {
            Some(&[a @ b'1'..=b'5', b @ b'0'..=b'9', c @ b'0'..=b'9']) => {
                let digit = |byte: u8| u16::from(byte - b'0');
                Ok(Response {
                    status: digit(a) * 100 + digit(b) * 10 + digit(c),
                    headers: self.headers,
                })
            }
            _ => Err("no valid :status"),
        }
    }
}

/// RFC 9110 section 5.6.2, less upper case (RFC 9113 section 8.2.1).
fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
