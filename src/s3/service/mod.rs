//! The way in and out: from what arrived on a connection to the verb that answers it, and from its answer or error back to the
//! connection. What is asked is found out first; who asks is proved as the route says, and whether they may as it needs, once, for
//! all verbs.
//!
//! Imports `s3::verbs` and everything below. Limits: a request's head by `HEAD_SIZE_MAX`, what follows by its verb.

#[cfg(test)]
mod budget_tests;
#[cfg(test)]
mod death_tests;
mod health;
#[cfg(test)]
mod matrix_tests;
#[cfg(feature = "seams")]
mod seams;

use crate::auth::{self, Authenticated};
use crate::base::time::Timestamp;
use crate::config::REGION_DEFAULT;
use crate::http::{HeadError, Request};
use crate::limits::SMALL_ANSWER_SIZE_MAX;
use crate::metrics::record::{self, AtLimit};
use crate::net::{After, Arrival, Exchange, ReceivedHead};
use crate::s3::ask::address::{self, Address, BucketTarget, Target};
use crate::s3::ask::error::{Code, S3Error};
use crate::s3::ask::operation::{self, Counted, Credentials, Level, Operation, Route};
use crate::s3::ask::query::Query;
use crate::s3::ask::request_headers;
use crate::s3::plan::answer::{Answer, BUCKET_REGION, Exchanged, Reply};
use crate::s3::plan::context::Context;
pub use crate::s3::plan::core::{Core, Live, Settings};
use crate::s3::plan::{body, permit};
use crate::s3::verbs::{
    attributes, bucket, complete, copy, delete, get, list, multipart, put, unconfigured, versioning, versions,
};
use crate::store::disk::barrier::VolumeFailed;
use crate::store::disk::presence::Presence;

/// What was found out of a request on the way to its verb: for who tells of it afterwards.
#[derive(Default)]
struct Seen {
    address: Option<Address>,
    route: Option<&'static Route>,
    /// Who asked, if requests are logged.
    principal: Option<Box<str>>,
}

/// Serves what arrived on a connection.
pub async fn serve_exchange(core: &Core, exchange: &mut Exchange) -> After {
    let (request_id, live) = (core.request_id(), core.live());
    let mut seen = Seen::default();
    let (head, result) = match exchange.arrival() {
        Arrival::Request(head) => {
            let result = serve_request(core, &live, exchange, &head, &request_id, &mut seen).await;
            (Some(head), result)
        }
        Arrival::Refused(error) => (None, Err(refused(error))),
        Arrival::TimedOut => (None, Err(S3Error::new(Code::RequestTimeout))),
        Arrival::NoRoom => (None, Err(S3Error::new(Code::SlowDown))),
        Arrival::Panicked(head) => (Some(head), Err(S3Error::new(Code::InternalError))),
    };
    let exchanged = match result {
        Ok(Reply::Sent(exchanged)) => exchanged,
        Ok(Reply::Whole(answer)) => send(core, exchange, head.as_ref(), &answer, &request_id).await,
        Err(error) => {
            // Those who are turned away are counted: there may be any number.
            if exchange.has_place() {
                log_error(&error, head.as_ref(), &request_id);
            }
            let resource = head.as_ref().map(|head| String::from_utf8_lossy(head.request().path()).into_owned());
            let mut answer = Answer::error(&error, resource.as_deref().unwrap_or_default(), &request_id);
            if let (Some(head), Some(address)) = (&head, &seen.address) {
                add_resource_headers(core, &head.request(), &address.target, &error, &mut answer);
            }
            let sent = send(core, exchange, head.as_ref(), &answer, &request_id).await;
            Exchanged { error: Some(error.code()), ..sent }
        }
    };
    exchange.answered(exchanged.error_class());
    if live.log_requests {
        log_request(exchange, head.as_ref(), &request_id, &seen, exchanged.status);
    }
    match &head {
        Some(head) if exchanged.after == After::Keep && !body::skip(exchange, &head.request()).await => After::Close,
        _ => exchanged.after,
    }
}

async fn serve_request(
    core: &Core,
    live: &Live,
    exchange: &mut Exchange,
    head: &ReceivedHead,
    request_id: &str,
    seen: &mut Seen,
) -> Result<Reply, S3Error> {
    let request = head.request();
    if let Some(answer) = health::answer(core, &request) {
        exchange.counts_as(Counted::Health.into());
        if !exchange.has_place() {
            record::at_limit(AtLimit::Health);
        }
        return Ok(answer.into());
    }
    if !exchange.may_be_served() {
        record::at_limit(AtLimit::TurnedAway);
        return Err(S3Error::new(Code::SlowDown));
    }
    let query = Query::parse(request.query())?;
    let address = seen.address.insert(address::parse(request.path(), request.host(), &live.domains)?);
    let (target, is_virtual_hosted) = (&address.target, address.is_virtual_hosted);
    let route = *seen.route.insert(route(&request, &query, target)?);
    exchange.counts_as(route.operation.counted().into());
    let Authenticated { principal, kind, payload } = match route.credentials {
        Credentials::Signature(service) => authenticate(core, live, &request, service)?,
        // It signs something else than its head, or nothing at all.
        Credentials::Form | Credentials::None => Authenticated::anonymous(),
    };
    if kind != auth::Kind::Anonymous {
        exchange.signature_held();
    }
    seen.principal = live.log_requests.then(|| principal.arn.clone());
    let is_presigned = kind == auth::Kind::Presigned;
    let query = &query;
    let context = Context { core, live, principal, request, query, target, is_virtual_hosted, route, payload, is_presigned };
    if !matches!(route.credentials, Credentials::Signature(_)) {
        // What it asks for is not in its head.
        return without_verb(route.operation, &context);
    }
    permit::request(&context)?;
    target.check(route.operation == Operation::CreateBucket)?;
    let account = request_headers::Account { id: &context.owner().id };
    request_headers::check(route.operation, account, context.request.headers())?;
    request_headers::check_query(route.operation, account, is_presigned, query.pairs())?;
    if core.disk().presence() == Presence::Gone {
        return Err(VolumeFailed.into());
    }
    #[cfg(feature = "seams")]
    seams::panic_if_asked(&context).await?;
    match target {
        Target::Service => of_service(exchange, context).await,
        Target::Bucket(bucket) => of_bucket(exchange, context.about(bucket)).await,
        Target::Object(object) => of_object(exchange, context.about(object), request_id).await,
    }
}

// Boxed one by one, a small request does not pay for the largest verb's state, nor does a stalled one.

async fn of_service(exchange: &mut Exchange, context: Context<'_, Target>) -> Result<Reply, S3Error> {
    match context.route.operation {
        Operation::ListBuckets => Box::pin(bucket::list(exchange, &context)).await,
        other => without_verb(other, &context),
    }
}

async fn of_bucket(exchange: &mut Exchange, context: Context<'_, BucketTarget>) -> Result<Reply, S3Error> {
    match context.route.operation {
        Operation::CreateBucket => Box::pin(bucket::create(exchange, context)).await,
        Operation::HeadBucket => bucket::head(&context).await,
        Operation::DeleteBucket => bucket::delete(exchange, &context).await,
        Operation::GetBucketVersioning => versioning::get(&context).await,
        Operation::PutBucketVersioning => Box::pin(versioning::put(exchange, context)).await,
        Operation::GetBucketLocation => bucket::location(&context).await,
        Operation::ListObjects => Box::pin(list::list_objects(exchange, &context)).await,
        Operation::ListObjectsV2 => Box::pin(list::list_objects_v2(exchange, &context)).await,
        Operation::ListObjectVersions => Box::pin(versions::list_object_versions(exchange, &context)).await,
        Operation::ListMultipartUploads => Box::pin(multipart::list_uploads(exchange, &context)).await,
        Operation::DeleteObjects => Box::pin(delete::delete_objects(exchange, context)).await,
        Operation::Unconfigured(feature) => {
            bucket::find(&context).await?;
            unconfigured(&context, feature, context.bucket(), None)
        }
        other => without_verb(other, &context),
    }
}

async fn of_object(exchange: &mut Exchange, context: Context<'_>, request_id: &str) -> Result<Reply, S3Error> {
    match context.route.operation {
        Operation::GetObjectAttributes => attributes::get_object_attributes(&context).await,
        Operation::PutObject => Box::pin(put::put_object(exchange, context)).await,
        Operation::GetObject => get::get_object(exchange, &context, request_id).await,
        Operation::HeadObject => get::head_object(&context).await,
        Operation::DeleteObject => delete::delete_object(&context).await,
        Operation::CopyObject => Box::pin(copy::copy_object(exchange, context, request_id)).await,
        Operation::CreateMultipartUpload => Box::pin(multipart::create(&context)).await,
        Operation::UploadPart => Box::pin(multipart::upload_part(exchange, context)).await,
        Operation::UploadPartCopy => Box::pin(copy::upload_part_copy(exchange, context, request_id)).await,
        Operation::CompleteMultipartUpload => Box::pin(complete::complete_multipart_upload(exchange, context, request_id)).await,
        Operation::AbortMultipartUpload => multipart::abort(&context).await,
        Operation::ListParts => multipart::list_parts(&context).await,
        Operation::Unconfigured(feature) => {
            get::find(&context).await?;
            unconfigured(&context, feature, context.bucket(), Some(context.key()))
        }
        other => without_verb(other, &context),
    }
}

/// What no level has a verb for.
fn without_verb<T>(operation: Operation, context: &Context<'_, T>) -> Result<Reply, S3Error> {
    match operation {
        // No bucket has a CORS configuration yet.
        Operation::Preflight => Err(S3Error::new(Code::AccessForbidden)),
        // The table's rows name the level of each verb: `matrix_tests` sends every one.
        _ => Err(context.route.not_built()),
    }
}

/// Reads of features that are not built, on a bucket and object that are there.
fn unconfigured<T>(
    context: &Context<'_, T>,
    feature: operation::Unconfigured,
    bucket: &str,
    key: Option<&str>,
) -> Result<Reply, S3Error> {
    let account = context.owner();
    let owner = crate::xml::Owner { id: &account.canonical_id, display_name: &account.display_name };
    Ok(Answer::xml(200, unconfigured::answer(feature, &unconfigured::Subject { bucket, key, owner })?).into())
}

fn authenticate<'c>(
    core: &Core,
    live: &'c Live,
    request: &Request<'_>,
    service: auth::Service,
) -> Result<Authenticated<'c>, S3Error> {
    let headers: Vec<(&[u8], &[u8])> = request.headers().map(|(name, value)| (name.as_bytes(), value)).collect();
    // Version 4 signs the host itself; only Version 2 needs to know what it means.
    let host = request.host().filter(|_| live.allow_sigv2);
    let host_bucket = host.and_then(|host| address::bucket_of_host(host, &live.domains));
    let signed = auth::SignedRequest {
        method: request.method(),
        path: request.path(),
        query: request.query().unwrap_or_default(),
        host: request.host().unwrap_or_default().as_bytes(),
        host_bucket: host_bucket.as_deref(),
        headers: headers.as_slice(),
    };
    let (region, now) = (core.settings.region.as_deref(), Timestamp::now());
    let scope = auth::Scope { region, service, now, accepts_version_2: live.allow_sigv2 };
    core.verifier.borrow_mut().authenticate(&signed, &*live.credentials, &scope).map_err(S3Error::from)
}

fn route(request: &Request<'_>, query: &Query<'_>, target: &Target) -> Result<&'static Route, S3Error> {
    operation::route(&operation::Request {
        method: request.method(),
        level: target.level(),
        query: query.pairs(),
        has_copy_source: request.header_bytes("x-amz-copy-source").is_some(),
        content_type: request.header("content-type"),
    })
}

/// What an error says of the resource in its head.
fn add_resource_headers(core: &Core, request: &Request<'_>, target: &Target, error: &S3Error, answer: &mut Answer) {
    let says_what_is_allowed = error.headers().iter().any(|(name, _)| *name == "Allow");
    if error.status() == 405
        && !says_what_is_allowed
        && let Ok(query) = Query::parse(request.query())
    {
        // RFC 9110 section 15.5.6.
        answer.header("Allow", operation::allowed(target.level(), query.pairs()).as_bytes());
    }
    // Go's `GetBucketRegion` sends HeadBucket without a signature and reads it of the 403
    // (https://docs.aws.amazon.com/AmazonS3/latest/API/API_HeadBucket.html). What is not there has none.
    let may_be_head_bucket = request.method() == "HEAD" && error.status() != 404;
    let is_told = error.fields().iter().any(|(name, _)| *name == "Region");
    if may_be_head_bucket && target.level() == Level::Bucket && !is_told {
        answer.header(BUCKET_REGION, core.settings.region.as_deref().unwrap_or(REGION_DEFAULT).as_bytes());
    }
}

/// Sends an answer that is in memory, and decides whether the connection can go on: only when the end of the request's body can
/// be reached.
async fn send(core: &Core, exchange: &mut Exchange, head: Option<&ReceivedHead>, answer: &Answer, request_id: &str) -> Exchanged {
    let request = head.map(ReceivedHead::request);
    let keep = request.is_some_and(|request| request.keep_alive() && body::can_be_skipped(exchange, &request));
    let head_only = head.is_some_and(|head| head.request().method() == "HEAD");
    let keep = keep && !exchange.drains();
    let connection = request.map_or(Some("close"), |request| request.connection(keep));
    let sent = if head_only || answer.body.len() <= SMALL_ANSWER_SIZE_MAX {
        exchange.send(&answer.render(core, request_id, connection, head_only), false).await
    } else {
        // Not once more in memory.
        let head = answer.render_head(core, request_id, connection, 0);
        match exchange.send(&head, true).await {
            Ok(()) => exchange.send(&answer.body, false).await,
            gone => gone,
        }
    };
    let after = match sent {
        Ok(()) if keep => After::Keep,
        Ok(()) => After::Close,
        Err(_) => After::Abort,
    };
    Exchanged { after, status: answer.status, error: None }
}

fn refused(error: HeadError) -> S3Error {
    match error.status() {
        414 => S3Error::new(Code::URITooLong),
        431 => S3Error::new(Code::RequestHeaderSectionTooLarge),
        501 => S3Error::new(Code::NotImplemented),
        _ => S3Error::new(Code::BadRequest),
    }
}

fn log_error(error: &S3Error, head: Option<&ReceivedHead>, request_id: &str) {
    let (method, path) = method_and_path(head);
    match (error.code(), error.status()) {
        // What clients probe for and is not built is no fault.
        (Code::NotImplemented, _) | (_, ..500) => {
            tracing::debug!(request_id, method, path, code = error.code().as_str(), message = error.text(), "request refused")
        }
        // It passes.
        (Code::SlowDown, _) => {
            tracing::warn!(request_id, method, path, code = error.code().as_str(), message = error.text(), "request put off")
        }
        _ => tracing::error!(request_id, method, path, code = error.code().as_str(), message = error.text(), "request failed"),
    }
}

fn log_request(exchange: &Exchange, head: Option<&ReceivedHead>, request_id: &str, seen: &Seen, status: u16) {
    let (method, path) = method_and_path(head);
    let (principal, operation) = (seen.principal.as_deref(), seen.route.map(|route| route.name));
    let (peer, bytes) = (exchange.peer().map(|peer| peer.to_string()), exchange.bytes_sent());
    let elapsed_us = exchange.started().elapsed().as_micros() as u64;
    tracing::info!(request_id, peer, principal, operation, method, path, status, bytes, elapsed_us, "request");
}

/// Without the query, which may hold a signature.
fn method_and_path(head: Option<&ReceivedHead>) -> (String, String) {
    let Some(head) = head else { return (String::new(), String::new()) };
    let request = head.request();
    (request.method().to_owned(), String::from_utf8_lossy(request.path()).into_owned())
}
