//! Certificates, good and bad, for tests that play a node.

use culvert_lab::{Lab, wait_until};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject};
use std::fs;
use time::OffsetDateTime;

/// Something that signs certificates.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    root: CertificateDer<'static>,
    root_pem: String,
}

/// A certificate chain with its key.
pub struct Leaf {
    /// The leaf, then its issuers.
    pub chain: Vec<CertificateDer<'static>>,
    /// The leaf's key.
    pub key: PrivateKeyDer<'static>,
    /// The chain in PEM, for programs of others.
    pub chain_pem: String,
    /// The key in PEM.
    pub key_pem: String,
}

impl Authority {
    /// The mesh's own: the controller of this lab must have made it.
    pub fn of(lab: &Lab) -> Self {
        let folder = lab.state_dir().join("ca");
        wait_until("the controller has made its root", crate::PATIENCE, || {
            folder.join("root.key").exists()
        })
        .unwrap();
        let pem = fs::read_to_string(folder.join("root.pem")).unwrap();
        let key = KeyPair::from_pem(&fs::read_to_string(folder.join("root.key")).unwrap()).unwrap();
        let root = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
        Self {
            issuer: Issuer::from_ca_cert_pem(&pem, key).unwrap(),
            root,
            root_pem: pem,
        }
    }

    /// One that nobody in the mesh trusts.
    pub fn stranger() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.distinguished_name.push(DnType::CommonName, "stranger");
        let root = params.self_signed(&key).unwrap();
        Self {
            issuer: Issuer::new(params, key),
            root: root.der().clone(),
            root_pem: root.pem(),
        }
    }

    /// Its root in PEM.
    pub fn root_pem(&self) -> &str {
        &self.root_pem
    }

    /// A list of revoked certificates in PEM, by their serial numbers as `/certificates` shows them.
    pub fn revoke(&self, serials: &[&str]) -> String {
        let (now, hour) = (OffsetDateTime::now_utc(), time::Duration::HOUR);
        let bytes = |serial: &str| -> Vec<u8> {
            let bytes = serial.split(':').map(|byte| u8::from_str_radix(byte, 16).unwrap());
            bytes.collect()
        };
        let revoked = serials.iter().map(|serial| RevokedCertParams {
            serial_number: bytes(serial).into(),
            revocation_time: now - hour,
            reason_code: None,
            invalidity_date: None,
        });
        let list = CertificateRevocationListParams {
            this_update: now - hour,
            next_update: now + hour,
            crl_number: 1.into(),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(&self.issuer).unwrap().pem().unwrap()
    }

    /// A certificate for these URIs, valid for an hour before and after now.
    pub fn leaf(&self, uris: &[&str]) -> Leaf {
        let (now, hour) = (OffsetDateTime::now_utc(), time::Duration::HOUR);
        self.leaf_between(uris, now - hour, now + hour)
    }

    /// A certificate with its key, and the root that signed it, each in PEM, for a server of this address outside the mesh's own
    /// TLS.
    pub fn server(&self, address: std::net::IpAddr) -> [String; 3] {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::IpAddress(address)];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let leaf = params.signed_by(&key, &self.issuer).unwrap();
        [leaf.pem(), key.serialize_pem(), self.root_pem.clone()]
    }

    /// A certificate for these URIs and host names and this time.
    pub fn leaf_between(&self, names: &[&str], from: OffsetDateTime, to: OffsetDateTime) -> Leaf {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        let name = |name: &&str| match name.contains("://") {
            true => SanType::URI((*name).try_into().unwrap()),
            false => SanType::DnsName((*name).try_into().unwrap()),
        };
        params.subject_alt_names = names.iter().map(name).collect();
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        (params.not_before, params.not_after) = (from, to);
        let leaf = params.signed_by(&key, &self.issuer).unwrap();
        let (key_pem, key) = (key.serialize_pem(), PrivatePkcs8KeyDer::from(key.serialize_der()));
        Leaf {
            chain: vec![leaf.der().clone(), self.root.clone()],
            key: key.into(),
            chain_pem: leaf.pem() + &self.root_pem,
            key_pem,
        }
    }
}
