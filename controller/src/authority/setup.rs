//! Puts the authority together: on files, or on a cluster.

use std::{
    future::Future,
    path::{Path, PathBuf},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use clap::Args;
use kube::Client;
use tokio::sync::watch;

use super::{
    Account, Authenticator, Authority, AuthorityError, NodeOfPod, RootFolder, TokenReviewer, Tokens,
    kubernetes::{CaSecret, TokenReviews},
    revocation_file::{self, RevocationFile},
    serving::Serving,
    signing_file::SigningFile,
};
use crate::clock::Clock;
use crate::duration::duration;

/// How certificates are signed, and for whom.
#[derive(Clone, Debug, Args)]
pub struct AuthorityFlags {
    /// How long workloads' certificates live; they are renewed at half of that.
    #[arg(long, env = "CULVERT_LEAF_TTL", default_value = "24h", value_parser = duration, value_name = "TIME")]
    pub leaf_ttl: Duration,
    /// How long a new root is told before anything is signed under it. Nodes hear of it at once; files that are made from
    /// the ConfigMap with the trust bundle take a minute or two.
    #[arg(long, env = "CULVERT_ROTATION_OVERLAP", default_value = "5m", value_parser = duration, value_name = "TIME")]
    pub rotation_overlap: Duration,
    /// Wait until somebody has put a signing certificate into the Secret `culvert-ca`, instead of making a root. For
    /// cert-manager and the like. On Kubernetes only.
    #[arg(long, env = "CULVERT_GIVEN_CA")]
    pub given_ca: bool,
    /// A file with certificate revocation lists in PEM, as Istio's `ca-crl.pem`, followed as it changes; it need not be there.
    /// Proxies refuse what is revoked.
    #[arg(long, env = "CULVERT_CA_CRL", value_name = "FILE")]
    pub ca_crl: Option<PathBuf>,
    /// The audience that nodes' tokens must have. On Kubernetes only.
    #[arg(
        long,
        env = "CULVERT_TOKEN_AUDIENCE",
        default_value = "istio-ca",
        value_name = "NAME"
    )]
    pub token_audience: String,
    /// A service account of nodes' programs, which act for the pods of their node; may be repeated. Tokens of other accounts
    /// are good for their own identity alone. On Kubernetes only.
    #[arg(
        long,
        env = "CULVERT_NODE_ACCOUNT",
        default_value = "culvert-system/culvert-node",
        value_delimiter = ',',
        value_name = "NAMESPACE/NAME"
    )]
    pub node_account: Vec<Account>,
}

/// What runs beside serving.
type Keeping = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The authority, and who may call it.
pub(crate) struct Setup {
    pub(crate) authority: Arc<Authority>,
    pub(crate) authenticator: Arc<dyn Authenticator>,
    pub(crate) serving: Arc<Serving>,
    /// What is wrong with the signing certificate, if something is.
    pub(crate) problem: watch::Receiver<Option<String>>,
    revocations: Option<Arc<RevocationFile>>,
    /// What proxies are told to trust: the roots, and with them what is revoked.
    told: watch::Sender<Arc<str>>,
    follow: Keeping,
}

impl Setup {
    /// A root and tokens in files below `state_dir`.
    ///
    /// # Errors
    /// When the root cannot be used, or what is kept beside it.
    pub(crate) fn files(
        flags: &AuthorityFlags,
        trust_domain: &str,
        state_dir: &Path,
        clock: &Clock,
    ) -> Result<Self, AuthorityError> {
        let authority = Arc::new(Authority::new(flags.leaf_ttl, flags.rotation_overlap, clock.clone()));
        let folder = state_dir.join("ca");
        let (root, state) = (
            RootFolder::new(&folder, trust_domain),
            SigningFile::new(&folder, trust_domain),
        );
        state.resume(&authority)?;
        authority.take(Arc::new(root.open()?));
        // Before anybody is told anything.
        state.save(&authority)?;
        let signing = Arc::clone(&authority);
        Ok(Self {
            revocations: revocations(flags)?,
            told: watch::Sender::new("".into()),
            authority,
            authenticator: Arc::new(Tokens::below(state_dir)),
            serving: Arc::default(),
            problem: watch::channel(None).1,
            follow: Box::pin(async move {
                tokio::join!(root.follow(&signing), state.keep(&signing));
            }),
        })
    }

    /// Tokens about which the API server is asked, and the Secret `culvert-ca` in `namespace`, which is written while
    /// `leader` says so.
    ///
    /// # Errors
    /// When the revocation lists cannot be used.
    pub(crate) fn cluster(
        flags: &AuthorityFlags,
        trust_domain: &str,
        namespace: &str,
        client: &Client,
        leader: watch::Receiver<bool>,
        node_of_pod: NodeOfPod,
        clock: &Clock,
    ) -> Result<Self, AuthorityError> {
        let authority = Arc::new(Authority::new(flags.leaf_ttl, flags.rotation_overlap, clock.clone()));
        let review = TokenReviews::new(client.clone());
        let reviewed = TokenReviewer::new(
            review,
            &flags.token_audience,
            &flags.node_account,
            node_of_pod,
            clock.clone(),
        );
        let keep = flags.leaf_ttl + flags.rotation_overlap;
        let secret = CaSecret::new(client, namespace, trust_domain, !flags.given_ca, keep, clock.clone());
        Ok(Self {
            authenticator: Arc::new(reviewed),
            serving: Arc::default(),
            problem: secret.problem(),
            revocations: revocations(flags)?,
            told: watch::Sender::new("".into()),
            follow: Box::pin(secret.follow(Arc::clone(&authority), leader)),
            authority,
        })
    }

    /// What proxies are told to trust: the roots, and with them what is revoked.
    pub(crate) fn trusted(&self) -> watch::Receiver<Arc<str>> {
        self.told.send_replace(revocation_file::joined(
            &self.authority.bundle().borrow(),
            &self.lists().borrow(),
        ));
        self.told.subscribe()
    }

    /// Why what is revoked is not what the file says, if it is not.
    pub(crate) fn revocation_problem(&self) -> watch::Receiver<Option<String>> {
        match &self.revocations {
            Some(file) => file.problem(),
            None => watch::channel(None).1,
        }
    }

    fn lists(&self) -> watch::Receiver<Arc<str>> {
        match &self.revocations {
            Some(file) => file.lists(),
            None => watch::channel("".into()).1,
        }
    }

    /// Follows the signing certificate, rotates, and keeps the certificate for the controller's own `names` young. Never
    /// ends.
    pub(crate) fn keep(&mut self, names: Vec<String>) -> impl Future<Output = ()> + Send + use<> {
        let follow = std::mem::replace(&mut self.follow, Box::pin(std::future::pending()));
        let (authority, serving) = (Arc::clone(&self.authority), Arc::clone(&self.serving));
        let (revocations, told) = (self.revocations.clone(), self.told.clone());
        async move {
            let trusted = async {
                let Some(file) = revocations else {
                    let none = watch::Sender::new("".into());
                    return revocation_file::join(authority.bundle(), none.subscribe(), told).await;
                };
                tokio::join!(
                    file.follow(),
                    revocation_file::join(authority.bundle(), file.lists(), told)
                );
            };
            tokio::join!(follow, authority.keep_time(), serving.keep(&authority, &names), trusted);
        }
    }
}

fn revocations(flags: &AuthorityFlags) -> Result<Option<Arc<RevocationFile>>, AuthorityError> {
    let file = flags.ca_crl.as_deref().map(RevocationFile::open).transpose()?;
    Ok(file.map(Arc::new))
}
