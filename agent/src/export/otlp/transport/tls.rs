//! TLS to a backend: whom to trust, and what to show of oneself.

use std::path::Path;
use std::sync::Arc;

use hyper_rustls::ConfigBuilderExt;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use rustls::{ClientConfig, RootCertStore};

use crate::config::Otlp;
use crate::export::OutputError;

/// The client's side of TLS, as configured.
///
/// # Errors
/// When a certificate or key cannot be used.
pub(in crate::export) fn client(otlp: &Otlp) -> Result<ClientConfig, OutputError> {
    let failed = |error: &dyn std::fmt::Display| OutputError::Otlp(error.to_string());
    let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| failed(&error))?;
    let builder = match &otlp.certificate {
        None => builder.with_native_roots().map_err(|error| failed(&error))?,
        Some(path) => builder.with_root_certificates(authorities(path)?),
    };
    let Some(own) = &otlp.client else {
        return Ok(builder.with_no_client_auth());
    };
    let chain = certificates(&own.certificate)?;
    let key = PrivateKeyDer::from_pem_file(&own.key).map_err(|error| unusable(&own.key, &error))?;
    builder.with_client_auth_cert(chain, key).map_err(|error| unusable(&own.certificate, &error))
}

fn authorities(path: &Path) -> Result<RootCertStore, OutputError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|error| unusable(path, &error))?;
    }
    Ok(roots)
}

/// All certificates of a PEM file, of which there must be one.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, OutputError> {
    let unusable = |error: rustls::pki_types::pem::Error| unusable(path, &error);
    let certificates = CertificateDer::pem_file_iter(path).map_err(unusable)?;
    let certificates = certificates.collect::<Result<Vec<_>, _>>().map_err(unusable)?;
    if certificates.is_empty() {
        return Err(self::unusable(path, "it holds no certificate in PEM format"));
    }
    Ok(certificates)
}

fn unusable(path: &Path, problem: &(impl ToString + ?Sized)) -> OutputError {
    OutputError::Certificate { path: path.to_owned(), problem: problem.to_string() }
}
