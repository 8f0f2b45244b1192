//! GetObject and HeadObject.

use std::os::fd::OwnedFd;

use super::answer::{Answer, Reply};
use super::context::Context;
use super::error::{Code, S3Error};
use super::service::Exchanged;
use super::{metadata, refusal};
use crate::digest::ETag;
use crate::flow::{self, Reading, SendPlan};
use crate::http::conditional::{self, Conditions, Outcome};
use crate::http::{self, Range};
use crate::io::blocking;
use crate::limits::SMALL_OBJECT_SIZE_MAX;
use crate::metrics::record::{self, Opened, ReadFrom};
use crate::net::{After, Exchange};
use crate::store::object::{self, Object, State};
use crate::store::recent::RecentObject;
use crate::sys;

/// What of an object is sent.
struct Part {
    start: u64,
    length: u64,
    status: u16,
    /// It was asked for as this part of the object.
    number: Option<u32>,
}

/// `GET /bucket/key`.
pub(super) async fn get_object(exchange: &mut Exchange, context: &Context<'_>, request_id: &str) -> Result<Reply, S3Error> {
    context.check_version()?;
    if let Some(rendered) = from_memory(context, |recent| get_recent(exchange, context, recent, request_id)) {
        return send_small(exchange, rendered?).await;
    }
    let opened_ns = sys::clock::realtime_ns();
    let object = find(context).await?;
    let (mut answer, part) = describe(context, &object.state)?;
    if part.length > SMALL_OBJECT_SIZE_MAX as u64 {
        // Boxed: the small ones, which are most, do without its state.
        return Box::pin(send_large(exchange, context, object, answer, &part, request_id)).await;
    }
    if part.length > 0 {
        answer.body = read_small(&object, &part).await?;
    }
    context.core.remember(context.bucket(), context.key(), object, opened_ns);
    Ok(answer.into())
}

/// `HEAD /bucket/key`.
pub(super) async fn head_object(context: &Context<'_>) -> Result<Reply, S3Error> {
    context.check_version()?;
    if let Some(answer) = from_memory(context, |recent| Some(describe(context, &recent.state))) {
        return answer.map(|(answer, _)| answer.into());
    }
    let opened_ns = sys::clock::realtime_ns();
    let object = find(context).await?;
    let (answer, _) = describe(context, &object.state)?;
    context.core.remember(context.bucket(), context.key(), object, opened_ns);
    Ok(answer.into())
}

/// What `answer` makes of the object as this core saw it a moment ago, if it is still the same afterwards. `answer` does not wait:
/// what it read was then true until now.
fn from_memory<T>(
    context: &Context<'_>,
    answer: impl FnOnce(&RecentObject) -> Option<Result<T, S3Error>>,
) -> Option<Result<T, S3Error>> {
    let core = context.core;
    let recent = core.recent.borrow_mut().find(context.bucket(), context.key().as_bytes())?;
    let answered = answer(&recent);
    if recent.is_current(core.volume()) {
        record::opened(Opened::Remembered);
        return answered;
    }
    core.recent.borrow_mut().forget_object(&recent);
    None
}

/// A whole answer, ready to be sent.
struct Rendered {
    bytes: Vec<u8>,
    keep: bool,
    status: u16,
}

/// A small object's answer, its bytes read from the page cache to where they are sent from. `None`: they are not there, or
/// the request is no ordinary one.
fn get_recent(
    exchange: &Exchange,
    context: &Context<'_>,
    recent: &RecentObject,
    request_id: &str,
) -> Option<Result<Rendered, S3Error>> {
    let file = recent.file.as_ref().filter(|_| context.request.framing() == http::Framing::None)?;
    let (answer, part) = match describe(context, &recent.state) {
        Ok(described) => described,
        Err(error) => return Some(Err(error)),
    };
    let keep = context.request.keep_alive() && !exchange.drains();
    let length = part.length as usize;
    let mut bytes = answer.render_head(context.core, request_id, context.request.connection(keep), length);
    if length > 0 && !sys::file::append_cached_at(file, &mut bytes, length, part.start).unwrap_or(false) {
        return None;
    }
    record::read(ReadFrom::PageCache, length);
    Some(Ok(Rendered { bytes, keep, status: answer.status }))
}

async fn send_small(exchange: &mut Exchange, rendered: Rendered) -> Result<Reply, S3Error> {
    let Rendered { bytes, keep, status } = rendered;
    let after = match exchange.send(&bytes, false).await {
        Ok(()) if keep => After::Keep,
        Ok(()) => After::Close,
        Err(_) => After::Abort,
    };
    Ok(Reply::Sent(Exchanged { after, status, error: None }))
}

/// Opens the object: at once when everything about it is in memory, else on a helper.
pub(super) async fn find(context: &Context<'_>) -> Result<Object, S3Error> {
    context.check_version()?;
    let (bucket, key) = (context.bucket(), context.key());
    let refused = |error| refusal::store(error, bucket, key);
    if let Some(object) = object::open_cached(context.core.volume(), bucket, key.as_bytes()).map_err(refused)? {
        record::opened(Opened::Cached);
        return Ok(object);
    }
    record::opened(Opened::Helper);
    let settings = context.core.settings.clone();
    let (bucket, key) = (bucket.to_owned(), key.to_owned());
    let opened = blocking(move || object::open(&settings.volume, &bucket, key.as_bytes())).await?;
    opened.map_err(refused)
}

/// Decides by conditions, `Range` and `partNumber` what is answered, and writes the head's object headers.
fn describe(context: &Context<'_>, state: &State) -> Result<(Answer, Part), S3Error> {
    let etag = metadata::etag_of(state);
    match evaluate(context, &etag, state) {
        Outcome::Proceed => {}
        Outcome::NotModified => {
            let mut answer = Answer::empty(304);
            metadata::write_headers(&mut answer, context, state, &etag);
            return Ok((answer, Part { start: 0, length: 0, status: 304, number: None }));
        }
        Outcome::PreconditionFailed(condition) => return Err(S3Error::precondition_failed(condition)),
    }
    let part = select(context, state)?;
    let mut answer = Answer::empty(part.status);
    answer.length = Some(part.length);
    metadata::write_headers(&mut answer, context, state, &etag);
    if part.status == 206 {
        let end = part.start + part.length - 1;
        answer.header("Content-Range", format!("bytes {}-{end}/{}", part.start, state.size).as_bytes());
    }
    if let Some(record) = &state.record {
        if part.number.is_some() && record.parts > 0 {
            answer.header("x-amz-mp-parts-count", record.parts.to_string().as_bytes());
        }
        let wanted = context.header("x-amz-checksum-mode")?.is_some_and(|mode| mode.eq_ignore_ascii_case("ENABLED"));
        match part.number.filter(|number| record.part_checksum(*number).is_some()) {
            // A part's own checksum is to be had by its number
            // (https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity.html).
            Some(number) if wanted => metadata::write_part_checksum(&mut answer, record, number),
            // Any other speaks of the whole object.
            None if wanted && part.length == state.size => metadata::write_checksum(&mut answer, record),
            _ => {}
        }
    }
    Ok((answer, part))
}

fn evaluate(context: &Context<'_>, etag: &ETag, state: &State) -> Outcome {
    let request = &context.request;
    let conditions = Conditions {
        if_match: request.header("if-match"),
        if_none_match: request.header("if-none-match"),
        if_modified_since: request.header("if-modified-since"),
        if_unmodified_since: request.header("if-unmodified-since"),
    };
    conditional::evaluate_read(&conditions, &etag.to_string(), metadata::last_modified(state).seconds)
}

fn select(context: &Context<'_>, state: &State) -> Result<Part, S3Error> {
    let size = state.size;
    if let Some(text) = context.query.value("partNumber") {
        if context.request.header_bytes("range").is_some() {
            return Err(S3Error::invalid_request("Cannot specify both Range header and partNumber query parameter"));
        }
        return select_part(text, state);
    }
    let range = context.request.header("range").filter(|_| if_range_holds(context, state));
    match http::select(range, size) {
        Range::Whole => Ok(Part { start: 0, length: size, status: 200, number: None }),
        Range::Bytes { start, end_inclusive } => Ok(Part { start, length: end_inclusive - start + 1, status: 206, number: None }),
        Range::Unsatisfiable => Err(S3Error::invalid_range(range.unwrap_or_default(), size)),
    }
}

/// `If-Range` (RFC 9110 section 13.1.5): a strong ETag that is still the object's, or exactly its date; else the whole.
fn if_range_holds(context: &Context<'_>, state: &State) -> bool {
    let Some(value) = context.request.header("if-range") else { return true };
    match crate::base::time::Timestamp::parse_http_date(value) {
        Some(date) => date.seconds == metadata::last_modified(state).seconds,
        None => conditional::etag_matches(value, &metadata::etag_of(state).to_string()),
    }
}

/// Part 1 of an object that was uploaded whole is the whole.
fn select_part(text: &str, state: &State) -> Result<Part, S3Error> {
    let invalid = || S3Error::new(Code::InvalidPartNumber);
    let number: u32 = text.parse().map_err(|_| invalid())?;
    let part = state.record.as_ref().and_then(|record| record.part(number));
    match part {
        Some((start, length)) if start + length <= state.size => {
            Ok(Part { start, length, status: if length == 0 { 200 } else { 206 }, number: Some(number) })
        }
        Some(_) => Err(invalid()),
        None if number == 1 && state.record.as_ref().is_none_or(|record| record.parts == 0) => {
            let status = if state.size == 0 { 200 } else { 206 };
            Ok(Part { start: 0, length: state.size, status, number: Some(number) })
        }
        None => Err(invalid()),
    }
}

/// The bytes of a small object, at once when they are cached. The file is looked at once more behind the read: what a POSIX
/// program changed in between is not sent under the old ETag.
async fn read_small(object: &Object, part: &Part) -> Result<Vec<u8>, S3Error> {
    let mut bytes = vec![0; part.length as usize];
    let cached = sys::file::read_cached_at(&object.file, &mut bytes, part.start);
    if !matches!(cached, Ok(Some(count)) if count == bytes.len()) {
        let file = duplicate(&object.file)?;
        let start = part.start;
        bytes = blocking(move || {
            sys::file::read_full_at(&file, &mut bytes, start).map(|count| (count == bytes.len()).then_some(bytes))
        })
        .await??
        .ok_or_else(changed)?;
        record::read(ReadFrom::Helper, bytes.len());
    } else {
        record::read(ReadFrom::PageCache, bytes.len());
    }
    if object::is_unchanged(&object.file, &object.state) { Ok(bytes) } else { Err(changed()) }
}

fn duplicate(file: &OwnedFd) -> Result<OwnedFd, S3Error> {
    file.try_clone().map_err(|_| S3Error::new(Code::SlowDown))
}

/// The file was changed while it was read: asked again, the client sees the new one.
fn changed() -> S3Error {
    S3Error::new(Code::SlowDown).message("The object was changed while it was read")
}

async fn send_large(
    exchange: &mut Exchange,
    context: &Context<'_>,
    object: Object,
    answer: Answer,
    part: &Part,
    request_id: &str,
) -> Result<Reply, S3Error> {
    let core = context.core;
    // What is open for reading without waiting must wait on the ring.
    sys::file::set_blocking(&object.file)?;
    let direct = object::open_direct(core.volume(), &object);
    let keep = context.request.keep_alive() && !exchange.drains() && context.request.framing() == http::Framing::None;
    let head = answer.render(core, request_id, context.request.connection(keep), false);
    let plan = SendPlan {
        file: &object.file,
        direct,
        offset: part.start,
        length: part.length,
        mode: core.settings.read_mode,
        is_unchanged: &|| object::is_unchanged(&object.file, &object.state),
    };
    let sent = match exchange.send(&head, true).await {
        Ok(()) => flow::send_file(exchange, &core.arena, plan).await,
        Err(error) => Err(Reading::Client(error)),
    };
    let after = match sent {
        Ok(()) if keep => After::Keep,
        Ok(()) => After::Close,
        Err(error) => {
            if !matches!(error, Reading::Client(_)) {
                tracing::warn!(request_id, bucket = context.bucket(), key = context.key(), ?error, "a download was cut off");
            }
            After::Abort
        }
    };
    Ok(Reply::Sent(Exchanged { after, status: answer.status, error: None }))
}
