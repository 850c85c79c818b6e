//! Root certificates of our own, and where they are kept without a cluster: `ca/root.pem` and `ca/root.key`.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, KeyPair, KeyUsagePurpose};
use time::{Duration, OffsetDateTime};

use super::{Authority, AuthorityError, Material, Signer, leaf::BACKDATE};

/// Ten years: a root is replaced long before.
const VALIDITY: Duration = Duration::days(3650);

/// How often the files are looked at.
const LOOK: std::time::Duration = std::time::Duration::from_secs(1);

/// Makes a root that is its own signing certificate, at `now`.
///
/// # Errors
/// When there is no key to be had.
pub(crate) fn make(trust_domain: &str, now: OffsetDateTime) -> Result<Material, AuthorityError> {
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, trust_domain);
    params.distinguished_name.push(DnType::CommonName, "Culvert root");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = now - BACKDATE;
    params.not_after = params.not_before + VALIDITY;
    let pem = params.self_signed(&key)?.pem();
    Ok(Material {
        certificate: pem.clone(),
        key: key.serialize_pem(),
        roots: pem,
    })
}

/// The folder with the root.
pub(crate) struct RootFolder {
    certificate: PathBuf,
    key: PathBuf,
    trust_domain: String,
    /// The files' state before they were read first: what changes from then on is noticed, also before they are followed.
    began: State,
}

/// When each of the two files was written last, and its length; none where there is none.
type State = [Option<(SystemTime, u64)>; 2];

impl RootFolder {
    /// The root in `folder`, for identities of `trust_domain`.
    pub(crate) fn new(folder: &Path, trust_domain: &str) -> Self {
        let (certificate, key) = (folder.join("root.pem"), folder.join("root.key"));
        Self {
            began: state([&certificate, &key]),
            certificate,
            key,
            trust_domain: trust_domain.to_owned(),
        }
    }

    /// Reads the root, or makes one if there is none yet.
    ///
    /// # Errors
    /// When the files cannot be read or written, do not belong together, or only one of them is there.
    pub(crate) fn open(&self) -> Result<Signer, AuthorityError> {
        match (read(&self.certificate)?, read(&self.key)?) {
            (Some(certificate), Some(key)) => self.load(Material {
                roots: certificate.clone(),
                certificate,
                key,
            }),
            (None, None) => self.create(),
            (Some(_), None) => Err(AuthorityError::Half {
                present: self.certificate.clone(),
                absent: self.key.clone(),
            }),
            (None, Some(_)) => Err(AuthorityError::Half {
                present: self.key.clone(),
                absent: self.certificate.clone(),
            }),
        }
    }

    /// Follows the files: a root that replaces the one there is taken over. Never ends.
    pub(crate) async fn follow(&self, authority: &Authority) {
        let mut seen = self.began;
        loop {
            tokio::time::sleep(LOOK).await;
            let now = state([&self.certificate, &self.key]);
            // One of two files has been written: the other will be.
            if now == seen || now.iter().any(Option::is_none) {
                continue;
            }
            match self.open() {
                Ok(signer) => {
                    seen = now;
                    authority.take(Arc::new(signer));
                }
                Err(error) => tracing::error!(%error, "the root that was there before stays in use"),
            }
        }
    }

    fn load(&self, material: Material) -> Result<Signer, AuthorityError> {
        let origin = self.certificate.display().to_string();
        Signer::new(material, &origin, &self.trust_domain).map_err(|why| AuthorityError::Unusable { origin, why })
    }

    fn create(&self) -> Result<Signer, AuthorityError> {
        let material = make(&self.trust_domain, OffsetDateTime::now_utc())?;
        if let Some(folder) = self.certificate.parent() {
            fs::create_dir_all(folder).map_err(file(folder))?;
        }
        // The key first: a certificate without its key would look like a loss, a key without its certificate is one.
        write(&self.key, &material.key, 0o600)?;
        write(&self.certificate, &material.certificate, 0o644)?;
        tracing::info!(path = %self.certificate.display(), self.trust_domain, "made a new root certificate");
        self.load(material)
    }
}

fn state(files: [&PathBuf; 2]) -> State {
    files.map(|path| {
        let metadata = fs::metadata(path).ok()?;
        Some((metadata.modified().ok()?, metadata.len()))
    })
}

fn read(path: &Path) -> Result<Option<String>, AuthorityError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(file(path)(error)),
    }
}

/// Writes a file whole or not at all, with its permissions from the first byte on.
pub(super) fn write(path: &Path, text: &str, mode: u32) -> Result<(), AuthorityError> {
    // Begins with a dot, which no node's name does: beside tokens it is nobody's token, and no two share it.
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let fresh = path.with_file_name(format!(".{name}.new"));
    let written = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(&fresh)
        .and_then(|mut to| {
            to.write_all(text.as_bytes())?;
            to.sync_all()?;
            fs::rename(&fresh, path)
        });
    written.map_err(file(path))
}

pub(super) fn file(path: &Path) -> impl FnOnce(io::Error) -> AuthorityError {
    let path = path.to_path_buf();
    move |source| AuthorityError::File { path, source }
}
