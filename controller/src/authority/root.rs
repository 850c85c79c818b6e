//! The root certificate and its key on disk: `ca/root.pem` and `ca/root.key`.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use time::{Duration, OffsetDateTime};

use super::AuthorityError;

/// Ten years: the root is replaced by rotation, not by expiry.
const VALIDITY: Duration = Duration::days(3650);

/// Nodes whose clocks are behind must accept what was just made.
pub(super) const BACKDATE: Duration = Duration::minutes(10);

/// The root, able to sign.
pub(crate) struct Root {
    pub(super) issuer: Issuer<'static, KeyPair>,
    pub(super) pem: String,
    not_before: OffsetDateTime,
    not_after: OffsetDateTime,
    path: PathBuf,
}

impl Root {
    /// Reads the root from `folder`, or makes one there if there is none yet.
    ///
    /// # Errors
    /// When the files cannot be read or written, do not belong together, or only one of them is there.
    pub(crate) fn open(folder: &Path, trust_domain: &str) -> Result<Self, AuthorityError> {
        let (certificate, key) = (folder.join("root.pem"), folder.join("root.key"));
        match (read(&certificate)?, read(&key)?) {
            (Some(pem), Some(key_pem)) => Self::load(pem, &key_pem, certificate),
            (None, None) => Self::create(&certificate, &key, trust_domain),
            (Some(_), None) => Err(AuthorityError::Half {
                present: certificate,
                absent: key,
            }),
            (None, Some(_)) => Err(AuthorityError::Half {
                present: key,
                absent: certificate,
            }),
        }
    }

    fn load(pem: String, key_pem: &str, path: PathBuf) -> Result<Self, AuthorityError> {
        let damaged = |why: String| AuthorityError::Damaged {
            path: path.clone(),
            why,
        };
        let key = KeyPair::from_pem(key_pem).map_err(|error| damaged(format!("its key: {error}")))?;
        let (_, block) =
            x509_parser::pem::parse_x509_pem(pem.as_bytes()).map_err(|error| damaged(error.to_string()))?;
        let parsed = block.parse_x509().map_err(|error| damaged(error.to_string()))?;
        if parsed.public_key().raw != rcgen::PublicKeyData::subject_public_key_info(&key) {
            return Err(damaged("its key belongs to another certificate".into()));
        }
        if !parsed.is_ca() {
            return Err(damaged("it may not sign certificates".into()));
        }
        let (not_before, not_after) = (parsed.validity().not_before, parsed.validity().not_after);
        let (not_before, not_after) = (not_before.to_datetime(), not_after.to_datetime());
        let issuer = Issuer::from_ca_cert_pem(&pem, key).map_err(|error| damaged(error.to_string()))?;
        Ok(Self {
            issuer,
            pem,
            not_before,
            not_after,
            path,
        })
    }

    fn create(certificate: &Path, key_path: &Path, trust_domain: &str) -> Result<Self, AuthorityError> {
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, trust_domain);
        params.distinguished_name.push(DnType::CommonName, "Culvert root");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.not_before = OffsetDateTime::now_utc() - BACKDATE;
        params.not_after = params.not_before + VALIDITY;
        let pem = params.self_signed(&key)?.pem();
        if let Some(folder) = certificate.parent() {
            fs::create_dir_all(folder).map_err(file(folder))?;
        }
        // The key first: a certificate without its key would look like a loss, a key without its certificate is one.
        write(key_path, &key.serialize_pem(), 0o600)?;
        write(certificate, &pem, 0o644)?;
        tracing::info!(path = %certificate.display(), trust_domain, "made a new root certificate");
        Self::load(pem, &key.serialize_pem(), certificate.to_path_buf())
    }

    /// The root certificate, PEM.
    pub(crate) fn pem(&self) -> &str {
        &self.pem
    }

    /// Refuses when the root is not valid at `now`: one of the clocks that matter is wrong, and whatever were signed
    /// would be refused everywhere.
    pub(super) fn check_clock(&self, now: OffsetDateTime) -> Result<(), AuthorityError> {
        if self.not_before <= now && now < self.not_after {
            return Ok(());
        }
        let (path, not_before, not_after) = (self.path.clone(), self.not_before, self.not_after);
        Err(AuthorityError::Clock {
            path,
            not_before,
            not_after,
            now,
        })
    }

    pub(super) fn not_after(&self) -> OffsetDateTime {
        self.not_after
    }
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
