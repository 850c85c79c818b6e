//! Tokens in files: one for each node under `tokens/`, whose text the node's programs send as a bearer token, and one for each pod
//! that calls for itself (a waypoint) under `workload-tokens/`, in which stands as whom.
//!
//! For meshes without a cluster; on Kubernetes, service account tokens take their place.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
};

use aws_lc_rs::{constant_time, rand::SecureRandom as _};

use super::{
    Authenticated, Authenticator, AuthorityError, Caller, Source, Unauthenticated,
    root::{file, write},
};

/// 256 bits, in hexadecimal.
const TOKEN_BYTES: usize = 32;

/// What the text of a workload's token begins with. No node has such a name.
const WORKLOAD: &str = "workload/";

/// The tokens of all nodes and workloads.
pub(crate) struct Tokens {
    folder: PathBuf,
    workloads: PathBuf,
}

impl Tokens {
    /// Tokens in folders below the state's, each of which is made when its first token is.
    pub(crate) fn below(state_dir: &Path) -> Self {
        Self {
            folder: state_dir.join("tokens"),
            workloads: state_dir.join("workload-tokens"),
        }
    }

    /// The file with a node's token, made now if there is none.
    ///
    /// # Errors
    /// When the name is none that Kubernetes would give a node, or the file cannot be written.
    pub(crate) fn issue(&self, node: &str) -> Result<PathBuf, AuthorityError> {
        let path = self
            .path(node)
            .ok_or_else(|| AuthorityError::NodeName(node.to_owned()))?;
        make(&self.folder, &path, node)?;
        Ok(path)
    }

    /// The file with a pod's token, by which it calls as this service account of its namespace; made now if there is none for this
    /// account.
    ///
    /// # Errors
    /// When a name is none that Kubernetes would give, or the file cannot be written.
    pub(crate) fn issue_workload(&self, workload: &TokenOwner) -> Result<PathBuf, AuthorityError> {
        let path = self
            .workload_path(workload)
            .ok_or_else(|| AuthorityError::WorkloadName(workload.to_string()))?;
        make(&self.workloads, &path, &format!("{WORKLOAD}{workload}"))?;
        Ok(path)
    }

    /// The node whose token this is. Read from the file each time, so that removing a file revokes the token.
    pub(crate) fn find(&self, token: &str) -> Option<String> {
        let (node, _) = token.rsplit_once('.')?;
        is_as_in(&self.path(node)?, token).then(|| node.to_owned())
    }

    /// The workload whose token this is; by its file, too.
    fn find_workload(&self, token: &str) -> Option<TokenOwner> {
        let (owner, _) = token.strip_prefix(WORKLOAD)?.rsplit_once('.')?;
        let owner = TokenOwner::parse(owner)?;
        is_as_in(&self.workload_path(&owner)?, token).then_some(owner)
    }

    fn path(&self, node: &str) -> Option<PathBuf> {
        is_name(node).then(|| Path::new(&self.folder).join(node))
    }

    fn workload_path(&self, owner: &TokenOwner) -> Option<PathBuf> {
        let TokenOwner {
            namespace,
            pod,
            account,
        } = owner;
        let are_names = [namespace, pod, account].into_iter().all(|name| is_name(name));
        // No name has an underscore in it, so that no two owners share a file.
        are_names.then(|| Path::new(&self.workloads).join(format!("{namespace}_{pod}_{account}")))
    }
}

/// A pod that has a token, and the service account as which it calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TokenOwner {
    /// Of both.
    pub(crate) namespace: String,
    /// The pod's name.
    pub(crate) pod: String,
    /// The service account's name.
    pub(crate) account: String,
}

impl TokenOwner {
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('/').map(str::to_owned);
        let owner = Self {
            namespace: parts.next()?,
            pod: parts.next()?,
            account: parts.next()?,
        };
        parts.next().is_none().then_some(owner)
    }
}

impl fmt::Display for TokenOwner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.namespace, self.pod, self.account)
    }
}

/// Whether Kubernetes might call something so, and a file may be called so.
fn is_name(text: &str) -> bool {
    let name = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, b'-' | b'.');
    !text.is_empty() && text.len() <= 253 && text.bytes().all(name) && !text.starts_with('.')
}

fn is_as_in(path: &Path, token: &str) -> bool {
    let Ok(known) = fs::read_to_string(path) else {
        return false;
    };
    constant_time::verify_slices_are_equal(known.trim().as_bytes(), token.as_bytes()).is_ok()
}

/// Writes a token of which the text begins so, if there is none.
fn make(folder: &Path, path: &Path, owner: &str) -> Result<(), AuthorityError> {
    if path.exists() {
        return Ok(());
    }
    fs::create_dir_all(folder).map_err(file(folder))?;
    let mut secret = [0; TOKEN_BYTES];
    aws_lc_rs::rand::SystemRandom::new()
        .fill(&mut secret)
        .map_err(|_| file(path)(io::Error::other("the system gives no randomness")))?;
    let text: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
    write(path, &format!("{owner}.{text}"), 0o600)
}

#[tonic::async_trait]
impl Authenticator for Tokens {
    async fn authenticate(&self, token: &str, _: Source) -> Result<Authenticated, Unauthenticated> {
        let workload = self.find_workload(token).map(|owner| Caller::Workload {
            node: None,
            namespace: owner.namespace,
            account: owner.account,
            pod: Some(owner.pod),
        });
        let node = || self.find(token).map(|name| Caller::Node { name });
        Ok(Authenticated {
            caller: workload.or_else(node).ok_or(Unauthenticated::Unknown)?,
            expires: None,
        })
    }
}
