//! The decoder against AWS's examples, against a naive one that wants the whole body at once, and against itself at every split.

use super::*;
use crate::limits;
use proptest::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Event {
    Start(u64, Option<String>),
    Data(Vec<u8>),
    End,
    Trailer(String, String),
    TrailerSignature(String),
}

/// Runs of payload that touch are one event: where they are cut depends on the buffers.
#[derive(Default)]
struct Events(Vec<Event>);

fn text(signature: &[u8; 64]) -> String {
    String::from_utf8_lossy(signature).into_owned()
}

impl Sink for Events {
    fn chunk_start(&mut self, size: u64, signature: Option<&[u8; 64]>) {
        self.0.push(Event::Start(size, signature.map(text)));
    }
    fn data(&mut self, bytes: &[u8]) {
        assert!(!bytes.is_empty());
        match self.0.last_mut() {
            Some(Event::Data(run)) => run.extend_from_slice(bytes),
            _ => self.0.push(Event::Data(bytes.to_vec())),
        }
    }
    fn chunk_end(&mut self) {
        self.0.push(Event::End);
    }
    fn trailer(&mut self, name: &str, value: &str) {
        self.0.push(Event::Trailer(name.into(), value.into()));
    }
    fn trailer_signature(&mut self, signature: &[u8; 64]) {
        self.0.push(Event::TrailerSignature(text(signature)));
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    payload: Vec<u8>,
    events: Vec<Event>,
    consumed: usize,
    finished: bool,
}

/// Decodes `raw` in buffers that end at `cuts`.
fn decode((framing, aws, length): (Framing, AwsChunked, Option<u64>), raw: &[u8], cuts: &[usize]) -> Result<Outcome, BodyError> {
    let mut decoder = Decoder::new(framing, aws, length);
    let mut events = Events::default();
    let (mut payload, mut consumed, mut from) = (Vec::new(), 0, 0);
    for to in cuts.iter().copied().chain([raw.len()]) {
        let mut buffer = raw[from..to].to_vec();
        let decoded = decoder.decode(&mut buffer, &mut events)?;
        assert!(decoded.payload <= decoded.consumed && decoded.consumed <= buffer.len());
        assert_eq!(buffer[decoded.consumed..], raw[from + decoded.consumed..to], "what is left is untouched");
        assert!(decoder.is_finished() || decoded.consumed == buffer.len(), "an unfinished body takes all there is");
        payload.extend_from_slice(&buffer[..decoded.payload]);
        consumed += decoded.consumed;
        from = to;
    }
    assert_eq!(decoder.decoded_so_far(), payload.len() as u64);
    let heard: Vec<u8> =
        events.0.iter().flat_map(|event| if let Event::Data(run) = event { &run[..] } else { &[] }).copied().collect();
    assert_eq!(heard, payload);
    Ok(Outcome { payload, events: events.0, consumed, finished: decoder.is_finished() })
}

/// The framing of `raw` as the whole body of a request with Content-Length.
fn identity(raw: &[u8]) -> Framing {
    Framing::Length(raw.len() as u64)
}

/// `bytes` in transfer chunks of at most `size` bytes.
fn in_transfer_chunks(bytes: &[u8], size: usize) -> Vec<u8> {
    let mut raw = Vec::new();
    for chunk in bytes.chunks(size) {
        raw.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        raw.extend_from_slice(chunk);
        raw.extend_from_slice(b"\r\n");
    }
    raw.extend_from_slice(b"0\r\n\r\n");
    raw
}

/// Signatures are opaque here: those of AWS's pages.
const S1: &str = "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648";
const S2: &str = "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497";
const S3: &str = "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9";
const S4: &str = "d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435";

fn signed_body(end: &str) -> Vec<u8> {
    let (first, second) = ("a".repeat(65536), "a".repeat(1024));
    format!("10000;chunk-signature={S1}\r\n{first}\r\n400;chunk-signature={S2}\r\n{second}\r\n0;chunk-signature={S3}\r\n{end}")
        .into_bytes()
}

fn signed_events() -> Vec<Event> {
    vec![
        Event::Start(65536, Some(S1.into())),
        Event::Data(vec![b'a'; 65536]),
        Event::End,
        Event::Start(1024, Some(S2.into())),
        Event::Data(vec![b'a'; 1024]),
        Event::End,
        Event::Start(0, Some(S3.into())),
        Event::End,
    ]
}

#[test]
fn the_signed_example_of_aws() {
    // https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming.html: Content-Length 66824 for 66560 bytes.
    let raw = signed_body("\r\n");
    assert_eq!(raw.len(), 66824);
    let outcome = decode((identity(&raw), AwsChunked::Signed, Some(66560)), &raw, &[]).unwrap();
    assert_eq!(outcome.payload, vec![b'a'; 66560]);
    assert_eq!(outcome.events, signed_events());
    assert!(outcome.finished);
}

#[test]
fn the_signed_trailer_in_both_spellings() {
    // CRLF as the SDKs write it; LF and CRLF as in the example of
    // https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming-trailers.html and in minio-go.
    for line_end in ["\r\n", "\n\r\n"] {
        let raw = signed_body(&format!("x-amz-checksum-crc32c:sOO8/Q=={line_end}x-amz-trailer-signature:{S4}\r\n\r\n"));
        let outcome = decode((identity(&raw), AwsChunked::SignedTrailer, Some(66560)), &raw, &[]).unwrap();
        let mut expected = signed_events();
        expected.push(Event::Trailer("x-amz-checksum-crc32c".into(), "sOO8/Q==".into()));
        expected.push(Event::TrailerSignature(S4.into()));
        assert_eq!(outcome.events, expected);
        assert!(outcome.finished);
    }
}

#[test]
fn unsigned_trailers_of_real_clients() {
    let trailer = |end: &str| format!("3\r\nabc\r\n2\r\nde\r\n0\r\n{end}").into_bytes();
    // boto3, aws-sdk-js, aws-sdk-cpp; minio-go; no trailer at all, which is for the caller to miss.
    for (end, trailers) in [
        ("x-amz-checksum-crc64nvme:jSnVw/bqjr4=\r\n\r\n", 1),
        ("x-amz-checksum-crc64nvme: jSnVw/bqjr4= \r\n\r\n", 1),
        ("x-amz-checksum-crc64nvme:jSnVw/bqjr4=\n\r\n\r\n", 1),
        ("x-amz-checksum-crc64nvme:jSnVw/bqjr4=\n\r\n", 1),
        ("\r\n", 0),
    ] {
        let inner = trailer(end);
        let mut expected = vec![
            Event::Start(3, None),
            Event::Data(b"abc".to_vec()),
            Event::End,
            Event::Start(2, None),
            Event::Data(b"de".to_vec()),
            Event::End,
            Event::Start(0, None),
            Event::End,
        ];
        if trailers == 1 {
            expected.push(Event::Trailer("x-amz-checksum-crc64nvme".into(), "jSnVw/bqjr4=".into()));
        }
        let outer = in_transfer_chunks(&inner, 7);
        for (framing, raw) in [(identity(&inner), &inner), (Framing::Chunked, &outer)] {
            let how = (framing, AwsChunked::UnsignedTrailer, Some(5));
            let whole = decode(how, raw, &[]).unwrap();
            assert_eq!((&whole.events, whole.finished, whole.consumed), (&expected, true, raw.len()), "{end:?}");
            for cut in 0..=raw.len() {
                for other in [cut, (cut + 3).min(raw.len()), raw.len()] {
                    assert_eq!(decode(how, raw, &[cut, other]).as_ref(), Ok(&whole), "{end:?} at {cut}, {other}");
                }
            }
        }
    }
}

#[test]
fn what_follows_a_body_is_left() {
    for (framing, raw) in [
        (Framing::Length(5), "hello"),
        (Framing::Length(0), ""),
        (Framing::None, ""),
        (Framing::Chunked, "5;a=\"b\"\r\nhello\r\n00\r\nTrailer: x\r\nb:\r\n\r\n"),
    ] {
        let with_next = format!("{raw}GET / HTTP/1.1\r\n");
        for cut in 0..with_next.len() {
            let outcome = decode((framing, AwsChunked::None, None), with_next.as_bytes(), &[cut]).unwrap();
            assert_eq!(outcome.consumed, raw.len());
            assert!(outcome.finished);
            assert_eq!(outcome.payload, if raw.is_empty() { &b""[..] } else { b"hello" });
        }
    }
}

#[test]
fn reads_never_go_beyond_a_known_length() {
    let mut decoder = Decoder::new(Framing::Length(10), AwsChunked::None, None);
    assert_eq!(decoder.raw_wanted(), 10);
    decoder.decode(&mut [b'a'; 7], &mut ()).unwrap();
    assert_eq!((decoder.raw_wanted(), decoder.is_finished()), (3, false));
    decoder.decode(&mut [b'a'; 3], &mut ()).unwrap();
    assert_eq!((decoder.raw_wanted(), decoder.is_finished()), (0, true));
    assert_eq!(decoder.decode(&mut [b'a'; 3], &mut ()), Ok(Decoded::default()));
    assert_eq!(Decoder::new(Framing::Chunked, AwsChunked::None, None).raw_wanted(), usize::MAX);
}

#[test]
fn transfer_chunks_that_are_none() {
    let long = |size: usize| format!("1;{}\r\na\r\n0\r\n\r\n", "e".repeat(size - 4));
    assert!(decode((Framing::Chunked, AwsChunked::None, None), long(limits::CHUNK_LINE_SIZE_MAX).as_bytes(), &[]).is_ok());
    let trailers = |size: usize| format!("0\r\na:{}\r\n\r\n", "b".repeat(size - 6));
    assert!(decode((Framing::Chunked, AwsChunked::None, None), trailers(limits::TRAILER_SIZE_MAX).as_bytes(), &[]).is_ok());
    use BodyError::*;
    for (raw, expected) in [
        (long(limits::CHUNK_LINE_SIZE_MAX + 1), ChunkLineTooLong),
        (trailers(limits::TRAILER_SIZE_MAX + 1), TrailerTooLarge),
        ("11111111111111111\r\n".into(), ChunkTooLarge),
        ("\r\n".into(), MalformedChunk),
        (";a\r\n".into(), MalformedChunk),
        ("+1\r\na\r\n".into(), MalformedChunk),
        ("-1\r\na\r\n".into(), MalformedChunk),
        ("0x1\r\na\r\n".into(), MalformedChunk),
        (" 1\r\na\r\n".into(), MalformedChunk),
        ("1 \r\na\r\n".into(), MalformedChunk),
        ("1 ;a\r\na\r\n".into(), MalformedChunk),
        ("1;\r\na\r\n".into(), MalformedChunk),
        ("1;a\0\r\na\r\n".into(), MalformedChunk),
        ("1;a\rb\r\na\r\n".into(), MalformedChunk),
        ("1;a\nb\r\na\r\n".into(), MalformedChunk),
        ("1\na\r\n".into(), MalformedChunk),
        ("1\ra\r\n".into(), MalformedChunk),
        ("1_0\r\n".into(), MalformedChunk),
        ("1\r\nab\r\n".into(), MalformedChunk),
        ("1\r\na\n".into(), MalformedChunk),
        ("1\r\na0\r\n\r\n".into(), MalformedChunk),
        ("0\r\n\n".into(), MalformedTrailer),
        ("0\r\n folded: x\r\n\r\n".into(), MalformedTrailer),
        ("0\r\na: b\n\r\n".into(), MalformedTrailer),
        ("0\r\na: \0\r\n\r\n".into(), MalformedTrailer),
        ("0\r\n\rX".into(), MalformedTrailer),
    ] {
        assert_eq!(decode((Framing::Chunked, AwsChunked::None, None), raw.as_bytes(), &[]), Err(expected), "{raw:?}");
    }
    // RFC 9112 section 7.1: the largest size that can be said is waited for, not trusted.
    let huge = decode((Framing::Chunked, AwsChunked::None, None), b"ffffffffffffffff\r\nabc", &[]).unwrap();
    assert_eq!((huge.payload, huge.finished), (b"abc".to_vec(), false));
}

#[test]
fn aws_chunks_that_are_none() {
    use AwsChunked::{Signed, SignedTrailer, UnsignedTrailer};
    use BodyError::*;
    let zero = format!("0;chunk-signature={S3}\r\n");
    let signature = format!("x-amz-trailer-signature:{S4}\r\n");
    for (mode, raw, expected) in [
        (Signed, "1\r\na\r\n".into(), MalformedChunk),
        (Signed, format!("1;chunk-signature={}\r\na\r\n", &S1[1..]), MalformedSignature),
        (Signed, format!("1;chunk-signature={S1}0\r\na\r\n"), MalformedSignature),
        (Signed, format!("1;chunk-signature={}g\r\na\r\n", &S1[1..]), MalformedSignature),
        (Signed, "1;chunk-signature=\r\na\r\n".into(), MalformedChunk),
        (Signed, format!("1; chunk-signature={S1}\r\na\r\n"), MalformedChunk),
        (Signed, format!("1;chunk-signature={S1}\na\r\n"), MalformedChunk),
        (Signed, format!("1;chunk-signature={S1};x\r\na\r\n"), MalformedChunk),
        (Signed, format!("10000000000000000;chunk-signature={S1}\r\na\r\n"), ChunkTooLarge),
        (Signed, format!(";chunk-signature={S1}\r\na\r\n"), MalformedChunk),
        (Signed, format!("{zero}x: y\r\n\r\n"), MalformedChunk),
        (Signed, format!("{zero}\r\n\r\n"), MalformedChunk),
        (Signed, zero.clone(), EndsEarly),
        (Signed, String::new(), EndsEarly),
        (SignedTrailer, format!("{zero}\r\n"), EndsEarly),
        (SignedTrailer, format!("{zero}a:b\r\n\r\n{signature}\r\n"), EndsEarly),
        (SignedTrailer, format!("{zero}a:b\n\r\n\r\n{signature}\r\n"), EndsEarly),
        (SignedTrailer, format!("{zero}{signature}{signature}\r\n"), MalformedTrailer),
        (SignedTrailer, format!("{zero}{signature}a:b\r\n\r\n"), MalformedTrailer),
        (SignedTrailer, format!("{zero}a:b\r\n{signature}\r\n\r\n"), MalformedTrailer),
        (SignedTrailer, format!("{zero}x-amz-trailer-signature:{}\r\n\r\n", &S4[1..]), MalformedSignature),
        (SignedTrailer, format!("{zero}a:b\r\n{signature}"), EndsEarly),
        (UnsignedTrailer, format!("1;chunk-signature={S1}\r\na\r\n0\r\n\r\n"), MalformedChunk),
        (UnsignedTrailer, "1;\r\na\r\n0\r\n\r\n".into(), MalformedChunk),
        (UnsignedTrailer, "1\r\na\r\n".into(), EndsEarly),
        (UnsignedTrailer, "1\na\r\n".into(), MalformedChunk),
        (UnsignedTrailer, "1\r\nab\r\n".into(), MalformedChunk),
        (UnsignedTrailer, format!("0\r\n{signature}\r\n"), MalformedTrailer),
        (UnsignedTrailer, "0\r\nno colon\r\n\r\n".into(), MalformedTrailer),
        (UnsignedTrailer, "0\r\n:b\r\n\r\n".into(), MalformedTrailer),
        (UnsignedTrailer, "0\r\na :b\r\n\r\n".into(), MalformedTrailer),
        (UnsignedTrailer, "0\r\na:b\rc\r\n\r\n".into(), MalformedTrailer),
        (UnsignedTrailer, "0\r\na:b\r\n\n".into(), MalformedTrailer),
        (UnsignedTrailer, "0\r\na:b\r\n\r\n\r\n".into(), MalformedTrailer),
        (UnsignedTrailer, "0\r\na:b\n\r\n\r\n\r\n".into(), MalformedTrailer),
        (UnsignedTrailer, "0\r\na:b\n\r\n\r".into(), EndsEarly),
        (UnsignedTrailer, "0\r\na:b\n\r\nX".into(), MalformedChunk),
    ] {
        assert_eq!(decode((identity(raw.as_bytes()), mode, None), raw.as_bytes(), &[]), Err(expected), "{mode:?} {raw:?}");
        for cut in 0..raw.len() {
            let split = decode((identity(raw.as_bytes()), mode, None), raw.as_bytes(), &[cut]);
            assert_eq!(split, Err(expected), "{mode:?} {raw:?} at {cut}");
        }
    }
}

#[test]
fn chunk_lines_of_every_length() {
    // versitygw 748912fb: a chunk header longer than the reader's buffer.
    for size in 0..=8192 {
        let raw = "f".repeat(size);
        let expected = match size {
            0..=512 => None,
            _ => Some(BodyError::ChunkLineTooLong),
        };
        let how = (Framing::Length(10_000), AwsChunked::Signed, None);
        assert_eq!(decode(how, raw.as_bytes(), &[]).err(), expected, "{size}");
        assert_eq!(decode(how, raw.as_bytes(), &[size / 2]).err(), expected, "{size}");
        let trailer = format!("0\r\n{raw}");
        let too_large = (size > 512).then_some(BodyError::TrailerTooLarge);
        assert_eq!(decode((how.0, AwsChunked::UnsignedTrailer, None), trailer.as_bytes(), &[]).err(), too_large, "{size}");
    }
    let many = format!("0\r\n{}", "a:b\r\n".repeat(limits::TRAILER_SIZE_MAX / 5 + 1));
    let how = (identity(many.as_bytes()), AwsChunked::UnsignedTrailer, None);
    assert_eq!(decode(how, many.as_bytes(), &[]), Err(BodyError::TrailerTooLarge));
}

#[test]
fn the_decoded_length_is_held_to() {
    use BodyError::LengthMismatch;
    let aws = |length| decode((Framing::Length(15), AwsChunked::UnsignedTrailer, Some(length)), b"5\r\nhello\r\n0\r\n\r\n", &[]);
    assert!(aws(5).unwrap().finished);
    assert_eq!(aws(4), Err(LengthMismatch));
    assert_eq!(aws(6), Err(LengthMismatch));
    let plain = |length| decode((Framing::Length(5), AwsChunked::None, Some(length)), b"hello", &[2]);
    assert!(plain(5).unwrap().finished);
    assert_eq!(plain(4), Err(LengthMismatch));
    assert_eq!(plain(6), Err(LengthMismatch));
    // Refused at the chunk line, before a byte of it is taken.
    let early = decode((Framing::Length(1000), AwsChunked::UnsignedTrailer, Some(4)), b"5\r\n", &[]);
    assert_eq!(early, Err(LengthMismatch));
    let sum = "1\r\na\r\nffffffffffffffff\r\n";
    assert_eq!(
        decode((Framing::Length(1000), AwsChunked::UnsignedTrailer, None), sum.as_bytes(), &[]),
        Err(BodyError::ChunkTooLarge)
    );
    // No body at all is never a finished aws-chunked one, and never one of another length.
    assert!(!Decoder::new(Framing::None, AwsChunked::Signed, Some(0)).is_finished());
    assert!(!Decoder::new(Framing::None, AwsChunked::None, Some(1)).is_finished());
    assert!(Decoder::new(Framing::None, AwsChunked::None, None).is_finished());
}

/// Takes HTTP chunks out of a whole, well-formed body.
fn naive_transfer(mut raw: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let line_end = raw.windows(2).position(|pair| pair == b"\r\n").unwrap();
        let line = std::str::from_utf8(&raw[..line_end]).unwrap();
        let size = usize::from_str_radix(line.split(';').next().unwrap(), 16).unwrap();
        raw = &raw[line_end + 2..];
        if size == 0 {
            return bytes;
        }
        bytes.extend_from_slice(&raw[..size]);
        raw = &raw[size + 2..];
    }
}

fn modes() -> impl Strategy<Value = AwsChunked> {
    prop::sample::select(vec![AwsChunked::None, AwsChunked::Signed, AwsChunked::SignedTrailer, AwsChunked::UnsignedTrailer])
}

/// `chunks` as a client in `mode` sends them.
fn encode(mode: AwsChunked, chunks: &[Vec<u8>]) -> Vec<u8> {
    let mut raw = Vec::new();
    if mode == AwsChunked::None {
        return chunks.concat();
    }
    let extension = if mode == AwsChunked::UnsignedTrailer { String::new() } else { format!(";chunk-signature={S1}") };
    for chunk in chunks.iter().filter(|chunk| !chunk.is_empty()) {
        raw.extend_from_slice(format!("{:x}{extension}\r\n", chunk.len()).as_bytes());
        raw.extend_from_slice(chunk);
        raw.extend_from_slice(b"\r\n");
    }
    raw.extend_from_slice(format!("0{extension}\r\n").as_bytes());
    match mode {
        AwsChunked::SignedTrailer => {
            raw.extend_from_slice(format!("x-amz-checksum-crc32:AAAAAA==\r\nx-amz-trailer-signature:{S4}\r\n\r\n").as_bytes());
        }
        AwsChunked::UnsignedTrailer => raw.extend_from_slice(b"x-amz-checksum-crc32:AAAAAA==\r\n\r\n"),
        _ => raw.extend_from_slice(b"\r\n"),
    }
    raw
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn any_body_at_any_splits(
        mode in modes(),
        chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..6),
        outer_size in prop::option::of(1..400_usize),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
    ) {
        let inner = encode(mode, &chunks);
        let payload = chunks.concat();
        let (framing, body) = match outer_size {
            Some(size) => (Framing::Chunked, in_transfer_chunks(&inner, size)),
            None => (identity(&inner), inner.clone()),
        };
        if framing == Framing::Chunked {
            prop_assert_eq!(naive_transfer(&body), inner);
        }
        let raw = [&body[..], b"GET / HTTP/1.1\r\n"].concat();
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(raw.len())).collect();
        cuts.sort_unstable();
        let how = (framing, mode, Some(payload.len() as u64));
        let whole = decode(how, &raw, &[]).unwrap();
        prop_assert_eq!(&whole.payload, &payload);
        prop_assert_eq!(whole.consumed, body.len());
        prop_assert!(whole.finished);
        let starts = whole.events.iter().filter(|event| matches!(event, Event::Start(..))).count();
        let filled = chunks.iter().filter(|chunk| !chunk.is_empty()).count();
        prop_assert_eq!(starts, if mode == AwsChunked::None { 0 } else { filled + 1 });
        prop_assert_eq!(decode(how, &raw, &cuts).unwrap(), whole);
        // A body that is cut off is never finished.
        if !body.is_empty() {
            let cut = cuts.first().copied().unwrap_or(0).min(body.len() - 1);
            prop_assert!(!decode(how, &body[..cut], &[]).unwrap().finished);
        }
    }

    #[test]
    fn any_bytes_decode_alike_at_any_split(
        mode in modes(),
        chunked in any::<bool>(),
        raw in "[0-3]{1,2}(;a)?\r\n[abx:\r\n;0-3]{0,12}\r?\n?0\r\n[ab:\r\n]{0,8}\r\n\r\n",
        cut in any::<prop::sample::Index>(),
    ) {
        let framing = if chunked { Framing::Chunked } else { identity(raw.as_bytes()) };
        let whole = decode((framing, mode, None), raw.as_bytes(), &[]);
        let split = decode((framing, mode, None), raw.as_bytes(), &[cut.index(raw.len())]);
        prop_assert_eq!(whole, split);
    }
}
