//! The cluster's certificates and kubeconfigs: who may speak as whom.

use crate::{Error, addresses, error::Doing};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use serde_json::json;
use std::{
    fs,
    path::{Path, PathBuf},
};
use time::{Duration, OffsetDateTime};

/// The kubeconfig for programs inside the cluster's namespaces, beside the one for those outside.
pub(crate) const INSIDE: &str = "kubeconfig-inside";

/// The folder of certificates, keys and kubeconfigs, and the name of each file in it.
#[derive(Debug, Clone)]
pub(crate) struct Pki(PathBuf);

impl Pki {
    pub(crate) fn at(folder: PathBuf) -> Self {
        Self(folder)
    }

    pub(crate) fn file(&self, name: &str) -> String {
        self.0.join(name).to_string_lossy().into_owned()
    }

    /// Makes everything. `outside` is the address at which the machine's own programs reach the API server.
    pub(crate) fn create(&self, nodes: u8, kubeconfig: &Path, outside: &str) -> Result<(), Error> {
        fs::create_dir_all(&self.0).doing(|| format!("make {}", self.0.display()))?;
        let ca = self.authority("ca", "culvert-cluster")?;
        let front = self.authority("front-proxy-ca", "culvert-cluster-front-proxy")?;
        self.leaf(&ca, "apiserver", Subject::server("kube-apiserver", api_names()))?;
        self.leaf(
            &ca,
            "apiserver-kubelet-client",
            Subject::client("kube-apiserver-kubelet-client", Some("system:masters")),
        )?;
        self.leaf(
            &front,
            "front-proxy-client",
            Subject::client("front-proxy-client", None),
        )?;
        let inside = format!("https://127.0.0.1:{}", addresses::API_PORT);
        let from_nodes = format!("https://{}:{}", addresses::CONTROL_PLANE, addresses::API_PORT);
        let user = |name: &str, subject: Subject, server: &str, path: &Path| {
            let (certificate, key) = self.leaf(&ca, name, subject)?;
            write(path, &self.kubeconfig(server, &certificate, &key)?)
        };
        user(
            "admin",
            Subject::client("admin", Some("system:masters")),
            outside,
            kubeconfig,
        )?;
        user(
            "admin-inside",
            Subject::client("admin", Some("system:masters")),
            &from_nodes,
            &kubeconfig.with_file_name(INSIDE),
        )?;
        for (name, common) in [
            ("controller-manager", "system:kube-controller-manager"),
            ("scheduler", "system:kube-scheduler"),
        ] {
            user(
                name,
                Subject::client(common, None),
                &inside,
                &self.0.join(format!("{name}.conf")),
            )?;
        }
        user(
            "proxy",
            Subject::client("system:kube-proxy", None),
            &from_nodes,
            &self.0.join("proxy.conf"),
        )?;
        for number in 1..=nodes {
            let name = format!("node{number}");
            user(
                &name,
                Subject::node(number),
                &from_nodes,
                &self.0.join(format!("{name}.conf")),
            )?;
        }
        let signer = KeyPair::generate()?;
        write(&self.0.join("service-accounts.key"), &signer.serialize_pem())?;
        write(&self.0.join("service-accounts.pub"), &signer.public_key_pem())
    }

    fn authority(&self, name: &str, common: &str) -> Result<Issuer<'static, KeyPair>, Error> {
        let mut params = params(Vec::new(), common, None)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::CrlSign,
            KeyUsagePurpose::DigitalSignature,
        ];
        let key = KeyPair::generate()?;
        write(&self.0.join(format!("{name}.crt")), &params.self_signed(&key)?.pem())?;
        write(&self.0.join(format!("{name}.key")), &key.serialize_pem())?;
        Ok(Issuer::new(params, key))
    }

    /// Makes a certificate and its key, both as PEM.
    fn leaf(&self, issuer: &Issuer<'_, KeyPair>, name: &str, subject: Subject) -> Result<(String, String), Error> {
        let mut params = params(subject.names, &subject.common, subject.organization)?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = subject.usages;
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, issuer)?.pem();
        let key = key.serialize_pem();
        write(&self.0.join(format!("{name}.crt")), &certificate)?;
        write(&self.0.join(format!("{name}.key")), &key)?;
        Ok((certificate, key))
    }

    fn kubeconfig(&self, server: &str, certificate: &str, key: &str) -> Result<String, Error> {
        let ca = self.0.join("ca.crt");
        let ca = fs::read(&ca).doing(|| format!("read {}", ca.display()))?;
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "cluster", "cluster": {
                "server": server,
                "certificate-authority-data": BASE64.encode(ca),
            }}],
            "users": [{"name": "user", "user": {
                "client-certificate-data": BASE64.encode(certificate),
                "client-key-data": BASE64.encode(key),
            }}],
            "contexts": [{"name": "cluster", "context": {"cluster": "cluster", "user": "user"}}],
            "current-context": "cluster",
        });
        Ok(format!("{config:#}\n"))
    }
}

/// Whom a certificate names, and for what it is good.
struct Subject {
    common: String,
    organization: Option<&'static str>,
    names: Vec<String>,
    usages: Vec<ExtendedKeyUsagePurpose>,
}

impl Subject {
    fn client(common: &str, organization: Option<&'static str>) -> Self {
        Self {
            common: common.to_owned(),
            organization,
            names: Vec::new(),
            usages: vec![ExtendedKeyUsagePurpose::ClientAuth],
        }
    }

    fn server(common: &str, names: Vec<String>) -> Self {
        Self {
            common: common.to_owned(),
            organization: None,
            names,
            usages: vec![ExtendedKeyUsagePurpose::ServerAuth],
        }
    }

    /// A kubelet: a client of the API server, and a server for its logs and commands.
    fn node(number: u8) -> Self {
        Self {
            common: format!("system:node:node{number}"),
            organization: Some("system:nodes"),
            names: vec![
                format!("node{number}"),
                addresses::node(number).to_string(),
                addresses::node_v6(number).to_string(),
            ],
            usages: vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth],
        }
    }
}

fn api_names() -> Vec<String> {
    let names = [
        "localhost",
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
        "127.0.0.1",
    ];
    let mut names: Vec<String> = names.map(str::to_owned).into();
    names.push(addresses::CONTROL_PLANE.to_string());
    names.push(addresses::CONTROL_PLANE_V6.to_string());
    names.push(addresses::API_SERVICE.to_string());
    names
}

fn params(names: Vec<String>, common: &str, organization: Option<&str>) -> Result<CertificateParams, Error> {
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common);
    if let Some(organization) = organization {
        params.distinguished_name.push(DnType::OrganizationName, organization);
    }
    // Valid since yesterday, for machines whose clocks are set back a little by a test.
    let now = OffsetDateTime::now_utc();
    params.not_before = now - Duration::days(1);
    params.not_after = now + Duration::days(3650);
    Ok(params)
}

fn write(path: &Path, text: &str) -> Result<(), Error> {
    use std::{io::Write as _, os::unix::fs::OpenOptionsExt as _};
    fs::File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .doing(|| format!("write {}", path.display()))
}
