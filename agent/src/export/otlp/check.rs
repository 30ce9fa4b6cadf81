//! A look at an endpoint, for `sonde doctor`: an export of nothing, step by step, so that what stands in the way can be named.

use std::io;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use rustls::pki_types::ServerName;
use rustls::{AlertDescription, CertificateError, ClientConnection, Error as TlsError};
use tokio::time::timeout;

use super::outcome::Outcome;
use super::payload::Encoding;
use super::transport::{Transport, tls};
use crate::config::{Otlp, Protocol};
use crate::export::OutputError;
use crate::telemetry::Signal;

/// Longest time that one step may take; the configured timeout where that is shorter.
const STEP: Duration = Duration::from_secs(5);

/// How far the look came. Each step is reached only after those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reached {
    /// Nowhere: the certificates that are configured cannot be used, or the name has no address.
    Nothing,
    /// It has an address.
    Resolved,
    /// Somebody listens there.
    Connected,
    /// TLS holds, or is not wanted.
    Secured,
    /// An empty export was taken.
    Accepted,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// How far it came.
    pub reached: Reached,
    /// The address that answered, or the first that was tried.
    pub address: Option<SocketAddr>,
    /// What stands in the way, in words.
    pub problem: Option<String>,
}

/// Looks at an endpoint: name, connection, TLS, and an export of nothing. Bounded by a few times five seconds, and by what
/// the resolver takes.
#[must_use]
pub fn check(otlp: &Otlp, signal: Signal) -> Checked {
    let mut checked = Checked { reached: Reached::Nothing, address: None, problem: None };
    checked.problem = look(otlp, signal, &mut checked).err();
    checked
}

fn look(otlp: &Otlp, signal: Signal, checked: &mut Checked) -> Result<(), String> {
    let text = |error: OutputError| error.to_string();
    let uri = otlp.endpoint.uri();
    let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']').to_owned();
    let is_secure = otlp.endpoint.is_secure();
    let config = if is_secure { Some(tls::client(otlp).map_err(text)?) } else { None };
    let patience = otlp.timeout.min(STEP);

    let addresses: Vec<SocketAddr> = (host.as_str(), otlp.endpoint.port())
        .to_socket_addrs()
        .map_err(|error| format!("{host} has no address: {error}"))?
        .collect();
    checked.address = addresses.first().copied();
    checked.reached = Reached::Resolved;

    let mut stream = Err(io::Error::other("the name has no address"));
    for address in &addresses {
        stream = TcpStream::connect_timeout(address, patience);
        if stream.is_ok() {
            checked.address = Some(*address);
            break;
        }
    }
    let mut stream = stream.map_err(|error| match error.kind() {
        io::ErrorKind::ConnectionRefused => "nobody listens there (connection refused)".to_owned(),
        io::ErrorKind::TimedOut => "no answer: the host is down, or a firewall drops what comes".to_owned(),
        _ => format!("no connection: {error}"),
    })?;
    checked.reached = Reached::Connected;

    if let Some(mut config) = config {
        config.alpn_protocols =
            vec![if otlp.protocol == Protocol::Grpc { b"h2".to_vec() } else { b"http/1.1".to_vec() }];
        let name = ServerName::try_from(host.clone()).map_err(|_| format!("{host} is no name for TLS"))?;
        let mut connection =
            ClientConnection::new(Arc::new(config), name).map_err(|error| format!("TLS: {error}"))?;
        let bounded = stream.set_read_timeout(Some(patience)).and(stream.set_write_timeout(Some(patience)));
        bounded.map_err(|error| error.to_string())?;
        while connection.is_handshaking() {
            connection.complete_io(&mut stream).map_err(|error| in_words(&error, &host))?;
        }
    }
    drop(stream);
    checked.reached = Reached::Secured;

    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(1)
        .build()
        .map_err(|error| error.to_string())?;
    let outcome = runtime.block_on(async {
        let transport = Transport::new(otlp, signal).map_err(text)?;
        let nothing = match transport.encoding() {
            Encoding::Protobuf => Vec::new(),
            Encoding::Json => b"{}".to_vec(),
        };
        let request = transport.request(nothing).map_err(|error| error.to_string())?;
        timeout(patience, transport.send(&request))
            .await
            .map_err(|_| format!("no answer to an empty export within {} s", patience.as_secs()))
    })?;
    match outcome {
        Outcome::Accepted(_) => {
            checked.reached = Reached::Accepted;
            Ok(())
        }
        Outcome::Refused(why) | Outcome::TooLarge(why) => Err(format!("it refuses an empty export: {why}")),
        Outcome::Retry { why, .. } => Err(format!("an empty export fails: {why}{}", hint(otlp, &why))),
    }
}

/// What is usual behind a failure that says little.
fn hint(otlp: &Otlp, why: &str) -> &'static str {
    if why.contains("CertificateRequired") || why.contains("CertificateUnknown") {
        " (it wants a certificate of its client: OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE and ..._CLIENT_KEY)"
    } else if otlp.protocol == Protocol::Grpc && why.contains("frame") {
        " (it may not speak gRPC: OTEL_EXPORTER_OTLP_PROTOCOL)"
    } else if otlp.protocol != Protocol::Grpc && why.contains("HTTP version") {
        " (it may speak gRPC: OTEL_EXPORTER_OTLP_PROTOCOL=grpc)"
    } else {
        ""
    }
}

/// Why TLS failed, for people who have to mend it.
fn in_words(error: &io::Error, host: &str) -> String {
    let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<TlsError>()) else {
        return match error.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => {
                "it closes the connection within the TLS handshake: it may not speak TLS (http:// instead?)"
                    .to_owned()
            }
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                "no answer to the TLS handshake: it may not speak TLS (http:// instead?)".to_owned()
            }
            _ => format!("TLS: {error}"),
        };
    };
    match tls {
        TlsError::InvalidCertificate(problem) => match problem {
            CertificateError::Expired => "its certificate has expired".to_owned(),
            CertificateError::ExpiredContext { not_after, .. } => {
                format!("its certificate has expired, on {}", date(not_after.as_secs()))
            }
            CertificateError::NotValidYet => {
                "its certificate is not valid yet, or this node's clock is behind".to_owned()
            }
            CertificateError::NotValidYetContext { not_before, .. } => {
                format!(
                    "its certificate is not valid before {}, or this node's clock is behind",
                    date(not_before.as_secs())
                )
            }
            CertificateError::NotValidForName => format!("its certificate has another name than {host}"),
            CertificateError::NotValidForNameContext { presented, .. } => {
                format!("its certificate is for {}, not for {host}", presented.join(", "))
            }
            CertificateError::UnknownIssuer => "its certificate is signed by an authority that is not trusted \
                                                here: OTEL_EXPORTER_OTLP_CERTIFICATE names the file of one that is"
                .to_owned(),
            CertificateError::BadSignature => "its certificate is signed by another authority of the same name as \
                                               one that is trusted here: OTEL_EXPORTER_OTLP_CERTIFICATE may name an old one"
                .to_owned(),
            CertificateError::Revoked => "its certificate has been revoked".to_owned(),
            other => format!("its certificate cannot be used: {other}"),
        },
        TlsError::InvalidMessage(_) => {
            "it does not speak TLS: http:// instead, if that is meant".to_owned()
        }
        TlsError::AlertReceived(
            AlertDescription::CertificateRequired | AlertDescription::BadCertificate | AlertDescription::UnknownCA,
        ) => "it wants a certificate of its client that it knows: OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE and \
              ..._CLIENT_KEY"
            .to_owned(),
        TlsError::AlertReceived(alert) => format!("it refuses the TLS handshake: {alert:?}"),
        other => format!("TLS: {other}"),
    }
}

fn date(seconds: u64) -> String {
    httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(seconds))
}
