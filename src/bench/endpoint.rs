//! Where is the server? The URL, taken apart and looked up, and what is believed of its certificate.

use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::BenchError;
use super::settings::Trust;

/// A server that can be connected to.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// As it was given.
    pub url: String,
    pub address: SocketAddr,
    /// The `Host` header.
    pub host: String,
    pub tls: Option<Tls>,
}

/// What a TLS session begins with.
#[derive(Clone, Debug)]
pub struct Tls {
    pub config: Arc<ClientConfig>,
    pub name: ServerName<'static>,
}

/// A URL in its parts.
#[derive(Debug, PartialEq, Eq)]
struct Parts<'a> {
    is_https: bool,
    /// Name or address, without brackets.
    name: &'a str,
    port: u16,
    /// The `Host` header.
    host: &'a str,
}

impl Endpoint {
    /// Takes `url` apart, looks its name up, and takes the first of its addresses at which `accepts` finds a server.
    pub fn find(url: &str, trust: &Trust, accepts: impl Fn(&SocketAddr) -> std::io::Result<()>) -> Result<Self, BenchError> {
        let parts = parts(url)?;
        let unreachable = |error: std::io::Error| BenchError::Unreachable(format!("no server at {url}: {error}"));
        let mut addresses = (parts.name, parts.port).to_socket_addrs().map_err(unreachable)?;
        let mut last = std::io::Error::other("the name has no address");
        let address = addresses.find(|address| accepts(address).map_err(|error| last = error).is_ok());
        let address = address.ok_or_else(|| unreachable(last))?;
        let tls = if parts.is_https { Some(Tls::new(parts.name, trust)?) } else { None };
        Ok(Self { url: url.to_owned(), address, host: parts.host.to_owned(), tls })
    }
}

/// `http://host:port`, with the port of the scheme where none is given, and no path.
fn parts(url: &str) -> Result<Parts<'_>, BenchError> {
    let usage = || BenchError::Usage(format!("--endpoint {url}: write http://HOST:PORT or https://HOST:PORT, without a path"));
    let (scheme, rest) = url.split_once("://").ok_or_else(usage)?;
    let is_https = match scheme {
        "http" => false,
        "https" => true,
        _ => return Err(usage()),
    };
    let host = rest.strip_suffix('/').unwrap_or(rest);
    let (name, port) = match host.rsplit_once(':') {
        // The last colon of an IPv6 address without a port is inside its brackets.
        Some((name, port)) if !port.ends_with(']') => (name, port.parse().map_err(|_| usage())?),
        _ => (host, if is_https { 443 } else { 80 }),
    };
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    let is_legal =
        bare.map_or_else(|| !name.is_empty() && name.bytes().all(legal), |name| name.parse::<std::net::Ipv6Addr>().is_ok());
    if !is_legal {
        return Err(usage());
    }
    Ok(Parts { is_https, name: bare.unwrap_or(name), port, host })
}

impl Tls {
    fn new(name: &str, trust: &Trust) -> Result<Self, BenchError> {
        let name = ServerName::try_from(name.to_owned());
        let name = name.map_err(|_| BenchError::Usage("the endpoint's name can be in no certificate".to_owned()))?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions();
        let builder = builder.map_err(|error| BenchError::system("setting up TLS", error))?;
        let config = match trust {
            Trust::Nobody => {
                let verifier = Arc::new(NoVerifier(provider));
                builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth()
            }
            Trust::File(path) => {
                let unusable = |problem: String| BenchError::Usage(format!("--ca-file {}: {problem}", path.display()));
                let certificates = CertificateDer::pem_file_iter(path).map_err(|error| unusable(error.to_string()))?;
                let mut roots = RootCertStore::empty();
                for certificate in certificates {
                    let certificate = certificate.map_err(|error| unusable(error.to_string()))?;
                    roots.add(certificate).map_err(|error| unusable(error.to_string()))?;
                }
                if roots.is_empty() {
                    return Err(unusable("it holds no certificate in PEM".to_owned()));
                }
                builder.with_root_certificates(roots).with_no_client_auth()
            }
            Trust::System => {
                let mut roots = RootCertStore::empty();
                let (added, _) = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
                if added == 0 {
                    let problem =
                        "this system has no certificate authorities: name one with --ca-file, or take any with --insecure";
                    return Err(BenchError::Usage(problem.to_owned()));
                }
                builder.with_root_certificates(roots).with_no_client_auth()
            }
        };
        Ok(Self { config: Arc::new(config), name })
    }
}

/// Believes any certificate, as `--insecure` asks for; signatures are still checked, they cost what they cost.
#[derive(Debug)]
struct NoVerifier(Arc<CryptoProvider>);

impl ServerCertVerifier for NoVerifier {
    fn verify_server_cert(
        &self,
        _: &CertificateDer,
        _: &[CertificateDer],
        _: &ServerName,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_in_their_parts() {
        for (url, is_https, name, port, host) in [
            ("http://127.0.0.1:9000", false, "127.0.0.1", 9000, "127.0.0.1:9000"),
            ("http://localhost", false, "localhost", 80, "localhost"),
            ("https://s3.eu-west-1.amazonaws.com/", true, "s3.eu-west-1.amazonaws.com", 443, "s3.eu-west-1.amazonaws.com"),
            ("https://[::1]:9443", true, "::1", 9443, "[::1]:9443"),
            ("http://[fe80::1]", false, "fe80::1", 80, "[fe80::1]"),
        ] {
            assert_eq!(parts(url).unwrap(), Parts { is_https, name, port, host });
        }
        for url in [
            "",
            "localhost:9000",
            "ftp://a",
            "http://",
            "http://a/b",
            "http://a:b",
            "http://a:70000",
            "http://[::1",
            "http://::1",
            "http://a b",
            "http://a\r\nx",
        ] {
            assert!(parts(url).is_err(), "{url}");
        }
    }

    #[test]
    fn addresses_are_tried_until_one_answers() {
        let refuse = |_: &SocketAddr| Err(std::io::Error::other("refused"));
        let error = Endpoint::find("http://127.0.0.1:1", &Trust::System, refuse).unwrap_err();
        assert!(error.to_string().contains("http://127.0.0.1:1: refused"), "{error}");
        let found = Endpoint::find("http://127.0.0.1:1", &Trust::System, |_| Ok(())).unwrap();
        assert_eq!(found.address, "127.0.0.1:1".parse().unwrap());
    }
}
