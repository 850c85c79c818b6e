//! Whom the system trusts.

use std::sync::{Arc, LazyLock};

use rustls::RootCertStore;

/// The roots of the image that this process runs in, or those that `SSL_CERT_FILE` and `SSL_CERT_DIR` name. Read once. Where there are none, no
/// certificate is good.
pub(super) fn system() -> Arc<RootCertStore> {
    static SYSTEM: LazyLock<Arc<RootCertStore>> = LazyLock::new(|| {
        let found = rustls_native_certs::load_native_certs();
        for error in &found.errors {
            tracing::warn!(%error, "some of the system's roots could not be read");
        }
        let mut store = RootCertStore::empty();
        let (added, _) = store.add_parsable_certificates(found.certs);
        if added == 0 {
            tracing::warn!("the system has no roots: TLS to endpoints that are to be verified by them fails");
        }
        Arc::new(store)
    });
    Arc::clone(&SYSTEM)
}
