//! PutObject: plan from the head, receive into an unnamed file, publish, wait for durability, answer.

use std::rc::Rc;

use super::answer::{Answer, Reply};
use super::body::Body;
use super::context::Context;
use super::error::{Code, S3Error};
use super::{metadata, refusal, small};
use crate::digest::checksum::Value;
use crate::flow::{self, Target};
use crate::http::conditional;
use crate::io::{DirectFile, blocking};
use crate::limits::SMALL_OBJECT_SIZE_MAX;
use crate::net::Exchange;
use crate::store::barrier::Ticket;
use crate::store::batch::Small;
use crate::store::commit::{self, Condition, Published, Upload};
use crate::store::object::{self, State};
use crate::store::record::Record;
use crate::store::{StoreError, bucket, key, stage};
use crate::sys;

/// `PUT /bucket/key`.
pub(super) async fn put_object(exchange: &mut Exchange, mut context: Context<'_>) -> Result<Reply, S3Error> {
    let record = metadata::record_of(&context)?;
    let condition = condition(&context)?;
    let mut body = Body::of_object(&mut context)?;
    let size_max = context.bounds.put_size_max;
    if let Some(size) = body.size.filter(|size| *size > size_max) {
        return Err(S3Error::too_large(size, size_max));
    }
    if context.request.expects_continue() {
        check_early(&context, condition.as_ref()).await?;
    }
    let (published, checksums) = match body.size {
        Some(size) if size <= SMALL_OBJECT_SIZE_MAX as u64 => {
            Box::pin(put_small(exchange, &context, body, record, condition)).await?
        }
        _ => {
            body.size = body.size.filter(|size| *size > 0);
            Box::pin(put_large(exchange, &context, body, record, condition)).await?
        }
    };
    durable(&context, published.ticket).await?;
    Ok(answer(&published, &checksums).into())
}

/// What would fail anyway fails before the client is asked to send its body: bucket and precondition. Both are decided again at
/// the publication.
async fn check_early(context: &Context<'_>, condition: Option<&Conditions>) -> Result<(), S3Error> {
    let settings = context.core.settings.clone();
    let (bucket_name, key) = (context.bucket().to_owned(), context.key().to_owned());
    let check = condition.map(Conditions::decide);
    let checked = blocking(move || {
        bucket::head(&settings.volume, &bucket_name)?;
        let Some(check) = check else { return Ok(()) };
        let now = match object::open(&settings.volume, &bucket_name, key.as_bytes()) {
            Ok(object) => Some(object.state),
            Err(StoreError::NoObject) => None,
            Err(error) => return Err(error),
        };
        if check(now.as_ref()) { Ok(()) } else { Err(StoreError::PreconditionFailed) }
    });
    match checked.await? {
        Err(error) => Err(failed(context, error, condition).await),
        Ok(()) => Ok(()),
    }
}

/// The whole object in memory, then everything about its file in one visit of a helper, in company where there is some.
async fn put_small(
    exchange: &mut Exchange,
    context: &Context<'_>,
    body: Body,
    mut record: Record,
    condition: Option<Conditions>,
) -> Result<(Published, Vec<Value>), S3Error> {
    let received = body.receive(exchange, SMALL_OBJECT_SIZE_MAX).await?;
    exchange.finish_body();
    metadata::add_checksums(&mut record, &received.checksums);
    let (bucket, key) = (context.bucket().to_owned(), context.key().as_bytes().to_vec());
    let (bytes, md5, condition_of_now) = (received.bytes, received.md5, condition.as_ref().map(Conditions::decide));
    let object = Small { bucket, key, bytes, md5, record, condition: condition_of_now };
    match small::commit(&context.core.settings, object).await? {
        Ok(published) => Ok((published, received.checksums)),
        Err(error) => Err(failed(context, error, condition.as_ref()).await),
    }
}

/// Blocks from the socket to the disk; the unaligned tail and the publication on a helper.
async fn put_large(
    exchange: &mut Exchange,
    context: &Context<'_>,
    mut body: Body,
    mut record: Record,
    condition: Option<Conditions>,
) -> Result<(Published, Vec<Value>), S3Error> {
    let refused = |error| refusal::store(error, context.bucket(), context.key());
    let (settings, size) = (context.core.settings.clone(), body.size);
    let (bucket, key) = (context.bucket().to_owned(), context.key().as_bytes().to_vec());
    let staged = blocking(move || {
        let location = key::locate(&key)?;
        stage::stage(&settings.volume, &bucket, &location.path, size, true)
    });
    let staged = staged.await?.map_err(refused)?;
    let file = Rc::new(
        DirectFile::new(staged.file.try_clone().map_err(|_| S3Error::new(Code::SlowDown))?)
            .map_err(|_| S3Error::new(Code::SlowDown))?,
    );
    body.invite(exchange).await?;
    let target = Target { file: file.clone(), offset: 0, size_max: context.bounds.put_size_max, is_closed: &|| false };
    let received = flow::receive_into_file(exchange, &context.core.arena, body.decoder, body.payload, target).await;
    close(file).await?;
    let received = match received {
        Ok(received) => received,
        Err(error) => {
            // Closing the last descriptor of up to 5 GiB without a name frees their extents: not on the core.
            blocking(move || drop(staged)).await?;
            return Err(error.into());
        }
    };
    exchange.finish_body();
    record.etag = received.digests.md5;
    metadata::add_checksums(&mut record, &received.digests.checksums);
    let settings = context.core.settings.clone();
    let (bucket, key) = (context.bucket().to_owned(), context.key().as_bytes().to_vec());
    let decide = condition.as_ref().map(Conditions::decide);
    let committed = blocking(move || {
        let tail_start = received.size - received.tail.len() as u64;
        let tail = (!received.tail.is_empty()).then_some((tail_start, received.tail));
        let upload = Upload { bucket, key, staged, size: received.size, tail, record, condition: decide };
        commit::commit(&settings.volume, upload)
    });
    match committed.await? {
        Ok(published) => Ok((published, received.digests.checksums)),
        Err(error) => Err(failed(context, error, condition.as_ref()).await),
    }
}

/// Closes the ring's descriptor: on filesystems that flush at close, its error is a lost write.
pub(super) async fn close(file: Rc<DirectFile>) -> Result<(), S3Error> {
    if let Ok(file) = Rc::try_unwrap(file) {
        file.close().await.map_err(|error| S3Error::from(sys::Errno::from_io_error(&error).unwrap_or(sys::Errno::IO)))?;
    }
    Ok(())
}

/// Waits until a change survives a power cut.
pub(super) async fn durable(context: &Context<'_>, ticket: Ticket) -> Result<(), S3Error> {
    Ok(context.core.volume().barrier().durable(ticket).await?)
}

fn answer(published: &Published, checksums: &[Value]) -> Answer {
    let mut answer = Answer::empty(200);
    let mut quoted = Vec::with_capacity(48);
    crate::digest::ETag::Md5(published.record.etag).write_quoted_into(&mut quoted);
    answer.header("ETag", &quoted);
    for value in checksums {
        answer.header(value.algorithm().header(), value.to_string().as_bytes());
    }
    if !checksums.is_empty() {
        answer.header("x-amz-checksum-type", b"FULL_OBJECT");
    }
    answer
}

/// `If-Match` and `If-None-Match` of a change.
#[derive(Clone, Default)]
pub(super) struct Conditions {
    if_match: Option<String>,
    if_none_match: Option<String>,
}

impl Conditions {
    /// The decision under the key's lock.
    pub(super) fn decide(&self) -> Condition {
        let this = self.clone();
        Box::new(move |now: Option<&State>| {
            let etag = now.map(|state| metadata::etag_of(state).to_string());
            let matches =
                this.if_match.as_ref().is_none_or(|list| etag.as_ref().is_some_and(|etag| conditional::etag_matches(list, etag)));
            let differs = this
                .if_none_match
                .as_ref()
                .is_none_or(|list| !etag.as_ref().is_some_and(|etag| conditional::etag_matches_weakly(list, etag)));
            matches && differs
        })
    }
}

/// The preconditions of a change, if there are any.
pub(super) fn condition(context: &Context<'_>) -> Result<Option<Conditions>, S3Error> {
    let owned = |value: Option<&str>| value.map(str::to_owned);
    let conditions =
        Conditions { if_match: owned(context.header("if-match")?), if_none_match: owned(context.header("if-none-match")?) };
    Ok((conditions.if_match.is_some() || conditions.if_none_match.is_some()).then_some(conditions))
}

/// A refused change in S3's words. `If-Match` on nothing is `NoSuchKey`
/// (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html>).
pub(super) async fn failed(context: &Context<'_>, error: StoreError, condition: Option<&Conditions>) -> S3Error {
    let Some(condition) = condition.filter(|_| error == StoreError::PreconditionFailed) else {
        return refusal::store(error, context.bucket(), context.key());
    };
    if condition.if_match.is_none() {
        return S3Error::precondition_failed("If-None-Match");
    }
    let settings = context.core.settings.clone();
    let (bucket, key) = (context.bucket().to_owned(), context.key().to_owned());
    let now = blocking(move || object::open(&settings.volume, &bucket, key.as_bytes()).map(drop)).await;
    match now {
        Ok(Err(StoreError::NoObject)) => S3Error::no_such_key(context.key()),
        _ => S3Error::precondition_failed("If-Match"),
    }
}
