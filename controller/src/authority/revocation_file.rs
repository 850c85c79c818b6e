//! The certificate revocation lists that proxies are told beside the roots: a file that somebody else writes, as Istio's
//! `ca-crl.pem` in a ConfigMap.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use culvert_identity::Revocations;
use tokio::sync::watch;

use super::{AuthorityError, root::file};

/// How often the file is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// When a file was written last, and its length; none where there is none.
type State = Option<(SystemTime, u64)>;

/// The file, and what was read of it last.
pub(crate) struct RevocationFile {
    path: PathBuf,
    /// The file's state before it was read first: what changes from then on is noticed, also before it is followed.
    opened: State,
    lists: watch::Sender<Arc<str>>,
    problem: watch::Sender<Option<String>>,
}

impl RevocationFile {
    /// Reads the file. One that is not there holds no lists.
    ///
    /// # Errors
    /// When it cannot be read or holds a list that does not parse: a controller that does not know what is revoked must not
    /// tell proxies that nothing is.
    pub(crate) fn open(path: &Path) -> Result<Self, AuthorityError> {
        let opened = state(path);
        let lists = read(path)?;
        Ok(Self {
            path: path.to_owned(),
            opened,
            lists: watch::Sender::new(lists),
            problem: watch::Sender::new(None),
        })
    }

    /// The lists in PEM; empty where there are none.
    pub(crate) fn lists(&self) -> watch::Receiver<Arc<str>> {
        self.lists.subscribe()
    }

    /// Why the lists are not those of the file, if they are not.
    pub(crate) fn problem(&self) -> watch::Receiver<Option<String>> {
        self.problem.subscribe()
    }

    /// Follows the file. What was read before stays in force while it cannot be used. Never ends.
    pub(crate) async fn follow(&self) {
        let mut seen = self.opened;
        loop {
            tokio::time::sleep(LOOK).await;
            let now = state(&self.path);
            if now == seen {
                continue;
            }
            seen = now;
            match read(&self.path) {
                Ok(lists) => {
                    if lists.is_empty() && !self.lists.borrow().is_empty() {
                        tracing::warn!(path = %self.path.display(), "no certificate is revoked any more");
                    }
                    self.problem.send_replace(None);
                    self.lists.send_if_modified(|before| {
                        let is_new = *before != lists;
                        *before = lists;
                        is_new
                    });
                }
                Err(error) => {
                    tracing::error!(%error, "the certificates that were revoked before stay revoked, and no others");
                    self.problem.send_replace(Some(error.to_string()));
                }
            }
        }
    }
}

fn state(path: &Path) -> State {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}

/// The lists of a file, checked.
fn read(path: &Path) -> Result<Arc<str>, AuthorityError> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok("".into()),
        Err(error) => return Err(file(path)(error)),
    };
    let unusable = |why: String| AuthorityError::Revocations {
        path: path.to_owned(),
        why,
    };
    let lists = Revocations::from_pem(text.as_bytes()).map_err(|error| unusable(error.to_string()))?;
    if lists.is_empty() && !text.trim().is_empty() {
        return Err(unusable("it holds no X509 CRL in PEM form".to_owned()));
    }
    if let Some(at) = lists.next_update().filter(|at| *at < SystemTime::now()) {
        let late = SystemTime::now().duration_since(at).unwrap_or_default().as_secs();
        tracing::warn!(path = %path.display(), seconds = late, "a revocation list should have been replaced by a newer one; it holds on");
    }
    tracing::info!(path = %path.display(), revoked = lists.revoked(), "revocation lists");
    Ok(text.into())
}

/// The roots and the lists as one text, as proxies are told them.
pub(crate) async fn join(
    mut roots: watch::Receiver<Arc<str>>,
    mut lists: watch::Receiver<Arc<str>>,
    told: watch::Sender<Arc<str>>,
) {
    loop {
        let text = joined(&roots.borrow_and_update(), &lists.borrow_and_update());
        told.send_if_modified(|before| {
            let is_new = **before != *text;
            *before = text;
            is_new
        });
        tokio::select! {
            changed = roots.changed() => if changed.is_err() { return },
            changed = lists.changed() => if changed.is_err() { return },
        }
    }
}

/// No roots are no resource, whatever is revoked.
pub(crate) fn joined(roots: &str, lists: &str) -> Arc<str> {
    if roots.is_empty() || lists.is_empty() {
        return roots.into();
    }
    format!("{}\n{lists}", roots.trim_end()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("culvert-crl-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    fn list(serial: u64) -> String {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.key_usages = vec![rcgen::KeyUsagePurpose::CrlSign];
        let issuer = rcgen::Issuer::new(params, key);
        let now = time::OffsetDateTime::now_utc();
        let list = rcgen::CertificateRevocationListParams {
            this_update: now,
            next_update: now + time::Duration::hours(1),
            crl_number: 1.into(),
            issuing_distribution_point: None,
            revoked_certs: vec![rcgen::RevokedCertParams {
                serial_number: serial.into(),
                revocation_time: now,
                reason_code: None,
                invalidity_date: None,
            }],
            key_identifier_method: rcgen::KeyIdMethod::Sha256,
        };
        list.signed_by(&issuer).unwrap().pem().unwrap()
    }

    #[test]
    fn a_file_that_is_not_there_holds_no_lists_and_one_that_cannot_be_used_is_an_error() {
        let path = folder("open").join("ca-crl.pem");
        assert!(RevocationFile::open(&path).unwrap().lists().borrow().is_empty());
        for text in [
            "nothing of the kind",
            "-----BEGIN X509 CRL-----\nMIIB\n-----END X509 CRL-----\n",
        ] {
            fs::write(&path, text).unwrap();
            let error = RevocationFile::open(&path).err().unwrap().to_string();
            assert!(error.contains("ca-crl.pem"), "{error}");
        }
        fs::write(&path, list(7)).unwrap();
        assert!(
            RevocationFile::open(&path)
                .unwrap()
                .lists()
                .borrow()
                .contains("X509 CRL")
        );
        fs::remove_dir_all(path.parent().unwrap()).unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_revoked_stays_so_while_the_file_cannot_be_used() {
        let path = folder("follow").join("ca-crl.pem");
        fs::write(&path, list(7)).unwrap();
        let file = RevocationFile::open(&path).unwrap();
        let (mut lists, mut problem) = (file.lists(), file.problem());
        let first = lists.borrow().clone();
        let test = async {
            fs::write(&path, "garbage that is no list").unwrap();
            problem.wait_for(Option::is_some).await.unwrap();
            assert_eq!(*lists.borrow(), first);
            fs::write(&path, list(8) + "\n\n").unwrap();
            lists.changed().await.unwrap();
            assert_eq!(*problem.borrow(), None);
            assert_ne!(*lists.borrow_and_update(), first);
            fs::remove_file(&path).unwrap();
            lists.wait_for(|lists| lists.is_empty()).await.unwrap();
        };
        tokio::select! {
            () = file.follow() => {}
            () = test => {}
        }
        fs::remove_dir_all(path.parent().unwrap()).unwrap();
    }

    #[test]
    fn lists_alone_are_nothing_to_be_told() {
        assert_eq!(&*joined("", "list"), "");
        assert_eq!(&*joined("roots\n", ""), "roots\n");
        assert_eq!(&*joined("roots\n", "list\n"), "roots\nlist\n");
    }
}
