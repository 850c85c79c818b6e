use std::io;

use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, IsCa, Issuer, KeyPair, SanType, date_time_ymd};
use rustls::{
    ServerConfig,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};
use tokio_rustls::TlsAcceptor;

use super::*;

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    roots: Arc<RootCertStore>,
}

fn authority(name: &str) -> Authority {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    Authority {
        roots: Arc::new(roots(&certificate.pem()).unwrap()),
        issuer: Issuer::new(params, key),
    }
}

impl Authority {
    fn server(&self, names: Vec<SanType>, is_over: bool, protocols: &[&[u8]]) -> TlsAcceptor {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.subject_alt_names = names;
        if is_over {
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = date_time_ymd(2021, 1, 1);
        }
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        TlsAcceptor::from(Arc::new(config))
    }
}

fn dns(name: &str) -> SanType {
    SanType::DnsName(name.try_into().unwrap())
}

fn uri(name: &str) -> SanType {
    SanType::URI(name.try_into().unwrap())
}

fn server(name: &str) -> Name {
    Name::Server(name.to_owned().try_into().unwrap())
}

fn client(trust: Option<&Authority>, names: Vec<Name>) -> EndpointTls {
    let demands = Demands {
        server_name: Some("a.example".try_into().unwrap()),
        trust: trust.map(|authority| Trust::Roots(Arc::clone(&authority.roots))),
        names,
        said: Box::default(),
    };
    EndpointTls::new(demands).unwrap()
}

/// What the server was asked for (its name, what is spoken), or why the client went away.
async fn shake(
    client: &EndpointTls,
    server: &TlsAcceptor,
    purpose: Purpose,
) -> Result<(Option<String>, Option<Vec<u8>>), Reason> {
    let (ours, theirs) = duplex(1 << 16);
    let accepting = server.accept(theirs);
    let connecting = async {
        let mut stream = client.connect(ours, purpose).await?;
        stream.write_all(b"x").await.unwrap();
        Ok(stream)
    };
    let (connected, accepted) = tokio::join!(connecting, accepting);
    connected.map_err(|failure: Failure| failure.reason)?;
    let mut accepted = accepted.unwrap();
    assert_eq!(accepted.read_u8().await.unwrap(), b'x');
    let (_, session) = accepted.get_ref();
    let protocol = session.alpn_protocol().map(<[u8]>::to_vec);
    Ok((session.server_name().map(str::to_owned), protocol))
}

#[tokio::test]
async fn a_server_is_good_by_who_signed_it_when_and_for_whom() {
    let (good, bad) = (authority("good"), authority("bad"));
    let names = vec![dns("a.example"), dns("*.wild.example"), uri("spiffe://a/b")];
    let fine = good.server(names.clone(), false, &[]);
    let over = good.server(names, true, &[]);
    let http1 = Purpose::Http1;
    for (wanted, expected) in [
        (vec![server("a.example")], Ok(())),
        (vec![server("x.wild.example")], Ok(())),
        (vec![Name::Wildcard("*.Wild.example".to_owned())], Ok(())),
        (vec![Name::Uri("spiffe://a/b".to_owned())], Ok(())),
        (vec![server("b.example"), Name::Uri("spiffe://a/b".to_owned())], Ok(())),
        (Vec::new(), Ok(())),
        (vec![server("b.example")], Err(Reason::Name)),
        (vec![server("x.y.wild.example")], Err(Reason::Name)),
        (vec![Name::Wildcard("*.example".to_owned())], Err(Reason::Name)),
        (vec![Name::Uri("spiffe://a/c".to_owned())], Err(Reason::Name)),
    ] {
        let shaken = shake(&client(Some(&good), wanted.clone()), &fine, http1).await;
        assert_eq!(shaken.map(drop), expected, "{wanted:?}");
    }
    let wanted = || vec![server("a.example")];
    let shaken = shake(&client(Some(&bad), wanted()), &fine, http1).await;
    assert_eq!(shaken.map(drop), Err(Reason::Issuer));
    let shaken = shake(&client(Some(&good), wanted()), &over, http1).await;
    assert_eq!(shaken.map(drop), Err(Reason::Time));
    assert_eq!(shake(&client(None, Vec::new()), &over, http1).await.map(drop), Ok(()));
}

#[tokio::test]
async fn a_connection_says_whom_it_wants_and_what_it_is_for_and_a_server_that_speaks_something_else_refuses() {
    let good = authority("good");
    let client = client(Some(&good), vec![server("a.example")]);
    let both: [&[u8]; 2] = [b"http/1.1", b"h2"];
    let speaks_both = good.server(vec![dns("a.example")], false, &both);
    let name = Some("a.example".to_owned());
    for (purpose, protocol) in [
        (Purpose::Http1, Some(b"http/1.1".to_vec())),
        (Purpose::Http2, Some(b"h2".to_vec())),
        (Purpose::Bytes, None),
    ] {
        assert_eq!(
            shake(&client, &speaks_both, purpose).await,
            Ok((name.clone(), protocol))
        );
    }
    let speaks_one = good.server(vec![dns("a.example")], false, &[b"http/1.1"]);
    assert_eq!(shake(&client, &speaks_one, Purpose::Http2).await, Err(Reason::Refused));
}

#[tokio::test]
async fn what_is_no_tls_and_what_ends_is_told_apart() {
    let good = authority("good");
    let client = client(Some(&good), Vec::new());
    let (ours, mut theirs) = duplex(1 << 16);
    theirs.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
    let failure = client.connect(ours, Purpose::Http1).await.unwrap_err();
    assert_eq!(failure.reason, Reason::Protocol, "{failure}");
    let (ours, theirs) = duplex(1 << 16);
    drop(theirs);
    let failure = client.connect(ours, Purpose::Http1).await.unwrap_err();
    assert_eq!(failure.reason, Reason::Ended, "{failure}");
    assert_eq!(Failure::of(&io::Error::other("x")).reason, Reason::Ended);
}

#[test]
fn a_text_without_certificates_is_no_list_of_roots() {
    assert!(roots("").is_err() && roots("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").is_err());
}
