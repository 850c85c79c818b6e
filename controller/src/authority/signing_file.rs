//! What signs at the moment and what is trusted, kept in `ca/signing.json` without a cluster.
//!
//! A controller that starts takes up signing where it was left, also where the root was replaced while none ran: without
//! this, it would sign under a root at once that nobody has heard of yet. The key of the root before goes from here when the
//! overlap is over.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::{Deserialize, Serialize};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{
    Authority, AuthorityError, Material, Signer, SigningState,
    root::{file, write},
};

/// How long to wait with another attempt at writing the file.
const AGAIN: std::time::Duration = std::time::Duration::from_secs(5);

/// The file.
pub(super) struct SigningFile {
    path: PathBuf,
    trust_domain: String,
}

/// What is in it. Certificates and keys are PEM texts.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    certificate: String,
    key: String,
    roots: String,
    /// All roots that are trusted.
    trusted: String,
    /// Since when each of them is known, by its digest in hexadecimal.
    known_since: BTreeMap<String, String>,
}

impl SigningFile {
    /// The file beside the root in `folder`, for identities of `trust_domain`.
    pub(super) fn new(folder: &Path, trust_domain: &str) -> Self {
        Self {
            path: folder.join("signing.json"),
            trust_domain: trust_domain.to_owned(),
        }
    }

    /// Takes up signing where it was left, if it ever was begun.
    ///
    /// # Errors
    /// When the file is there and cannot be used: without it, a root that was replaced could not be told from one that
    /// everybody knows.
    pub(super) fn resume(&self, authority: &Authority) -> Result<(), AuthorityError> {
        let text = match fs::read_to_string(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(file(&self.path)(error)),
        };
        let damaged = |why: String| AuthorityError::State {
            path: self.path.clone(),
            why,
        };
        let content: Content = serde_json::from_str(&text).map_err(|error| damaged(error.to_string()))?;
        let mut known_since = BTreeMap::new();
        for (digest, at) in content.known_since {
            let at = OffsetDateTime::parse(&at, &Rfc3339).map_err(|error| damaged(format!("{at:?}: {error}")))?;
            known_since.insert(digest, at);
        }
        let material = Material {
            certificate: content.certificate,
            key: content.key,
            roots: content.roots,
        };
        let origin = self.path.display().to_string();
        let signer = Signer::new(material, &origin, &self.trust_domain).map_err(|why| damaged(why.to_string()))?;
        authority.resume(Arc::new(signer), &known_since);
        authority.remember(&content.trusted);
        Ok(())
    }

    /// Writes down how things stand.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(super) fn save(&self, authority: &Authority) -> Result<(), AuthorityError> {
        let state = authority.signing_state().borrow().clone();
        let Some(SigningState { material, known_since }) = state else {
            return Ok(());
        };
        let time = |at: OffsetDateTime| at.format(&Rfc3339).unwrap_or_default();
        let content = Content {
            certificate: material.certificate,
            key: material.key,
            roots: material.roots,
            trusted: authority.bundle().borrow().to_string(),
            known_since: known_since.into_iter().map(|(digest, at)| (digest, time(at))).collect(),
        };
        let text = serde_json::to_string_pretty(&content).map_err(|error| AuthorityError::State {
            path: self.path.clone(),
            why: error.to_string(),
        })?;
        write(&self.path, &(text + "\n"), 0o600)
    }

    /// Writes it again whenever something changes. Never ends.
    pub(super) async fn keep(&self, authority: &Authority) {
        let (mut state, mut bundle) = (authority.signing_state(), authority.bundle());
        // What changed between the start and now.
        let mut is_written = false;
        loop {
            if !is_written {
                is_written = match self.save(authority) {
                    Ok(()) => true,
                    Err(error) => {
                        tracing::error!(%error, "a controller that starts now would not know what signs");
                        false
                    }
                };
            }
            tokio::select! {
                // The authority outlives this.
                _ = state.changed() => is_written = false,
                _ = bundle.changed() => is_written = false,
                () = tokio::time::sleep(AGAIN), if !is_written => {}
            }
        }
    }
}

#[cfg(test)]
mod tests;
