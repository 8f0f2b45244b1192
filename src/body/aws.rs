//! `aws-chunked`, the framing that AWS's clients put inside HTTP's
//! (<https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming.html>,
//! <https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming-trailers.html>).
//!
//! ```text
//! signed     10000;chunk-signature=<64>CRLF data CRLF ... 0;chunk-signature=<64>CRLF CRLF
//! + trailer  ... 0;chunk-signature=<64>CRLF name:valueCRLF x-amz-trailer-signature:<64>CRLF CRLF
//! unsigned   10000CRLF data CRLF ... 0CRLF name:valueCRLF CRLF
//! ```
//!
//! minio-go, and AWS's page on trailers, end a trailer line with LF alone and then write CRLF once more than the others do:
//! `name:value LF CRLF x-amz-trailer-signature:<64> CRLF CRLF`, and unsigned `name:value LF CRLF CRLF`. Both are taken, exactly
//! so. Chunk lines end in CRLF always.

use super::{AwsChunked, BodyError, Length, Run, Sink};
use crate::base::hex;
use crate::limits;

/// Where in the aws-chunked stream we are.
#[derive(Debug)]
pub(super) struct Aws {
    mode: AwsChunked,
    state: State,
    /// The part of a line that has come.
    line: [u8; limits::CHUNK_LINE_SIZE_MAX],
    line_size: usize,
    trailer_size: usize,
    /// The last trailer line ended with LF alone.
    lone_lf: bool,
    trailer_signed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// No aws-chunked: all is payload, up to the end of HTTP's framing.
    Plain,
    ChunkLine,
    /// So many bytes up to the end of the chunk.
    Data(u64),
    /// Before the CR behind a chunk, and before its LF.
    DataCr,
    DataLf,
    /// Before the CR and the LF that end a signed stream without trailers.
    LastCr,
    LastLf,
    TrailerLine,
    /// Finished, but for the CRLF that minio-go adds: before its CR, which may be missing, and before its LF.
    ExtraCr,
    ExtraLf,
    Done,
}

impl Aws {
    pub(super) fn new(mode: AwsChunked) -> Self {
        Self {
            mode,
            state: if mode == AwsChunked::None { State::Plain } else { State::ChunkLine },
            line: [0; limits::CHUNK_LINE_SIZE_MAX],
            line_size: 0,
            trailer_size: 0,
            lone_lf: false,
            trailer_signed: false,
        }
    }

    /// Whether the body may end here.
    pub(super) fn is_done(&self) -> bool {
        matches!(self.state, State::Plain | State::ExtraCr | State::Done)
    }

    /// Decodes all of `run`.
    pub(super) fn decode(&mut self, run: &mut Run<'_>, length: &mut Length, sink: &mut impl Sink) -> Result<(), BodyError> {
        while !run.is_empty() {
            self.state = match self.state {
                State::Plain => {
                    length.admits((run.end - run.read) as u64)?;
                    length.decoded += run.take_payload(u64::MAX, sink) as u64;
                    State::Plain
                }
                State::Data(remaining) => {
                    let taken = run.take_payload(remaining, sink) as u64;
                    length.decoded += taken;
                    match remaining - taken {
                        0 => {
                            sink.chunk_end();
                            State::DataCr
                        }
                        rest => State::Data(rest),
                    }
                }
                State::ChunkLine => match self.take_line(run)? {
                    true => self.chunk_line(length, sink)?,
                    false => State::ChunkLine,
                },
                State::TrailerLine => match self.take_line(run)? {
                    true => self.trailer_line(sink)?,
                    false => State::TrailerLine,
                },
                State::Done => return Err(self.behind_the_end(length)),
                state => line_end(state, run.take_byte())?,
            };
        }
        Ok(())
    }

    /// What more bytes are inside HTTP's framing: the rest of a body that ended too early, or trailers where none are due.
    fn behind_the_end(&self, length: &Length) -> BodyError {
        let is_trailer = self.mode != AwsChunked::Signed && length.is_reached();
        if is_trailer { BodyError::MalformedTrailer } else { BodyError::MalformedChunk }
    }

    /// Adds to `line`; true when it is complete, with its LF.
    fn take_line(&mut self, run: &mut Run<'_>) -> Result<bool, BodyError> {
        let in_trailer = self.state == State::TrailerLine;
        let too_long = if in_trailer { BodyError::TrailerTooLarge } else { BodyError::ChunkLineTooLong };
        let piece = run.take_line();
        let room = self.line.get_mut(self.line_size..self.line_size + piece.len()).ok_or(too_long)?;
        room.copy_from_slice(piece);
        self.line_size += piece.len();
        if in_trailer {
            self.trailer_size += piece.len();
            if self.trailer_size > limits::TRAILER_SIZE_MAX {
                return Err(too_long);
            }
        }
        Ok(piece.ends_with(b"\n"))
    }

    fn chunk_line(&mut self, length: &Length, sink: &mut impl Sink) -> Result<State, BodyError> {
        let line = self.line[..self.line_size].strip_suffix(b"\r\n").ok_or(BodyError::MalformedChunk)?;
        self.line_size = 0;
        let digits = line.iter().position(|byte| !byte.is_ascii_hexdigit()).unwrap_or(line.len());
        let (size, extension) = line.split_at(digits);
        let size = chunk_size(size)?;
        let signature = match self.mode {
            AwsChunked::Signed | AwsChunked::SignedTrailer => {
                // Nothing is no signature; something else than one is a wrong one, as S3 has it.
                let is_one = |text: &&[u8]| !text.is_empty() && !text.contains(&b';');
                let signature = extension.strip_prefix(b";chunk-signature=").filter(is_one).ok_or(BodyError::MalformedChunk)?;
                Some(signature_digits(signature).ok_or(BodyError::MalformedSignature)?)
            }
            // No client sends an extension here; a signature that nobody checks is refused.
            _ if extension.is_empty() => None,
            _ => return Err(BodyError::MalformedChunk),
        };
        length.admits(size)?;
        sink.chunk_start(size, signature);
        if size > 0 {
            return Ok(State::Data(size));
        }
        sink.chunk_end();
        Ok(if self.mode == AwsChunked::Signed { State::LastCr } else { State::TrailerLine })
    }

    fn trailer_line(&mut self, sink: &mut impl Sink) -> Result<State, BodyError> {
        let line = self.line.get(..self.line_size.saturating_sub(1)).unwrap_or_default();
        self.line_size = 0;
        let (line, lone_lf) = match line.strip_suffix(b"\r") {
            Some(line) => (line, false),
            None => (line, true),
        };
        let lone_lf_before = std::mem::replace(&mut self.lone_lf, lone_lf);
        let signed_mode = self.mode == AwsChunked::SignedTrailer;
        if line.is_empty() {
            return match (lone_lf, signed_mode, self.trailer_signed) {
                (true, ..) => Err(BodyError::MalformedTrailer),
                (false, true, false) if lone_lf_before => Ok(State::TrailerLine),
                (false, true, false) => Err(BodyError::EndsEarly),
                (false, false, _) if lone_lf_before => Ok(State::ExtraCr),
                (false, ..) => Ok(State::Done),
            };
        }
        if self.trailer_signed {
            return Err(BodyError::MalformedTrailer);
        }
        let (name, value) = trailer_field(line).ok_or(BodyError::MalformedTrailer)?;
        if name.eq_ignore_ascii_case("x-amz-trailer-signature") {
            if !signed_mode || lone_lf {
                return Err(BodyError::MalformedTrailer);
            }
            sink.trailer_signature(signature_digits(value.as_bytes()).ok_or(BodyError::MalformedSignature)?);
            self.trailer_signed = true;
        } else {
            sink.trailer(name, value);
        }
        Ok(State::TrailerLine)
    }
}

/// The states that wait for one certain byte.
fn line_end(state: State, byte: u8) -> Result<State, BodyError> {
    match (state, byte) {
        (State::DataCr, b'\r') => Ok(State::DataLf),
        (State::DataLf, b'\n') => Ok(State::ChunkLine),
        (State::LastCr, b'\r') => Ok(State::LastLf),
        (State::LastLf, b'\n') => Ok(State::Done),
        (State::ExtraCr, b'\r') => Ok(State::ExtraLf),
        (State::ExtraLf, b'\n') => Ok(State::Done),
        _ => Err(BodyError::MalformedChunk),
    }
}

/// 1 to 16 hexadecimal digits, without a sign, a prefix or white space.
fn chunk_size(digits: &[u8]) -> Result<u64, BodyError> {
    match digits.len() {
        0 => Err(BodyError::MalformedChunk),
        1..=16 => Ok(digits.iter().fold(0, |size, &digit| size << 4 | u64::from(hex::digit(digit).unwrap_or_default()))),
        _ => Err(BodyError::ChunkTooLarge),
    }
}

fn signature_digits(text: &[u8]) -> Option<&[u8; 64]> {
    text.try_into().ok().filter(|digits: &&[u8; 64]| digits.iter().all(u8::is_ascii_hexdigit))
}

/// `name:value`, the name of letters, digits and hyphens, the value printable ASCII.
fn trailer_field(line: &[u8]) -> Option<(&str, &str)> {
    let (name, value) = std::str::from_utf8(line).ok()?.split_once(':')?;
    let name_valid = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    let value = value.trim_matches([' ', '\t']);
    (name_valid && value.bytes().all(|byte| (b' '..0x7f).contains(&byte))).then_some((name, value))
}
