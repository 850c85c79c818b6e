//! An issuer of tokens that the controller reaches on loopback: it signs with Ed25519, and shows its keys or fails.

use std::{
    io::{BufReader, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    sync::{Arc, Mutex},
    thread,
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use culvert_lab::Lab;
use rcgen::{KeyPair, PKCS_ED25519, PublicKeyData as _, SigningKey as _};
use serde_json::{Value, json};

use crate::http::read_head;

const PORT: u16 = 8095;

/// The issuer.
pub struct Issuer {
    /// The page with its keys; none is an error.
    page: Arc<Mutex<Option<String>>>,
}

/// A key of it.
pub struct Signer {
    key: KeyPair,
    name: String,
}

impl Issuer {
    /// Serves where the controller is. It fails until keys are shown.
    pub fn serve(lab: &Lab) -> Self {
        let at = SocketAddr::from((Ipv4Addr::LOCALHOST, PORT));
        let listener = lab.control().run(|| TcpListener::bind(at)).unwrap().unwrap();
        let page: Arc<Mutex<Option<String>>> = Arc::default();
        let shown = Arc::clone(&page);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let Ok(from) = stream.try_clone() else { continue };
                let _ = read_head(&mut BufReader::new(from));
                let (status, body) = match shown.lock().unwrap().clone() {
                    Some(body) => ("200 OK", body),
                    None => ("503 Service Unavailable", String::new()),
                };
                let length = body.len();
                let _ = write!(
                    stream,
                    "HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
                );
            }
        });
        Self { page }
    }

    /// Its name.
    pub fn name(&self) -> String {
        format!("http://127.0.0.1:{PORT}")
    }

    /// Shows the public half of this key alone.
    pub fn show(&self, signer: &Signer) {
        *self.page.lock().unwrap() = Some(signer.keys());
    }

    /// Fails from now on.
    pub fn fail(&self) {
        *self.page.lock().unwrap() = None;
    }
}

impl Signer {
    /// A new key.
    pub fn new(name: &str) -> Self {
        Self {
            key: KeyPair::generate_for(&PKCS_ED25519).unwrap(),
            name: name.to_owned(),
        }
    }

    /// The set with its public half alone.
    pub fn keys(&self) -> String {
        let x = URL_SAFE_NO_PAD.encode(self.key.der_bytes());
        json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": self.name, "x": x}]}).to_string()
    }

    /// A token with these claims.
    pub fn token(&self, claims: &Value) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let head = json!({"alg": "EdDSA", "kid": self.name});
        let signed = format!("{}.{}", part(&head), part(claims));
        let signature = self.key.sign(signed.as_bytes()).unwrap();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}
