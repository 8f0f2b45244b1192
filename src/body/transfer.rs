//! HTTP's own framing of a body: a length, or `Transfer-Encoding: chunked` (RFC 9112 section 7.1).

use super::BodyError;
use crate::http::Framing;
use crate::limits;

/// Where in the body we are.
#[derive(Debug)]
pub(super) struct Transfer {
    state: State,
    /// Bytes of the chunk line or of the trailer section so far.
    section_size: usize,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// So many bytes up to the end of the body.
    Length(u64),
    /// In the hexadecimal digits of a chunk line.
    Size {
        digits: u32,
        value: u64,
    },
    /// Just behind the `;` of an extension.
    ExtensionStart {
        value: u64,
    },
    /// In extensions, which are skipped (section 7.1.1).
    Extension {
        value: u64,
    },
    /// Before the LF of a chunk line.
    SizeLf {
        value: u64,
    },
    /// So many bytes up to the end of the chunk.
    Data(u64),
    /// Before the CR behind a chunk, and before its LF.
    DataCr,
    DataLf,
    /// At the begin of a trailer line, inside it, before its LF. Trailer fields of HTTP are skipped (section 7.1.2): what may
    /// be merged into the header section is for us to say, and nothing may.
    TrailerStart,
    Trailer,
    TrailerLf,
    /// Before the last LF.
    EndLf,
    Done,
}

impl Transfer {
    pub(super) fn new(framing: Framing) -> Self {
        let state = match framing {
            Framing::None | Framing::Length(0) => State::Done,
            Framing::Length(size) => State::Length(size),
            Framing::Chunked => State::Size { digits: 0, value: 0 },
        };
        Self { state, section_size: 0 }
    }

    pub(super) fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// How many of the next bytes are payload of HTTP's framing; 0 when framing comes first.
    pub(super) fn data_remaining(&self) -> u64 {
        match self.state {
            State::Length(remaining) | State::Data(remaining) => remaining,
            _ => 0,
        }
    }

    /// `size` bytes, at most `data_remaining`, are done with.
    pub(super) fn data_taken(&mut self, size: u64) {
        self.state = match self.state {
            State::Length(remaining) if remaining > size => State::Length(remaining - size),
            State::Length(_) => State::Done,
            State::Data(remaining) if remaining > size => State::Data(remaining - size),
            State::Data(_) => State::DataCr,
            state => state,
        };
    }

    /// Takes one byte that is no payload. Every line end is CRLF, no white space stands around a size, and an extension begins
    /// with its name: each of these has been read in two ways by two servers.
    pub(super) fn framing_byte(&mut self, byte: u8) -> Result<(), BodyError> {
        self.count(byte)?;
        self.state = match (self.state, byte) {
            (State::Size { digits: 16, .. }, _) if byte.is_ascii_hexdigit() => return Err(BodyError::ChunkTooLarge),
            (State::Size { digits, value }, _) if byte.is_ascii_hexdigit() => {
                State::Size { digits: digits + 1, value: value << 4 | u64::from(hex_value(byte)) }
            }
            (State::Size { digits: 1.., value }, b'\r') => State::SizeLf { value },
            (State::Size { digits: 1.., value }, b';') => State::ExtensionStart { value },
            (State::ExtensionStart { value }, _) if byte.is_ascii_alphanumeric() => State::Extension { value },
            (State::Extension { value }, b'\r') => State::SizeLf { value },
            (State::Extension { value }, _) if !byte.is_ascii_control() || byte == b'\t' => State::Extension { value },
            (State::SizeLf { value: 0 }, b'\n') => State::TrailerStart,
            (State::SizeLf { value }, b'\n') => State::Data(value),
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => State::Size { digits: 0, value: 0 },
            (State::TrailerStart, b'\r') => State::EndLf,
            (State::TrailerStart, _) if byte.is_ascii_alphanumeric() => State::Trailer,
            (State::Trailer, b'\r') => State::TrailerLf,
            (State::Trailer, _) if !byte.is_ascii_control() || byte == b'\t' => State::Trailer,
            (State::TrailerLf, b'\n') => State::TrailerStart,
            (State::EndLf, b'\n') => State::Done,
            (State::TrailerStart | State::Trailer | State::TrailerLf | State::EndLf, _) => {
                return Err(BodyError::MalformedTrailer);
            }
            _ => return Err(BodyError::MalformedChunk),
        };
        Ok(())
    }

    /// Bounds the chunk line and the trailer section that the byte belongs to.
    fn count(&mut self, byte: u8) -> Result<(), BodyError> {
        self.section_size += 1;
        match self.state {
            State::TrailerStart | State::Trailer | State::TrailerLf | State::EndLf
                if self.section_size > limits::TRAILER_SIZE_MAX =>
            {
                return Err(BodyError::TrailerTooLarge);
            }
            State::TrailerStart | State::Trailer | State::TrailerLf | State::EndLf => {}
            State::SizeLf { .. } | State::DataLf if byte == b'\n' => self.section_size = 0,
            _ if self.section_size >= limits::CHUNK_LINE_SIZE_MAX => return Err(BodyError::ChunkLineTooLong),
            _ => {}
        }
        Ok(())
    }

    /// See `Decoder::raw_wanted`.
    pub(super) fn raw_wanted(&self) -> usize {
        match self.state {
            State::Length(remaining) => usize::try_from(remaining).unwrap_or(usize::MAX),
            State::Done => 0,
            _ => usize::MAX,
        }
    }
}

fn hex_value(digit: u8) -> u8 {
    crate::base::hex::digit(digit).unwrap_or_default()
}
