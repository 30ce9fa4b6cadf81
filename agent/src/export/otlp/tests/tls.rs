//! Backends over TLS: trusted, not trusted, expired, misnamed, and such that want to know who calls. Every certificate is made
//! for the test.

use std::path::PathBuf;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};

use super::*;
use crate::config::OutputsConfig;
use crate::export::otlp::check::{Checked, Reached, check};

/// A directory of its own with an authority's certificate (`ca.pem`), those of two which have signed nothing
/// (`other-ca.pem`, and `namesake-ca.pem` of the same name), and a client's (`client.pem`, `client.key`); removed with the value.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: PathBuf,
}

/// What is odd about a server's certificate.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Odd {
    Nothing,
    Expired,
    NotYet,
    Name,
}

impl Authority {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("sonde-tls-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let issuer = |name: &str| {
            let mut params = CertificateParams::new(Vec::new()).unwrap();
            params.distinguished_name.push(DnType::CommonName, name);
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
        };
        let own = Self { issuer: issuer("ours"), folder };
        own.write("ca.pem", &own.issuer.pem());
        own.write("other-ca.pem", &issuer("another").pem());
        own.write("namesake-ca.pem", &issuer("ours").pem());
        let key = KeyPair::generate().unwrap();
        let client = CertificateParams::new(vec!["agent".to_owned()]).unwrap();
        own.write("client.pem", &client.signed_by(&key, &own.issuer).unwrap().pem());
        own.write("client.key", &key.serialize_pem());
        own.write("README", "no certificate");
        own
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.folder.join(name), text).unwrap();
    }

    fn path(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }

    /// A backend with a certificate of this authority.
    fn backend(&self, odd: Odd, asks_for_client: bool) -> Backend {
        let names = if odd == Odd::Name { ["other.example"] } else { ["127.0.0.1"] };
        let mut params = CertificateParams::new(names.map(str::to_owned)).unwrap();
        match odd {
            Odd::Expired => params.not_after = date_time_ymd(2001, 2, 3),
            Odd::NotYet => params.not_before = date_time_ymd(3001, 2, 3),
            Odd::Nothing | Odd::Name => {}
        }
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateDer::from(params.signed_by(&key, &self.issuer).unwrap());
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = if asks_for_client {
            let mut roots = RootCertStore::empty();
            roots.add(CertificateDer::from(self.issuer.as_ref().der().to_vec())).unwrap();
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
            builder.with_client_cert_verifier(verifier)
        } else {
            builder.with_no_client_auth()
        };
        let mut config = builder.with_single_cert(vec![certificate], key).unwrap();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        Backend::serve(listener, [], Some(TlsAcceptor::from(Arc::new(config))))
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// The variables that name this backend and these files.
fn with<T>(
    backend: &Backend,
    authority: &Authority,
    files: &[(&str, &str)],
    run: impl Fn(&[(&str, &str)]) -> T,
) -> T {
    let endpoint = format!("https://{}", backend.address);
    let paths: Vec<(String, String)> = files
        .iter()
        .map(|(name, file)| (format!("OTEL_EXPORTER_OTLP_{name}"), authority.path(file)))
        .collect();
    let mut more = vec![("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str())];
    more.extend(paths.iter().map(|(name, path)| (name.as_str(), path.as_str())));
    run(&more)
}

const TRUSTED: (&str, &str) = ("CERTIFICATE", "ca.pem");
const CLIENT: [(&str, &str); 2] = [("CLIENT_CERTIFICATE", "client.pem"), ("CLIENT_KEY", "client.key")];

#[test]
fn a_backend_is_trusted_by_the_certificate_that_is_configured() {
    let authority = Authority::new("trusted");
    for over in ALL {
        for asks in [false, true] {
            let backend = authority.backend(Odd::Nothing, asks);
            let files = [&[TRUSTED][..], if asks { &CLIENT[..] } else { &[] }].concat();
            with(&backend, &authority, &files, |more| {
                let rig = Rig::start(over, backend.address, more);
                rig.produce(25);
                assert_eq!(rig.finish(), (25, 0, 0), "{over:?}");
            });
            assert_eq!(sorted(&backend), (0..25).collect::<Vec<_>>());
        }
    }
}

/// Not for these spans alone: who mends the certificate finds them waiting.
#[test]
fn a_backend_that_is_not_trusted_gets_nothing_and_is_tried_again() {
    let authority = Authority::new("untrusted");
    let cases = [
        (Odd::Nothing, false, "other-ca.pem", "UnknownIssuer"),
        (Odd::Expired, false, "ca.pem", "expired"),
        (Odd::NotYet, false, "ca.pem", "not valid before"),
        (Odd::Name, false, "ca.pem", "not valid for name"),
        (Odd::Nothing, true, "ca.pem", "CertificateRequired"),
    ];
    for over in ALL {
        for (odd, asks, trusted, problem) in cases {
            let backend = authority.backend(odd, asks);
            with(&backend, &authority, &[("CERTIFICATE", trusted)], |more| {
                let rig = Rig::start(over, backend.address, more);
                rig.produce(25);
                until(|| rig.sender.lock().health == Health::Down);
                let log = rig.log.clone();
                assert_eq!(rig.finish(), (0, 25, 0), "{over:?}");
                let said = log.lines().join("\n");
                // A server that wants a certificate may break off before its alert is read.
                assert!(said.contains(problem) || asks, "{over:?} {problem}: {said}");
            });
            assert_eq!(backend.seen().requests, 0);
        }
    }
}

#[test]
fn what_is_wrong_with_tls_is_said_in_words() {
    let authority = Authority::new("words");
    let cases = [
        (Odd::Nothing, "ca.pem", None),
        (Odd::Nothing, "other-ca.pem", Some("signed by an authority that is not trusted here")),
        (Odd::Nothing, "namesake-ca.pem", Some("another authority of the same name")),
        (Odd::Expired, "ca.pem", Some("has expired, on Sat, 03 Feb 2001")),
        (Odd::NotYet, "ca.pem", Some("not valid before Tue, 03 Feb 3001")),
        (Odd::Name, "ca.pem", Some("not for 127.0.0.1")),
    ];
    for over in ALL {
        for (odd, trusted, words) in cases {
            let backend = authority.backend(odd, false);
            let checked = with(&backend, &authority, &[("CERTIFICATE", trusted)], |more| {
                let config = Rig::config(over, backend.address, more);
                check(config.otlp.as_ref().unwrap(), Signal::Traces)
            });
            let Checked { reached, address, problem } = checked;
            assert_eq!(address, Some(backend.address));
            match words {
                None => assert_eq!((reached, problem), (Reached::Accepted, None)),
                Some(words) => {
                    let problem = problem.unwrap();
                    assert!(problem.contains(words), "{over:?}: {problem}");
                    assert_eq!(reached, Reached::Connected);
                }
            }
        }
        let backend = authority.backend(Odd::Nothing, true);
        let checked = with(&backend, &authority, &[TRUSTED], |more| {
            check(Rig::config(over, backend.address, more).otlp.as_ref().unwrap(), Signal::Traces)
        });
        assert!(checked.reached < Reached::Accepted && checked.problem.is_some(), "{checked:?}");
    }
}

#[test]
fn a_certificate_that_cannot_be_used_is_an_error_at_the_start() {
    let authority = Authority::new("unusable");
    type Case = (&'static [(&'static str, &'static str)], &'static str, &'static str);
    let cases: [Case; 4] = [
        (&[("CERTIFICATE", "README")], "README", "no certificate"),
        (&[("CERTIFICATE", "missing.pem")], "missing.pem", "No such file"),
        (
            &[TRUSTED, ("CLIENT_CERTIFICATE", "client.pem"), ("CLIENT_KEY", "README")],
            "README",
            "no items found",
        ),
        (&[TRUSTED, ("CLIENT_CERTIFICATE", "ca.pem"), ("CLIENT_KEY", "client.key")], "ca.pem", ""),
    ];
    for over in ALL {
        let backend = authority.backend(Odd::Nothing, false);
        for (files, file, problem) in cases {
            let config: OutputsConfig =
                with(&backend, &authority, files, |more| Rig::config(over, backend.address, more));
            let otlp = config.otlp.as_ref().unwrap();
            let error = Exporter::new(otlp, Signal::Traces, Duration::ZERO).unwrap_err().to_string();
            assert!(error.contains(file) && error.contains(problem), "{over:?}: {error}");
        }
    }
}
