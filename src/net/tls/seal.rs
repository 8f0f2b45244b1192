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
use rustls::{CipherSuiteCommon, ConnectionTrafficSecrets, ContentType, ProtocolVersion, SupportedCipherSuite, Tls13CipherSuite};

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

/// The cryptography of `aws_lc_rs`, with the suites that can seal in place.
pub fn provider() -> CryptoProvider {
    let mut provider = aws_lc_rs::default_provider();
    for suite in &mut provider.cipher_suites {
        if let Some((_, ours)) = OURS.iter().find(|(theirs, _)| theirs == suite) {
            *suite = *ours;
        }
    }
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
    let with_ours = |(theirs, algorithm): (SupportedCipherSuite, _)| {
        let SupportedCipherSuite::Tls13(suite) = theirs else { return (theirs, theirs) };
        let common = CipherSuiteCommon {
            suite: suite.common.suite,
            hash_provider: suite.common.hash_provider,
            confidentiality_limit: suite.common.confidentiality_limit,
        };
        let aead_alg = Box::leak(Box::new(Cipher { inner: suite.aead_alg, algorithm }));
        let ours = Tls13CipherSuite { common, hkdf_provider: suite.hkdf_provider, aead_alg, quic: None };
        (theirs, SupportedCipherSuite::Tls13(Box::leak(Box::new(ours))))
    };
    suites.into_iter().map(with_ours).collect()
});
