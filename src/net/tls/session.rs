//! rustls, reduced to the three things that a connection needs: process what came, encrypt what goes, say goodbye. The next
//! version of rustls changes this file and nothing else of the data path.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{ConnectionState, EncodeError, EncodeTlsData, EncryptError, InsufficientSizeError, UnbufferedStatus};

use super::seal;

/// The protocol's state for one connection. Holds no record: they stay in the caller's buffers.
pub struct Session {
    connection: UnbufferedServerConnection,
}

/// What became of received records.
pub struct Processed {
    /// Bytes of records that are done with, from the front.
    pub consumed: usize,
    /// Bytes of plaintext that were put into the reader's buffer.
    pub filled: usize,
    pub next: Next,
}

/// What processing goes on with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// All whole records were processed: more has to arrive.
    More,
    /// The reader's buffer is full, and there may be further records.
    Room,
    /// The client ended its side (close_notify).
    Ended,
}

/// Why a session is over.
#[derive(Debug)]
pub enum Broken {
    /// The client broke the protocol, or has no version, cipher or application protocol in common with us.
    Protocol(rustls::Error),
    /// The traffic keys are used up, which TLS 1.2 cannot renew.
    Exhausted,
    /// Something was asked of the session that its stage does not allow.
    OutOfTurn,
}

impl Session {
    pub fn new(config: Arc<ServerConfig>) -> Result<Self, Broken> {
        Ok(Self { connection: UnbufferedServerConnection::new(config).map_err(Broken::Protocol)? })
    }

    /// Whether the handshake is still going on.
    pub fn is_handshaking(&self) -> bool {
        self.connection.is_handshaking()
    }

    /// Processes records until `into` is full or none is whole. The rest of a record that does not fit into `into` is added to
    /// `spilled`, and what the protocol wants to answer to `outgoing`.
    pub fn process(
        &mut self,
        records: &mut [u8],
        into: &mut [u8],
        spilled: &mut Vec<u8>,
        outgoing: &mut Vec<u8>,
    ) -> Result<Processed, Broken> {
        let (mut consumed, mut filled, mut ended) = (0, 0, false);
        loop {
            let UnbufferedStatus { mut discard, state, .. } = self.connection.process_tls_records(&mut records[consumed..]);
            let mut next = None;
            match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record.map_err(Broken::Protocol)?;
                        discard += record.discard;
                        let fits = record.payload.len().min(into.len() - filled);
                        into[filled..][..fits].copy_from_slice(&record.payload[..fits]);
                        spilled.extend_from_slice(&record.payload[fits..]);
                        filled += fits;
                    }
                    if filled == into.len() {
                        next = Some(Next::Room);
                    }
                }
                Ok(ConnectionState::EncodeTlsData(data)) => encode_behind(data, outgoing)?,
                // `outgoing` keeps its order; nothing needs to have left before the next step.
                Ok(ConnectionState::TransmitTlsData(transmit)) => transmit.done(),
                Ok(ConnectionState::PeerClosed) => ended = true,
                Ok(ConnectionState::Closed) => next = Some(Next::Ended),
                Ok(ConnectionState::WriteTraffic(_) | ConnectionState::BlockedHandshake) => {
                    next = Some(if ended { Next::Ended } else { Next::More });
                }
                // Early data is never offered (`max_early_data_size` is 0), and later versions may add states.
                Ok(_) => return Err(Broken::OutOfTurn),
                Err(error) => {
                    let rest = (consumed + discard).min(records.len());
                    self.encode_alert(&mut records[rest..], outgoing);
                    return Err(Broken::Protocol(error));
                }
            }
            consumed += discard;
            if let Some(next) = next {
                return Ok(Processed { consumed, filled, next });
            }
        }
    }

    /// Encrypts `plaintext` and returns how many bytes of `into` are to be sent, and before what `seal::with_sealed` has. `held`
    /// is what was received and not processed: part of a record at most.
    pub fn encrypt(&mut self, held: &mut Vec<u8>, plaintext: &[u8], into: &mut [u8]) -> Result<usize, Broken> {
        seal::sealing(|| self.when_writable(held, into, |traffic, into| traffic.encrypt(plaintext, into)))
    }

    /// Encrypts the close_notify alert: nothing follows it.
    pub fn encrypt_close_notify(&mut self, held: &mut Vec<u8>, into: &mut [u8]) -> Result<usize, Broken> {
        self.when_writable(held, into, |traffic, into| traffic.queue_close_notify(into))
    }

    fn when_writable(
        &mut self,
        held: &mut Vec<u8>,
        into: &mut [u8],
        write: impl Fn(&mut WriteTraffic<'_>, &mut [u8]) -> Result<usize, EncryptError>,
    ) -> Result<usize, Broken> {
        let mut written = 0;
        loop {
            let UnbufferedStatus { discard, state, .. } = self.connection.process_tls_records(held);
            let done = match state.map_err(Broken::Protocol)? {
                ConnectionState::WriteTraffic(mut traffic) => {
                    written += write(&mut traffic, &mut into[written..])?;
                    true
                }
                // A renewal of our keys that the last encryption asked for.
                ConnectionState::EncodeTlsData(mut data) => {
                    written += data.encode(&mut into[written..]).map_err(|_| Broken::OutOfTurn)?;
                    false
                }
                ConnectionState::TransmitTlsData(transmit) => {
                    transmit.done();
                    false
                }
                _ => return Err(Broken::OutOfTurn),
            };
            held.drain(..discard);
            if done {
                return Ok(written);
            }
        }
    }

    /// After an error the session has one thing left to say: why. What it had prepared before goes first, since the alert is
    /// encrypted with what that agrees on.
    fn encode_alert(&mut self, rest: &mut [u8], outgoing: &mut Vec<u8>) {
        // Only while there is something to say: rustls asserts that it is not given the same bad record twice.
        while self.connection.wants_write() {
            let Ok(ConnectionState::EncodeTlsData(data)) = self.connection.process_tls_records(rest).state else { return };
            if encode_behind(data, outgoing).is_err() {
                return;
            }
        }
    }
}

type WriteTraffic<'c> = rustls::unbuffered::WriteTraffic<'c, ServerConnectionData>;

fn encode_behind(mut data: EncodeTlsData<'_, ServerConnectionData>, outgoing: &mut Vec<u8>) -> Result<(), Broken> {
    // Asked for its size with no room at all, it says it.
    let Err(EncodeError::InsufficientSize(InsufficientSizeError { required_size })) = data.encode(&mut []) else {
        return Ok(());
    };
    let from = outgoing.len();
    outgoing.resize(from + required_size, 0);
    data.encode(&mut outgoing[from..]).map(drop).map_err(|_| Broken::OutOfTurn)
}

impl From<EncryptError> for Broken {
    fn from(error: EncryptError) -> Self {
        match error {
            EncryptError::EncryptExhausted => Self::Exhausted,
            // The caller's buffer holds a batch and its overhead.
            EncryptError::InsufficientSize(_) => Self::OutOfTurn,
        }
    }
}

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Protocol(error) => error.fmt(f),
            Self::Exhausted => f.write_str("traffic keys used up"),
            Self::OutOfTurn => f.write_str("a step out of turn"),
        }
    }
}
