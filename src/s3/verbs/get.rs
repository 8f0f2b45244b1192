//! GetObject and HeadObject.

use super::multipart;
use crate::base::time::Timestamp;
use crate::base::version_id::Version;
use crate::config::VerifyReads;
use crate::digest::ETag;
use crate::digest::checksum::{Kind, Value};
use crate::flow::{self, Reading, SendPlan};
use crate::http::conditional::{self, Conditions, Outcome};
use crate::http::{self, Range};
use crate::io::{Work, blocking};
use crate::limits::{SMALL_OBJECT_SIZE_MAX, UNLEASED_SIZE_MAX};
use crate::mem::Lease;
use crate::metrics::record::{self, Opened, ReadFrom};
use crate::net::{After, Exchange};
use crate::s3::ask::error::{Code, S3Error};
use crate::s3::plan::answer::{Answer, Exchanged, Reply};
use crate::s3::plan::context::Context;
use crate::s3::plan::{metadata, refusal};
use crate::store::objects::open::{Object, State};
use crate::store::objects::recent::RecentObject;
use crate::store::objects::versions::Found;
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
pub async fn get_object(exchange: &mut Exchange, context: &Context<'_>, request_id: &str) -> Result<Reply, S3Error> {
    metadata::check_overrides(context)?;
    let wanted = Wanted::of(context)?;
    if wanted.is_remembered
        && let Some(rendered) = from_memory(context, |recent| get_recent(exchange, context, recent, request_id))
    {
        return send_small(exchange, rendered?).await;
    }
    let opened_ns = sys::clock::realtime_ns();
    let Found { object, version } = wanted.find(context).await?;
    let (mut answer, part) = describe(context, &object.state)?;
    answer.version(version);
    match room_for(context, &part) {
        Some(lease) => answer.lease = lease,
        // Boxed: the small ones, which are most, do without its state.
        None => return Box::pin(send_large(exchange, context, object, answer, &part, request_id)).await,
    }
    if part.length > 0 {
        let (bytes, from) = flow::read_small(&object, part.start, part.length as usize).await.map_err(unread)?;
        if from != ReadFrom::PageCache || context.live.verify_reads == VerifyReads::Always {
            check(context, &object.state, &part, &bytes)?;
        }
        answer.body = bytes;
    }
    wanted.remember(context, object, opened_ns);
    Ok(answer.into())
}

/// `HEAD /bucket/key`.
pub async fn head_object(context: &Context<'_>) -> Result<Reply, S3Error> {
    metadata::check_overrides(context)?;
    let wanted = Wanted::of(context)?;
    if wanted.is_remembered
        && let Some(answer) = from_memory(context, |recent| Some(describe(context, &recent.state)))
    {
        return answer.map(|(answer, _)| answer.into());
    }
    let opened_ns = sys::clock::realtime_ns();
    let Found { object, version } = wanted.find(context).await?;
    let (mut answer, _) = describe(context, &object.state)?;
    answer.version(version);
    wanted.remember(context, object, opened_ns);
    Ok(answer.into())
}

/// What `answer` makes of the object as this core saw it a moment ago, if it is still the same afterwards. `answer` does not wait:
/// what it read was then true until now.
fn from_memory<T>(
    context: &Context<'_>,
    answer: impl FnOnce(&RecentObject) -> Option<Result<T, S3Error>>,
) -> Option<Result<T, S3Error>> {
    let core = context.core;
    let recent = core.recent.borrow_mut().find(core.disk().bucket(context.bucket()), context.key().as_bytes())?;
    let answered = answer(&recent);
    if recent.is_current(core.disk()) {
        record::opened(Opened::Remembered);
        return answered;
    }
    core.recent.borrow_mut().forget_object(&recent);
    None
}

/// A whole answer, ready to be sent.
struct Rendered {
    bytes: Vec<u8>,
    _lease: Option<Lease>,
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
    let lease = room_for(context, &part)?;
    let keep = context.request.keep_alive() && !exchange.drains();
    let length = part.length as usize;
    let mut bytes = answer.render_head(context.core, request_id, context.request.connection(keep), length);
    if !flow::append_cached(file, &mut bytes, part.start, length) {
        return None;
    }
    // Somebody's edit of a moment ago, or worse: it is read again, and then it shows.
    let compares = context.live.verify_reads == VerifyReads::Always;
    if compares && expected(&recent.state, &part).is_some_and(|expected| !expected.is_of(&bytes[bytes.len() - length..])) {
        return None;
    }
    Some(Ok(Rendered { bytes, _lease: lease, keep, status: answer.status }))
}

/// Room for the bytes of a small object in memory, of which some lines need none. `None`: it goes by blocks.
fn room_for(context: &Context<'_>, part: &Part) -> Option<Option<Lease>> {
    match part.length as usize {
        ..=UNLEASED_SIZE_MAX => Some(None),
        // Twice: the object, and the answer that it is copied into.
        length @ ..=SMALL_OBJECT_SIZE_MAX => context.core.room.try_take(2 * length).map(Some),
        _ => None,
    }
}

async fn send_small(exchange: &mut Exchange, rendered: Rendered) -> Result<Reply, S3Error> {
    let Rendered { bytes, keep, status, _lease } = rendered;
    let after = match exchange.send(&bytes, false).await {
        Ok(()) if keep => After::Keep,
        Ok(()) => After::Close,
        Err(_) => After::Abort,
    };
    Ok(Reply::Sent(Exchanged { after, status, error: None }))
}

/// Opens the version that is asked for, or the object as it is now.
pub async fn find(context: &Context<'_>) -> Result<Found, S3Error> {
    Wanted::of(context)?.find(context).await
}

/// What of a key is asked for.
#[derive(Clone, Copy)]
struct Wanted {
    version: Option<Version>,
    /// It is the file that has the key's name, and nothing else can be: a core may remember it.
    is_remembered: bool,
}

impl Wanted {
    fn of(context: &Context<'_>) -> Result<Self, S3Error> {
        let version = context.version()?;
        let keeps_versions = context.core.volume().bucket(context.bucket()).rules().is_some();
        Ok(Self { version, is_remembered: !keeps_versions && !matches!(version, Some(Version::Id(_))) })
    }

    /// Opens it: at once when everything about it is in memory, else on a helper.
    async fn find(self, context: &Context<'_>) -> Result<Found, S3Error> {
        let (bucket, key, wanted) = (context.bucket(), context.key(), self.version);
        let refused = |error| refusal::version(error, bucket, key, context.request.method(), wanted);
        if self.is_remembered
            && let Some(object) = context.core.volume().bucket(bucket).open_cached(key.as_bytes()).map_err(refused)?
        {
            record::opened(Opened::Cached);
            return Ok(Found { object, version: None });
        }
        record::opened(Opened::Helper);
        let settings = context.core.settings.clone();
        let (bucket, key) = (bucket.to_owned(), key.to_owned());
        let opened = blocking(Work::Read, move || settings.volume.bucket(&bucket).open_version(key.as_bytes(), wanted)).await?;
        opened.map_err(refused)
    }

    fn remember(self, context: &Context<'_>, object: Object, opened_ns: i64) {
        // A bucket that has begun to keep versions meanwhile: the next look is by version.
        if self.is_remembered {
            context.core.remember(context.bucket(), context.key(), object, opened_ns);
        }
    }
}

/// Decides by conditions, `Range` and `partNumber` what is answered, and writes the head's object headers.
fn describe(context: &Context<'_>, state: &State) -> Result<(Answer, Part), S3Error> {
    let etag = metadata::etag_of(state);
    match evaluate(context, &etag, state)? {
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

fn evaluate(context: &Context<'_>, etag: &ETag, state: &State) -> Result<Outcome, S3Error> {
    let request = &context.request;
    let (if_match, if_none_match) = (context.entity_tags("if-match")?, context.entity_tags("if-none-match")?);
    let conditions = Conditions {
        if_match: if_match.as_deref(),
        if_none_match: if_none_match.as_deref(),
        if_modified_since: request.header("if-modified-since"),
        if_unmodified_since: request.header("if-unmodified-since"),
    };
    if conditions.are_none() {
        return Ok(Outcome::Proceed);
    }
    let modified_s = metadata::last_modified(state).seconds;
    Ok(conditional::evaluate_read(&conditions, &etag.to_string(), modified_s, Timestamp::now()))
}

fn select(context: &Context<'_>, state: &State) -> Result<Part, S3Error> {
    let size = state.size;
    if context.query.value("partNumber").is_some() {
        if context.request.header_bytes("range").is_some() {
            return Err(S3Error::invalid_request("Cannot specify both Range header and partNumber query parameter"));
        }
        return select_part(multipart::part_number(context)?, state);
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
    match Timestamp::parse_http_date(value, Timestamp::now()) {
        Some(date) => date.seconds == metadata::last_modified(state).seconds,
        None => conditional::etag_matches(value, &metadata::etag_of(state).to_string()),
    }
}

/// Part 1 of an object that was uploaded whole is the whole.
fn select_part(number: u32, state: &State) -> Result<Part, S3Error> {
    let count = state.record.as_ref().map_or(0, |record| record.parts).max(1);
    let invalid = || {
        let error = S3Error::new(Code::InvalidPartNumber).with("ActualPartCount", count.to_string());
        error.with("PartNumberRequested", number.to_string())
    };
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

/// What the object's bytes must come to, if this part is all of them: the checksum that it was stored with, where that costs next to
/// nothing.
fn expected(state: &State, part: &Part) -> Option<Value> {
    let checksum = state.record.as_ref()?.checksum.filter(|checksum| checksum.kind == Kind::FullObject)?;
    (part.start == 0 && part.length == state.size && checksum.algorithm().is_cheap()).then_some(checksum.value)
}

/// Compares a small object, which is in memory, with what was stored.
fn check(context: &Context<'_>, state: &State, part: &Part, bytes: &[u8]) -> Result<(), S3Error> {
    match expected(state, part) {
        Some(expected) if !expected.is_of(bytes) => {
            corrupt(context);
            Err(S3Error::new(Code::InternalError).message("The object's bytes are not those that were stored"))
        }
        _ => Ok(()),
    }
}

/// Somebody's disk, memory or hand has changed an object without a trace in its times.
fn corrupt(context: &Context<'_>) {
    record::corrupt();
    tracing::error!(bucket = context.bucket(), key = context.key(), "an object's bytes are not those that were stored");
}

/// A small object that could not be read. One that was changed meanwhile: asked again, the client sees the new one.
fn unread(error: Reading) -> S3Error {
    match error {
        Reading::Disk(errno) => errno.into(),
        _ => S3Error::new(Code::SlowDown).message("The object was changed while it was read"),
    }
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
    let direct = object.open_direct(core.disk());
    let keep = context.request.keep_alive() && !exchange.drains() && context.request.framing() == http::Framing::None;
    let head = answer.render(core, request_id, context.request.connection(keep), false);
    let plan = SendPlan {
        file: &object.file,
        direct,
        offset: part.start,
        length: part.length,
        mode: core.settings.read_mode,
        is_unchanged: &|| object.is_unchanged(),
        expected: expected(&object.state, part),
        always_compares: context.live.verify_reads == VerifyReads::Always,
    };
    let sent = match exchange.send(&head, true).await {
        Ok(()) => flow::send_file(exchange, &core.arena, &core.room, plan).await,
        Err(error) => Err(Reading::Client(error)),
    };
    let after = match sent {
        Ok(()) if keep => After::Keep,
        Ok(()) => After::Close,
        Err(error) => {
            if error == Reading::Corrupt {
                corrupt(context);
            }
            if !matches!(error, Reading::Client(_)) {
                tracing::warn!(request_id, bucket = context.bucket(), key = context.key(), ?error, "a download was cut off");
            }
            After::Abort
        }
    };
    Ok(Reply::Sent(Exchanged { after, status: answer.status, error: None }))
}
