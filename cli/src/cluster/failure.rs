//! What goes wrong between this command and a cluster, each with what to do about it.

use kube::core::Status;

/// Why a question to the API server failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// Nothing names a cluster.
    #[error(
        "no cluster is configured: neither --kubeconfig nor KUBECONFIG nor ~/.kube/config names one, and this is no pod\n  \
         remedy: give --kubeconfig FILE; or --local to ask the programs of this machine"
    )]
    NoConfiguration,
    /// The kubeconfig cannot be used.
    #[error(
        "{file} cannot be used: {cause}\n  remedy: `kubectl config view` shows what it holds, `--context NAME` chooses among its contexts"
    )]
    BadConfiguration {
        /// Which one it is.
        file: String,
        /// Why.
        cause: String,
    },
    /// The API server cannot be reached.
    #[error(
        "the API server at {server} cannot be reached: {cause}\n  \
         remedy: see whether the cluster runs and this machine has a way to it (`kubectl version`); --kubeconfig and --context choose another"
    )]
    Unreachable {
        /// Its address.
        server: String,
        /// Why.
        cause: String,
    },
    /// The API server does not know who asks.
    #[error(
        "the API server refused who we are while {doing}: {message}\n  remedy: log in again; the kubeconfig's credentials are wrong or have expired"
    )]
    Unauthorized {
        /// What was tried.
        doing: String,
        /// The API server's words.
        message: String,
    },
    /// The API server knows who asks, and does not allow it.
    #[error(
        "not allowed while {doing}: {message}\n  remedy: ask for that right, or use a context of a cluster administrator (`culvert check --before` lists every right that is needed)"
    )]
    Forbidden {
        /// What was tried.
        doing: String,
        /// The API server's words: user, verb, resource, scope.
        message: String,
    },
    /// Nothing of ours is there.
    #[error(
        "Culvert is not installed on this cluster: there is no namespace culvert-system\n  remedy: `culvert install`"
    )]
    NotInstalled,
    /// The API server refused what was asked.
    #[error("the API server refused while {doing}: {message} ({code} {reason})")]
    Refused {
        /// What was tried.
        doing: String,
        /// The API server's words.
        message: String,
        /// HTTP status.
        code: u16,
        /// The reason's one-word name.
        reason: String,
    },
    /// Anything else on the way.
    #[error("{doing} failed: {cause}")]
    Other {
        /// What was tried.
        doing: String,
        /// Why it failed.
        cause: String,
    },
}

impl Failure {
    /// What an error means that came up `doing` something.
    pub(crate) fn of(doing: impl Into<String>, error: kube::Error) -> Self {
        let doing = doing.into();
        match error {
            kube::Error::Api(status) => Self::of_status(doing, &status),
            kube::Error::Service(_) | kube::Error::HyperError(_) => Self::Unreachable {
                server: "the configured address".to_owned(),
                cause: root_cause(&error),
            },
            error => Self::Other {
                doing,
                cause: root_cause(&error),
            },
        }
    }

    fn of_status(doing: String, status: &Status) -> Self {
        let message = status.message.clone();
        match status.code {
            401 => Self::Unauthorized { doing, message },
            403 => Self::Forbidden { doing, message },
            code => Self::Refused {
                doing,
                message,
                code,
                reason: status.reason.clone(),
            },
        }
    }

    /// Names the server in an error that lacks it.
    pub(crate) fn at(self, address: &str) -> Self {
        match self {
            Self::Unreachable { cause, .. } => Self::Unreachable {
                server: address.to_owned(),
                cause,
            },
            other => other,
        }
    }
}

/// An error's words in one line: those of a parser of YAML go on with an excerpt.
pub(super) fn first_line(error: &dyn std::error::Error) -> String {
    error.to_string().lines().next().unwrap_or_default().to_owned()
}

/// The innermost error's words: the outer ones only say on whose behalf it happened.
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut inner = error;
    while let Some(next) = inner.source() {
        inner = next;
    }
    inner.to_string()
}

#[cfg(test)]
mod tests {
    use super::Failure;
    use kube::core::Status;

    fn failed(code: u16, message: &str) -> String {
        let status = Status::failure(message, "Reason").with_code(code);
        Failure::of("listing nodes", kube::Error::Api(status.boxed())).to_string()
    }

    #[test]
    fn every_failure_says_what_was_tried_and_what_to_do() {
        let forbidden = failed(403, r#"nodes is forbidden: User "u" cannot list resource "nodes""#);
        assert!(
            forbidden.contains("cannot list resource") && forbidden.contains("listing nodes"),
            "{forbidden}"
        );
        assert!(forbidden.contains("remedy:"), "{forbidden}");
        assert!(failed(401, "Unauthorized").contains("log in again"));
        assert!(failed(500, "etcd is away").contains("500"));
        assert!(Failure::NotInstalled.to_string().contains("culvert install"));
        assert!(Failure::NoConfiguration.to_string().contains("--kubeconfig"));
    }
}
