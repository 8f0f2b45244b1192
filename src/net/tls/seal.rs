//! Records sealed where they are sent from.
//!
//! rustls has each record encrypted by a `MessageEncrypter`, which returns it in a vector of its own, and copies it from there
//! into the caller's buffer: two passes over memory beside the cipher's (perf/LOG.md). The one here seals application data
//! straight from the plaintext into a buffer of the core, and gives rustls an empty record in its place. Everything else
//! stays rustls' business: keys and their renewal, sequence numbers, alerts, limits. It is for the AES-GCM suites of TLS 1.3,
//! which is what clients with fast AES choose; all other suites take rustls' own way.

use std::cell::{Cell, RefCell};
use std::sync::LazyLock;

use ::aws_lc_rs::aead::{self, Aad, TlsProtocolId, TlsRecordSealingKey};
use rustls::crypto::cipher::{
    AeadKey, Iv, MessageDecrypter, MessageEncrypter, Nonce, OutboundChunks, OutboundOpaqueMessage, OutboundPlainMessage,
    PrefixedPayload, Tls13AeadAlgorithm, UnsupportedOperationError, make_tls13_aad,
};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::{
    CipherSuite, CipherSuiteCommon, ConnectionTrafficSecrets, ContentType, ProtocolVersion, SupportedCipherSuite,
    Tls13CipherSuite,
};

use crate::limits::TLS_OUTGOING_SIZE_MAX;

/// Bytes of a record's header (RFC 8446 section 5.1).
const HEADER_SIZE: usize = 5;
/// The inner content type and the tag, behind a record's ciphertext (RFC 8446 section 5.2).
const TRAILER_SIZE: usize = 1 + 16;

thread_local! {
    /// Where records are sealed: one for the core, used between two awaits only.
    static SEALED: RefCell<Sealed> = RefCell::new(Sealed { bytes: vec![0; TLS_OUTGOING_SIZE_MAX], size: 0, records: 0 });
    /// Whether application data goes to `SEALED`.
    static IS_WANTED: Cell<bool> = const { Cell::new(false) };
}

struct Sealed {
    bytes: Vec<u8>,
    size: usize,
    records: usize,
}

/// The cryptography of `aws_lc_rs`, with the suites that can seal in place. The first suite is the one with the cheapest cipher:
/// AES-128-GCM costs three quarters of AES-256-GCM, which OpenSSL and rustls ask for first, and which who needs it asks for alone.
pub fn provider() -> CryptoProvider {
    let mut provider = aws_lc_rs::default_provider();
    for suite in &mut provider.cipher_suites {
        if let Some((_, ours)) = OURS.iter().find(|(theirs, _)| theirs == suite) {
            *suite = *ours;
        }
    }
    provider.cipher_suites.sort_by_key(|offered| offered.suite() != CipherSuite::TLS13_AES_128_GCM_SHA256);
    provider
}

/// Runs `encrypt`, in which rustls encrypts application data. Returns how many bytes it put into its own buffer, of which the
/// empty records that stand for sealed ones are left out: what is sealed comes behind them, by `with_sealed`.
pub fn sealing<E>(encrypt: impl FnOnce() -> Result<usize, E>) -> Result<usize, E> {
    struct Wanted;
    impl Drop for Wanted {
        fn drop(&mut self) {
            IS_WANTED.set(false);
        }
    }
    SEALED.with_borrow_mut(|sealed| (sealed.size, sealed.records) = (0, 0));
    IS_WANTED.set(true);
    let wanted = Wanted;
    let written = encrypt()?;
    drop(wanted);
    Ok(written - SEALED.with_borrow(|sealed| sealed.records * HEADER_SIZE))
}

/// The records of the last `sealing`, none where the suite seals its own way.
pub fn with_sealed<T>(send: impl FnOnce(&[u8]) -> T) -> T {
    SEALED.with_borrow(|sealed| send(&sealed.bytes[..sealed.size]))
}

impl Sealed {
    /// Seals one record behind the others; false when there is no room for it.
    fn seal(&mut self, key: &mut TlsRecordSealingKey, nonce: Nonce, plaintext: &[u8]) -> Result<bool, rustls::Error> {
        let sealed_size = plaintext.len() + TRAILER_SIZE;
        let Some(record) = self.bytes[self.size..].get_mut(..HEADER_SIZE + sealed_size) else { return Ok(false) };
        let (header, ciphertext) = record.split_at_mut(HEADER_SIZE);
        let (ciphertext, trailer) = ciphertext.split_at_mut(plaintext.len());
        // The header is what is authenticated beside the content.
        header.copy_from_slice(&make_tls13_aad(sealed_size));
        let inner_type = ContentType::ApplicationData.to_array();
        let nonce = aead::Nonce::assume_unique_for_key(nonce.0);
        key.seal_out_of_place_scatter(nonce, Aad::from(&*header), plaintext, ciphertext, &inner_type, trailer)
            .map_err(|_| rustls::Error::EncryptError)?;
        self.size += HEADER_SIZE + sealed_size;
        self.records += 1;
        Ok(true)
    }
}

/// One direction's key of a connection.
struct Encrypter {
    key: TlsRecordSealingKey,
    iv: Iv,
}

impl MessageEncrypter for Encrypter {
    fn encrypt(&mut self, message: OutboundPlainMessage<'_>, sequence: u64) -> Result<OutboundOpaqueMessage, rustls::Error> {
        let nonce = || Nonce::new(&self.iv, sequence);
        if let (true, ContentType::ApplicationData, OutboundChunks::Single(plaintext)) =
            (IS_WANTED.get(), message.typ, &message.payload)
            && SEALED.with_borrow_mut(|sealed| sealed.seal(&mut self.key, nonce(), plaintext))?
        {
            return Ok(opaque(PrefixedPayload::with_capacity(0)));
        }
        let size = self.encrypted_payload_len(message.payload.len());
        let mut payload = PrefixedPayload::with_capacity(size);
        payload.extend_from_chunks(&message.payload);
        payload.extend_from_slice(&message.typ.to_array());
        let nonce = aead::Nonce::assume_unique_for_key(nonce().0);
        self.key
            .seal_in_place_append_tag(nonce, Aad::from(make_tls13_aad(size)), &mut payload)
            .map_err(|_| rustls::Error::EncryptError)?;
        Ok(opaque(payload))
    }

    fn encrypted_payload_len(&self, payload_size: usize) -> usize {
        payload_size + TRAILER_SIZE
    }
}

/// Protected records are all called application data of TLS 1.2 (RFC 8446 section 5.2).
fn opaque(payload: PrefixedPayload) -> OutboundOpaqueMessage {
    OutboundOpaqueMessage::new(ContentType::ApplicationData, ProtocolVersion::TLSv1_2, payload)
}

/// A suite's cipher: its own, but for what encrypts.
struct Cipher {
    inner: &'static dyn Tls13AeadAlgorithm,
    algorithm: &'static aead::Algorithm,
}

impl Tls13AeadAlgorithm for Cipher {
    fn encrypter(&self, key: AeadKey, iv: Iv) -> Box<dyn MessageEncrypter> {
        match TlsRecordSealingKey::new(self.algorithm, TlsProtocolId::TLS13, key.as_ref()) {
            Ok(key) => Box::new(Encrypter { key, iv }),
            // It fails only for keys of another length, and the suite cuts them.
            Err(_) => self.inner.encrypter(key, iv),
        }
    }

    fn decrypter(&self, key: AeadKey, iv: Iv) -> Box<dyn MessageDecrypter> {
        self.inner.decrypter(key, iv)
    }

    fn key_len(&self) -> usize {
        self.inner.key_len()
    }

    fn extract_keys(&self, key: AeadKey, iv: Iv) -> Result<ConnectionTrafficSecrets, UnsupportedOperationError> {
        self.inner.extract_keys(key, iv)
    }
}

/// Suites as `aws_lc_rs` has them, and as they are here. rustls wants them to live for ever.
static OURS: LazyLock<Vec<(SupportedCipherSuite, SupportedCipherSuite)>> = LazyLock::new(|| {
    let suites = [
        (aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256, &aead::AES_128_GCM),
        (aws_lc_rs::cipher_suite::TLS13_AES_256_GCM_SHA384, &aead::AES_256_GCM),
    ];
    suites.into_iter().map(|(theirs, algorithm)| (theirs, ours(theirs, algorithm))).collect()
});

fn ours(theirs: SupportedCipherSuite, algorithm: &'static aead::Algorithm) -> SupportedCipherSuite {
    let SupportedCipherSuite::Tls13(suite) = theirs else { return theirs };
    let common = CipherSuiteCommon {
        suite: suite.common.suite,
        hash_provider: suite.common.hash_provider,
        confidentiality_limit: suite.common.confidentiality_limit,
    };
    let aead_alg = Box::leak(Box::new(Cipher { inner: suite.aead_alg, algorithm }));
    let ours = Tls13CipherSuite { common, hkdf_provider: suite.hkdf_provider, aead_alg, quic: None };
    SupportedCipherSuite::Tls13(Box::leak(Box::new(ours)))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::sync::Arc;

    use rustls::{CipherSuite, ClientConfig, ClientConnection, RootCertStore, ServerConfig};
    use rustls_pki_types::pem::PemObject;
    use rustls_pki_types::{PrivateKeyDer, ServerName};

    use super::super::session::Session;
    use super::*;
    use crate::limits::TLS_BATCH_SIZE;
    use crate::net::certificates::testing::Pair;

    /// A session of the server behind its handshake with rustls' own client.
    struct Conversation {
        client: ClientConnection,
        received: Vec<u8>,
        server: Session,
        /// Records that were sealed here, and bytes that rustls encrypted itself.
        sealed_count: usize,
        own_size: usize,
    }

    impl Conversation {
        fn new(server: CryptoProvider, suite: CipherSuite) -> Self {
            let pair = Pair::new(&["a.test"]);
            let key = PrivateKeyDer::from_pem_file(pair.files().key).unwrap();
            let config = ServerConfig::builder_with_provider(Arc::new(server)).with_safe_default_protocol_versions().unwrap();
            let config = config.with_no_client_auth().with_single_cert(vec![pair.der.clone()], key).unwrap();
            let mut provider = aws_lc_rs::default_provider();
            provider.cipher_suites.retain(|offered| offered.suite() == suite);
            let mut roots = RootCertStore::empty();
            roots.add(pair.der.clone()).unwrap();
            let client = ClientConfig::builder_with_provider(Arc::new(provider)).with_safe_default_protocol_versions().unwrap();
            let client = client.with_root_certificates(roots).with_no_client_auth();
            let client = ClientConnection::new(Arc::new(client), ServerName::try_from("a.test").unwrap()).unwrap();
            let server = Session::new(Arc::new(config)).unwrap();
            let mut conversation = Self { client, received: Vec::new(), server, sealed_count: 0, own_size: 0 };
            conversation.let_client_speak();
            assert_eq!(conversation.client.negotiated_cipher_suite().unwrap().suite(), suite);
            conversation
        }

        fn let_client_speak(&mut self) {
            while self.client.wants_write() {
                let (mut records, mut answer) = (Vec::new(), Vec::new());
                self.client.write_tls(&mut records).unwrap();
                let processed = self.server.process(&mut records, &mut [0; 1], &mut Vec::new(), &mut answer).unwrap();
                assert_eq!(processed.consumed, records.len());
                self.arrive(&answer);
            }
        }

        fn arrive(&mut self, mut records: &[u8]) {
            while !records.is_empty() {
                self.client.read_tls(&mut records).unwrap();
                let arrived = self.client.process_new_packets().unwrap().plaintext_bytes_to_read();
                let from = self.received.len();
                self.received.resize(from + arrived, 0);
                self.client.reader().read_exact(&mut self.received[from..]).unwrap();
            }
        }

        /// Sends `plaintext`, and asserts that it is what the client has then received.
        fn assert_arrives(&mut self, plaintext: &[u8]) {
            let mut buffer = vec![0; TLS_OUTGOING_SIZE_MAX];
            let size = self.server.encrypt(&mut Vec::new(), plaintext, &mut buffer).unwrap();
            self.own_size += size;
            self.sealed_count += SEALED.with_borrow(|sealed| sealed.records);
            self.arrive(&buffer[..size]);
            let sealed = with_sealed(<[u8]>::to_vec);
            self.arrive(&sealed);
            assert!(self.received == plaintext, "{} bytes arrive differently", plaintext.len());
            self.received.clear();
        }
    }

    const SIZES: [usize; 6] = [1, 15, 16, 16 * 1024, 16 * 1024 + 1, TLS_BATCH_SIZE];

    fn bytes(size: usize) -> Vec<u8> {
        (0..size).map(|index| (index * 7 + index / 251) as u8).collect()
    }

    #[test]
    fn a_client_of_rustls_reads_what_is_sealed_here() {
        for suite in [CipherSuite::TLS13_AES_128_GCM_SHA256, CipherSuite::TLS13_AES_256_GCM_SHA384] {
            let mut conversation = Conversation::new(provider(), suite);
            for size in SIZES {
                conversation.assert_arrives(&bytes(size));
            }
            assert_eq!((conversation.sealed_count, conversation.own_size), (4 + 2 + 3, 0), "{suite:?}");
        }
    }

    #[test]
    fn other_suites_go_their_own_way() {
        let suites = [
            CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
            CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
            CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
        ];
        for suite in suites {
            let mut conversation = Conversation::new(provider(), suite);
            for size in SIZES {
                conversation.assert_arrives(&bytes(size));
            }
            assert_eq!(conversation.sealed_count, 0, "{suite:?}");
            assert!(conversation.own_size > SIZES.iter().sum());
        }
    }

    /// RFC 8446 sections 5.5 and 4.6.3: a key is for so many records, then the next one is announced under it.
    #[test]
    fn keys_are_renewed_between_sealed_records() {
        let mut provider = provider();
        for suite in &mut provider.cipher_suites {
            if let SupportedCipherSuite::Tls13(of) = suite {
                let common = CipherSuiteCommon { confidentiality_limit: 8, ..CipherSuiteCommon { ..of.common } };
                *suite = SupportedCipherSuite::Tls13(Box::leak(Box::new(Tls13CipherSuite { common, ..**of })));
            }
        }
        let mut conversation = Conversation::new(provider, CipherSuite::TLS13_AES_128_GCM_SHA256);
        for index in 0..100 {
            conversation.assert_arrives(&bytes(20_000 + index));
            if index % 10 == 0 {
                // And because the client wants it, who renews his own.
                conversation.client.refresh_traffic_keys().unwrap();
                conversation.client.writer().write_all(b"").unwrap();
                conversation.let_client_speak();
            }
        }
        assert_eq!(conversation.sealed_count, 200);
        assert!(conversation.own_size >= 20 * 22, "{} bytes of renewals", conversation.own_size);
    }

    #[test]
    fn what_is_not_wanted_sealed_here_is_not() {
        let mut conversation = Conversation::new(provider(), CipherSuite::TLS13_AES_128_GCM_SHA256);
        assert_eq!(sealing(|| Err::<usize, _>("a failure")), Err("a failure"));
        let mut alert = [0; 512];
        let size = conversation.server.encrypt_close_notify(&mut Vec::new(), &mut alert).unwrap();
        assert!(with_sealed(<[u8]>::is_empty));
        conversation.arrive(&alert[..size]);
        assert_eq!(conversation.client.reader().read(&mut [0]).unwrap(), 0);
    }
}
