//! Node tokens: a file per node under `tokens/`, whose text the node's programs send as a bearer token.
//!
//! For meshes without a cluster; on Kubernetes, service account tokens take their place.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use aws_lc_rs::{constant_time, rand::SecureRandom as _};

use super::{
    Authenticated, Authenticator, AuthorityError, Caller, Source, Unauthenticated,
    root::{file, write},
};

/// 256 bits, in hexadecimal.
const TOKEN_BYTES: usize = 32;

/// The tokens of all nodes.
pub(crate) struct Tokens {
    folder: PathBuf,
}

impl Tokens {
    /// Tokens in `folder`, which is made when the first token is.
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// The file with a node's token, made now if there is none.
    ///
    /// # Errors
    /// When the name is none that Kubernetes would give a node, or the file cannot be written.
    pub(crate) fn issue(&self, node: &str) -> Result<PathBuf, AuthorityError> {
        let path = self
            .path(node)
            .ok_or_else(|| AuthorityError::NodeName(node.to_owned()))?;
        if path.exists() {
            return Ok(path);
        }
        fs::create_dir_all(&self.folder).map_err(file(&self.folder))?;
        let mut secret = [0; TOKEN_BYTES];
        aws_lc_rs::rand::SystemRandom::new()
            .fill(&mut secret)
            .map_err(|_| file(&path)(io::Error::other("the system gives no randomness")))?;
        let text: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
        write(&path, &format!("{node}.{text}"), 0o600)?;
        Ok(path)
    }

    /// The node whose token this is. Read from the file each time, so that removing a file revokes the token.
    pub(crate) fn find(&self, token: &str) -> Option<String> {
        let (node, _) = token.rsplit_once('.')?;
        let known = fs::read_to_string(self.path(node)?).ok()?;
        constant_time::verify_slices_are_equal(known.trim().as_bytes(), token.as_bytes()).ok()?;
        Some(node.to_owned())
    }

    fn path(&self, node: &str) -> Option<PathBuf> {
        let name = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, b'-' | b'.');
        let valid = !node.is_empty() && node.len() <= 253 && node.bytes().all(name) && !node.starts_with('.');
        valid.then(|| Path::new(&self.folder).join(node))
    }
}

#[tonic::async_trait]
impl Authenticator for Tokens {
    async fn authenticate(&self, token: &str, _: Source) -> Result<Authenticated, Unauthenticated> {
        let name = self.find(token).ok_or(Unauthenticated::Unknown)?;
        Ok(Authenticated {
            caller: Caller::Node { name },
            expires: None,
        })
    }
}
