//! What TLS is spoken with: the operator's certificates and keys, chosen by server name, replaced while the server runs.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::{ClientHello, NoServerSessionStorage, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{InconsistentKeys, ServerConfig, version};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, DnsName, PrivateKeyDer, ServerName};
use zeroize::Zeroizing;

use super::tls;
use crate::config::CertificateFiles;
use crate::limits::CERTIFICATE_FILE_SIZE_MAX;

/// What all TLS listeners of all cores share: protocol settings, ticket keys, certificates.
pub struct TlsSettings {
    server: Arc<ServerConfig>,
    certificates: Arc<Certificates>,
}

/// Why there is no TLS with these files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CertificateError {
    /// No certificate was named.
    None,
    /// A file cannot be used.
    File { path: PathBuf, problem: FileProblem },
    /// A certificate and a key do not go together.
    Pair { cert: PathBuf, key: PathBuf },
    /// The cryptographic library could not be set up.
    Library,
}

/// What is wrong with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileProblem {
    /// It does not exist.
    Missing,
    /// This user may not read it.
    NotPermitted,
    /// Reading it failed otherwise.
    Unreadable(io::ErrorKind),
    /// It is longer than any certificate chain.
    TooLarge,
    /// It has a damaged PEM section.
    Damaged,
    /// It has no certificate.
    NoCertificate,
    /// Its first certificate is none that TLS can use.
    NotUsable,
    /// It has no private key.
    NoKey,
    /// Its private key is encrypted.
    KeyEncrypted,
    /// Its private key is of a kind that is not supported.
    KeyNotSupported,
}

impl TlsSettings {
    /// Reads certificates and keys. The first serves clients that name no server, or one that no certificate is for.
    pub fn load(files: &[CertificateFiles]) -> Result<Self, CertificateError> {
        let provider = Arc::new(tls::provider());
        let loaded = load_all(files, &provider)?;
        let certificates = Arc::new(Certificates { current: ArcSwap::from_pointee(loaded), provider: provider.clone() });
        let mut server = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&version::TLS13, &version::TLS12])
            .map_err(|_| CertificateError::Library)?
            .with_no_client_auth()
            .with_cert_resolver(certificates.clone());
        server.ignore_client_order = true; // the order is that of `tls::provider`
        // S3 is HTTP/1.1; a client that insists on anything else is told so (no_application_protocol, RFC 7301).
        server.alpn_protocols = vec![b"http/1.1".to_vec()];
        // Early data can be replayed, and a replayed PUT or DELETE does harm (RFC 8446 section 8).
        server.max_early_data_size = 0;
        // Sessions are resumed from tickets, which any core can read: nothing about a session is kept here.
        server.ticketer = aws_lc_rs::Ticketer::new().map_err(|_| CertificateError::Library)?;
        server.session_storage = Arc::new(NoServerSessionStorage {});
        Ok(Self { server: Arc::new(server), certificates })
    }

    /// Reads certificates and keys again, for new connections. When anything is wrong with them, all stay as they were.
    pub fn reload(&self, files: &[CertificateFiles]) -> Result<(), CertificateError> {
        let loaded = load_all(files, &self.certificates.provider)?;
        self.certificates.current.store(Arc::new(loaded));
        Ok(())
    }

    pub(super) fn server(&self) -> Arc<ServerConfig> {
        self.server.clone()
    }
}

/// The certificates in force.
struct Certificates {
    current: ArcSwap<Vec<Arc<CertifiedKey>>>,
    provider: Arc<CryptoProvider>,
}

impl ResolvesServerCert for Certificates {
    /// The first certificate for the name that the client can verify; else the first that it can verify.
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let current = self.current.load();
        let suits = |pair: &&Arc<CertifiedKey>| pair.key.choose_scheme(hello.signature_schemes()).is_some();
        let name = hello.server_name().and_then(|name| DnsName::try_from(name).ok()).map(ServerName::DnsName);
        let named = name.and_then(|name| current.iter().filter(suits).find(|pair| is_for(pair, &name)));
        named.or_else(|| current.iter().find(suits)).or(current.first()).cloned()
    }
}

impl std::fmt::Debug for Certificates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Certificates").field("count", &self.current.load().len()).finish()
    }
}

/// Whether a client that verifies `name` accepts this certificate for it: the same rules (wildcards too) as its own check.
fn is_for(pair: &CertifiedKey, name: &ServerName<'_>) -> bool {
    let Some(Ok(parsed)) = pair.cert.first().map(ParsedCertificate::try_from) else { return false };
    rustls::client::verify_server_name(&parsed, name).is_ok()
}

fn load_all(files: &[CertificateFiles], provider: &CryptoProvider) -> Result<Vec<Arc<CertifiedKey>>, CertificateError> {
    if files.is_empty() {
        return Err(CertificateError::None);
    }
    files.iter().map(|pair| load_pair(pair, provider).map(Arc::new)).collect()
}

fn load_pair(files: &CertificateFiles, provider: &CryptoProvider) -> Result<CertifiedKey, CertificateError> {
    let in_cert = |problem| CertificateError::File { path: files.cert.clone(), problem };
    let in_key = |problem| CertificateError::File { path: files.key.clone(), problem };
    let text = read(&files.cert).map_err(in_cert)?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let chain = chain.map_err(|_| in_cert(FileProblem::Damaged))?;
    let first = chain.first().ok_or_else(|| in_cert(FileProblem::NoCertificate))?;
    ParsedCertificate::try_from(first).map_err(|_| in_cert(FileProblem::NotUsable))?;
    let text = read(&files.key).map_err(in_key)?;
    let key = parse_key(&text).map_err(in_key)?;
    let key = provider.key_provider.load_private_key(key).map_err(|_| in_key(FileProblem::KeyNotSupported))?;
    let pair = CertifiedKey::new(chain, key);
    match pair.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(pair),
        Err(_) => Err(CertificateError::Pair { cert: files.cert.clone(), key: files.key.clone() }),
    }
}

fn parse_key(text: &[u8]) -> Result<PrivateKeyDer<'static>, FileProblem> {
    // PKCS #8 says it in the section's name, the older form in a header inside (RFC 1421 section 4.6.1.1).
    let has = |mark: &[u8]| text.windows(mark.len()).any(|window| window == mark);
    if has(b"BEGIN ENCRYPTED PRIVATE KEY") || has(b"Proc-Type: 4,ENCRYPTED") {
        return Err(FileProblem::KeyEncrypted);
    }
    PrivateKeyDer::from_pem_slice(text).map_err(|error| match error {
        rustls_pki_types::pem::Error::NoItemsFound => FileProblem::NoKey,
        _ => FileProblem::Damaged,
    })
}

/// The whole file. It may be a key: the copy is wiped when it is dropped.
fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, FileProblem> {
    let problem = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => FileProblem::Missing,
        io::ErrorKind::PermissionDenied => FileProblem::NotPermitted,
        kind => FileProblem::Unreadable(kind),
    };
    let file = File::open(path).map_err(problem)?;
    let size = file.metadata().map_err(problem)?.len().min(CERTIFICATE_FILE_SIZE_MAX);
    // Room for all of it from the start: a buffer that grows leaves copies behind.
    let mut text = Zeroizing::new(Vec::with_capacity(size as usize + 1));
    let count = file.take(CERTIFICATE_FILE_SIZE_MAX + 1).read_to_end(&mut text).map_err(problem)?;
    if count as u64 > CERTIFICATE_FILE_SIZE_MAX { Err(FileProblem::TooLarge) } else { Ok(text) }
}

impl CertificateError {
    /// Cause and remedy, for the operator.
    pub fn advice(&self) -> String {
        match self {
            Self::None => "an https address is to be served without a certificate: name one with --tls-cert and --tls-key".into(),
            Self::File { path, problem } => format!("{}: {}", path.display(), problem.advice()),
            Self::Pair { cert, key } => format!(
                "the key in {} does not belong to the first certificate in {}: name the key that the certificate was \
                 requested with, and put the server's own certificate before its issuers'",
                key.display(),
                cert.display()
            ),
            Self::Library => "the cryptographic library could not be set up: the system gives no random numbers".into(),
        }
    }
}

impl FileProblem {
    fn advice(self) -> String {
        match self {
            Self::Missing => "no such file: name the PEM file with its full path".into(),
            Self::NotPermitted => "may not be read: give the server's user read permission on it and on the directories above".into(),
            Self::Unreadable(kind) => format!("cannot be read ({kind})"),
            Self::TooLarge => format!("is larger than {CERTIFICATE_FILE_SIZE_MAX} bytes: name a PEM file of one certificate chain or key"),
            Self::Damaged => "has a damaged PEM section: copy the file again, from BEGIN line to END line".into(),
            Self::NoCertificate => {
                "has no certificate in PEM form (BEGIN CERTIFICATE): convert a binary one by openssl x509 -inform der".into()
            }
            Self::NotUsable => "its first certificate cannot be used for TLS: it must be X.509 version 3, with subject names".into(),
            Self::NoKey => "has no private key in PEM form (BEGIN PRIVATE KEY): convert a binary one by openssl pkey -inform der".into(),
            Self::KeyEncrypted => {
                "its private key is encrypted, and nobody is there to type the passphrase: decrypt it by openssl pkey".into()
            }
            Self::KeyNotSupported => {
                "its private key is of a kind that is not supported: use RSA of 2,048 to 8,192 bits, ECDSA P-256, P-384, P-521 or Ed25519".into()
            }
        }
    }
}

#[cfg(test)]
pub(super) mod testing {
    use super::*;

    /// A certificate of its own authority with its key, in files.
    pub struct Pair {
        pub der: CertificateDer<'static>,
        directory: tempfile::TempDir,
    }

    impl Pair {
        pub fn new(names: &[&str]) -> Self {
            Self::of(names, &rcgen::KeyPair::generate().unwrap())
        }

        pub fn ed25519(names: &[&str]) -> Self {
            Self::of(names, &rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap())
        }

        fn of(names: &[&str], key: &rcgen::KeyPair) -> Self {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            let certificate = rcgen::CertificateParams::new(names).unwrap().self_signed(key).unwrap();
            let pair = Self { der: certificate.der().clone(), directory: tempfile::tempdir().unwrap() };
            std::fs::write(pair.files().cert, certificate.pem()).unwrap();
            std::fs::write(pair.files().key, key.serialize_pem()).unwrap();
            pair
        }

        pub fn files(&self) -> CertificateFiles {
            CertificateFiles { cert: self.directory.path().join("cert.pem"), key: self.directory.path().join("key.pem") }
        }
    }

    pub fn settings(pairs: &[&Pair]) -> Arc<TlsSettings> {
        let files: Vec<CertificateFiles> = pairs.iter().map(|pair| pair.files()).collect();
        Arc::new(TlsSettings::load(&files).unwrap())
    }
}

#[cfg(test)]
mod tests {
    use super::testing::Pair;
    use super::*;

    fn error(files: CertificateFiles) -> CertificateError {
        let error = TlsSettings::load(&[files]).err().expect("refused");
        assert!(error.advice().contains("pem"), "{}", error.advice());
        error
    }

    #[test]
    fn a_chain_is_loaded_whole_and_other_sections_are_passed_over() {
        let (leaf, issuer) = (Pair::new(&["a.test"]), Pair::new(&["b.test"]));
        let files = leaf.files();
        let texts = [&files.cert, &files.key, &issuer.files().cert].map(|path| std::fs::read_to_string(path).unwrap());
        // One file for all, with the text that openssl puts around.
        std::fs::write(&files.cert, format!("subject=CN = a.test\n{}", texts.join("\n"))).unwrap();
        let provider = aws_lc_rs::default_provider();
        let both = CertificateFiles { cert: files.cert.clone(), key: files.cert };
        assert_eq!(load_pair(&both, &provider).unwrap().cert, [leaf.der, issuer.der]);
    }

    #[test]
    fn a_key_of_another_certificate_is_refused() {
        let (one, other) = (Pair::new(&["a.test"]), Pair::new(&["a.test"]));
        let mixed = CertificateFiles { cert: one.files().cert, key: other.files().key };
        assert_eq!(error(mixed.clone()), CertificateError::Pair { cert: mixed.cert, key: mixed.key });
        assert_eq!(TlsSettings::load(&[]).err(), Some(CertificateError::None));
    }

    #[test]
    fn what_is_wrong_with_a_file_is_said_of_that_file() {
        let long = "#\n".repeat(CERTIFICATE_FILE_SIZE_MAX as usize);
        let cases = [
            ("", FileProblem::NoCertificate, FileProblem::NoKey),
            ("-----BEGIN CERTIFICATE-----\nAA", FileProblem::Damaged, FileProblem::Damaged),
            ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", FileProblem::NotUsable, FileProblem::NoKey),
            (
                "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
                FileProblem::NoCertificate,
                FileProblem::KeyNotSupported,
            ),
            ("-----BEGIN ENCRYPTED PRIVATE KEY-----\n", FileProblem::Damaged, FileProblem::KeyEncrypted),
            ("-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n", FileProblem::Damaged, FileProblem::KeyEncrypted),
            (&long, FileProblem::TooLarge, FileProblem::TooLarge),
        ];
        for (text, in_cert, in_key) in cases {
            let pair = Pair::new(&["a.test"]);
            let CertificateFiles { cert, key } = pair.files();
            std::fs::write(&key, text).unwrap();
            assert_eq!(error(pair.files()), CertificateError::File { path: key, problem: in_key });
            std::fs::write(&cert, text).unwrap();
            assert_eq!(error(pair.files()), CertificateError::File { path: cert, problem: in_cert });
        }
    }

    #[test]
    fn missing_files_and_directories_are_told_apart() {
        let pair = Pair::new(&["a.test"]);
        let CertificateFiles { cert, key } = pair.files();
        std::fs::remove_file(&key).unwrap();
        assert_eq!(error(pair.files()), CertificateError::File { path: key.clone(), problem: FileProblem::Missing });
        std::fs::create_dir(&key).unwrap();
        let problem = FileProblem::Unreadable(io::ErrorKind::IsADirectory);
        assert_eq!(error(pair.files()), CertificateError::File { path: key, problem });
        std::fs::remove_file(&cert).unwrap();
        assert_eq!(error(pair.files()), CertificateError::File { path: cert, problem: FileProblem::Missing });
    }
}
