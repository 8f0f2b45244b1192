//! PutObject: plan from the head, receive into an unnamed file, publish, wait for durability, answer.

use std::borrow::Cow;

use crate::digest::checksum::{Algorithm, Value};
use crate::flow;
use crate::http::conditional;
use crate::io::{Work, blocking};
use crate::limits::SMALL_OBJECT_SIZE_MAX;
use crate::net::Exchange;
use crate::s3::ask::error::S3Error;
use crate::s3::plan::answer::{Answer, Reply};
use crate::s3::plan::body::{Body, Destination};
use crate::s3::plan::context::Context;
use crate::s3::plan::{metadata, refusal};
use crate::store::disk::barrier::Ticket;
use crate::store::error::StoreError;
use crate::store::names::key;
use crate::store::names::record::Record;
use crate::store::objects::batch::Small;
use crate::store::objects::commit::{FilledFile, commit};
use crate::store::objects::open::State;
use crate::store::objects::write::{Condition, Published, Write};

/// `PUT /bucket/key`.
pub async fn put_object(exchange: &mut Exchange, mut context: Context<'_>) -> Result<Reply, S3Error> {
    let record = metadata::record_of(&context)?;
    let condition = condition(&context)?;
    let mut body = Body::of_object(&mut context)?;
    let size_max = context.live.put_size_max;
    if let Some(size) = body.size.filter(|size| *size > size_max) {
        return Err(S3Error::too_large(size, size_max));
    }
    if body.payload.sent().is_none() {
        body.compute(Algorithm::DEFAULT);
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
    let checked = blocking(Work::Read, move || {
        settings.volume.bucket(&bucket_name).head()?;
        let Some(check) = check else { return Ok(()) };
        let now = match settings.volume.bucket(&bucket_name).open(key.as_bytes()) {
            Ok(object) => Some(object.state),
            Err(StoreError::NoObject) => None,
            Err(error) => return Err(error),
        };
        if check(now.as_ref()) { Ok(()) } else { Err(StoreError::PreconditionFailed { was_there: now.is_some() }) }
    });
    match checked.await? {
        Err(error) => Err(failed(context, error, condition)),
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
    let received = body.receive(exchange, context.core, SMALL_OBJECT_SIZE_MAX).await?;
    exchange.finish_body();
    metadata::add_checksums(&mut record, &received.checksums);
    let (bucket, key) = (context.bucket().to_owned(), context.key().as_bytes().to_vec());
    let (bytes, md5, condition_of_now) = (received.bytes, received.md5, condition.as_ref().map(Conditions::decide));
    let write = Write { bucket, key, record, condition: condition_of_now };
    match flow::commit_small(context.core.disk(), Small { write, bytes, md5 }).await? {
        Ok(published) => Ok((published, received.checksums)),
        Err(error) => Err(failed(context, error, condition.as_ref())),
    }
}

/// Blocks from the socket to the disk; the unaligned tail and the publication on a helper.
async fn put_large(
    exchange: &mut Exchange,
    context: &Context<'_>,
    body: Body,
    mut record: Record,
    condition: Option<Conditions>,
) -> Result<(Published, Vec<Value>), S3Error> {
    let refused = |error| refusal::store(error, context.bucket(), context.key());
    let (settings, size) = (context.core.settings.clone(), body.size);
    let (bucket, key) = (context.bucket().to_owned(), context.key().as_bytes().to_vec());
    let staged = blocking(Work::Commit, move || {
        let location = key::locate(&key)?;
        settings.volume.bucket(&bucket).stage(&location.path, size, true)
    });
    let staged = staged.await?.map_err(refused)?;
    let destination = Destination { file: &staged.file, offset: 0, size_max: context.live.put_size_max, is_closed: &|| false };
    let received = match body.fill(exchange, &context.core.arena, destination).await {
        Ok(received) => received,
        Err(error) => {
            // Closing the last descriptor of up to 5 GiB without a name frees their extents: not on the core.
            blocking(Work::Remove, move || drop(staged)).await?;
            return Err(error.into());
        }
    };
    record.etag = received.digests.md5;
    metadata::add_checksums(&mut record, &received.digests.checksums);
    let settings = context.core.settings.clone();
    let (bucket, key) = (context.bucket().to_owned(), context.key().as_bytes().to_vec());
    let decide = condition.as_ref().map(Conditions::decide);
    let turn = settings.volume.bucket(&bucket).turn(&key).await;
    let committed = blocking(Work::Commit, move || {
        let tail_start = received.size - received.tail.len() as u64;
        let tail = (!received.tail.is_empty()).then_some((tail_start, received.tail));
        let write = Write { bucket, key, record, condition: decide };
        commit(settings.volume.disk(), write, FilledFile { staged, size: received.size, tail })
    });
    let committed = committed.await?;
    drop(turn);
    match committed {
        Ok(published) => Ok((published, received.digests.checksums)),
        Err(error) => Err(failed(context, error, condition.as_ref())),
    }
}

/// Waits until a change survives a power cut.
pub async fn durable<T>(context: &Context<'_, T>, ticket: Ticket) -> Result<(), S3Error> {
    Ok(context.core.disk().barrier().durable(ticket).await?)
}

fn answer(published: &Published, checksums: &[Value]) -> Answer {
    let mut answer = Answer::taken(published.record.etag, checksums);
    if !checksums.is_empty() {
        answer.own_header("x-amz-checksum-type", b"FULL_OBJECT");
    }
    answer.version(published.version);
    answer
}

/// `If-Match` and `If-None-Match` of a change.
#[derive(Clone, Default)]
pub struct Conditions {
    if_match: Option<String>,
    if_none_match: Option<String>,
}

impl Conditions {
    /// The decision under the key's lock.
    pub fn decide(&self) -> Condition {
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
pub fn condition(context: &Context<'_>) -> Result<Option<Conditions>, S3Error> {
    let owned = |name| context.entity_tags(name).map(|list| list.map(Cow::into_owned));
    let conditions = Conditions { if_match: owned("if-match")?, if_none_match: owned("if-none-match")? };
    Ok((conditions.if_match.is_some() || conditions.if_none_match.is_some()).then_some(conditions))
}

/// A refused change in S3's words. `If-Match` on nothing is `NoSuchKey`
/// (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html>).
pub fn failed(context: &Context<'_>, error: StoreError, condition: Option<&Conditions>) -> S3Error {
    match (error, condition) {
        (StoreError::PreconditionFailed { .. }, Some(Conditions { if_match: None, .. })) => {
            S3Error::precondition_failed("If-None-Match")
        }
        (StoreError::PreconditionFailed { was_there: false }, Some(_)) => S3Error::no_such_key(context.key()),
        (StoreError::PreconditionFailed { .. }, Some(_)) => S3Error::precondition_failed("If-Match"),
        (error, _) => refusal::store(error, context.bucket(), context.key()),
    }
}
