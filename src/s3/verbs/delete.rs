//! DeleteObject and DeleteObjects.

use std::borrow::Cow;

use super::put::durable;
use crate::base::time::Timestamp;
use crate::base::version_id::Version;
use crate::digest::Algorithm;
use crate::flow::Received;
use crate::http::conditional;
use crate::io::{Work, blocking, blocking_for};
use crate::limits::XML_SIZE_MAX;
use crate::net::Exchange;
use crate::s3::ask::address;
use crate::s3::ask::address::BucketTarget;
use crate::s3::ask::error::{Code, S3Error};
use crate::s3::plan::answer::{Answer, DELETE_MARKER, Reply};
use crate::s3::plan::body::Body;
use crate::s3::plan::context::Context;
use crate::s3::plan::permit::{self, Permitted};
use crate::s3::plan::{metadata, refusal};
use crate::store::error::StoreError;
use crate::store::objects::Deleted as Removed;
use crate::store::objects::open::State;
use crate::store::objects::write::Condition;
use crate::store::volume::Volume;
use crate::xml::{self, DeleteError, DeleteResult, Deleted, ObjectIdentifier};

/// What must hold of an object before it is deleted.
#[derive(Clone, Default)]
struct Preconditions {
    if_match: Option<String>,
    size: Option<u64>,
    last_modified_s: Option<i64>,
}

/// `DELETE /bucket/key`. A key that is not there is gone: 204, as S3 (JuiceFS relies on it).
pub async fn delete_object(context: &Context<'_>) -> Result<Reply, S3Error> {
    let wanted = context.version()?;
    let preconditions = Preconditions::of_headers(context)?;
    let settings = context.core.settings.clone();
    let (bucket, key) = (context.bucket().to_owned(), context.key().to_owned());
    let turn = settings.volume.bucket(&bucket).turn(key.as_bytes()).await;
    let deleted = blocking(Work::Commit, move || {
        let condition = preconditions.condition();
        remove(&settings.volume, &bucket, key.as_bytes(), wanted, condition.as_ref())
    });
    let deleted = deleted.await?;
    drop(turn);
    let refused = |error| refusal::version(error, context.bucket(), context.key(), context.request.method(), wanted);
    let deleted = deleted.map_err(refused)?;
    durable(context, deleted.ticket).await?;
    let mut answer = Answer::empty(204);
    answer.version(deleted.version);
    if deleted.is_marker {
        answer.own_header(DELETE_MARKER, b"true");
    }
    Ok(answer.into())
}

/// The object, over which a bucket that keeps versions lays a marker; or one version for good.
fn remove(
    volume: &Volume,
    bucket: &str,
    key: &[u8],
    version: Option<Version>,
    condition: Option<&Condition>,
) -> Result<Removed, StoreError> {
    match version {
        None => volume.bucket(bucket).delete(key, condition),
        Some(version) => volume.bucket(bucket).delete_version(key, version, condition),
    }
}

/// `POST /bucket?delete`: up to 1,000 keys, one barrier.
pub async fn delete_objects(exchange: &mut Exchange, mut context: Context<'_, BucketTarget>) -> Result<Reply, S3Error> {
    let has_digest = context.request.header_bytes("content-md5").is_some()
        || context.request.header_bytes("x-amz-trailer").is_some()
        || context.request.headers().any(|(name, _)| Algorithm::from_header(name.as_bytes()).is_some());
    if !has_digest {
        return Err(S3Error::invalid_request("Missing required header for this request: Content-MD5 OR x-amz-checksum-*"));
    }
    let body = Body::of_document(&mut context)?;
    let size_max = XML_SIZE_MAX.min(context.live.xml_size_max);
    if body.size.is_some_and(|size| size > size_max as u64) {
        return Err(S3Error::new(Code::MaxMessageLengthExceeded));
    }
    let Received { bytes, lease, .. } = body.receive_document(exchange, context.core, size_max).await?;
    exchange.finish_body();
    let request = xml::parse_delete(&bytes)?;
    drop(bytes);
    let settings = context.core.settings.clone();
    let bucket_name = context.bucket().to_owned();
    let (quiet, objects) = (request.quiet, request.objects);
    // As S3, which refuses a name that no key has before it deletes anything.
    objects.iter().try_for_each(|object| address::check_key(&object.key))?;
    let asked: Vec<Asked> = objects.into_iter().map(|object| permit::key(&context, context.bucket(), object)).collect();
    let client = exchange.peer().map(|peer| peer.ip());
    let deleted = blocking_for(client, Work::Remove, move || {
        let volume = &settings.volume;
        volume.bucket(&bucket_name).head()?;
        let outcomes: Vec<_> = asked.into_iter().map(|object| delete_one(volume, &bucket_name, object)).collect();
        Ok(outcomes)
    });
    let outcomes = deleted.await?.map_err(|error: StoreError| refusal::store(error, context.bucket(), ""))?;
    if let Some(ticket) = outcomes.iter().filter_map(|(_, outcome)| Some(outcome.as_ref().ok()?.ticket)).max() {
        durable(&context, ticket).await?;
    }
    let mut out = Vec::new();
    let told = outcomes.iter().filter(|(_, outcome)| !quiet || outcome.is_err());
    let told: Vec<_> = told.map(|(object, outcome)| (object, outcome, marker_of(outcome))).collect();
    xml::delete_result(&mut out, told.iter().map(|(object, outcome, marker)| line(object, outcome, marker.as_deref())));
    // As much as the document and what was made of it, which are gone: what was deleted is told in any case.
    let mut answer = Answer::xml(200, out);
    answer.lease = Some(lease);
    Ok(answer.into())
}

/// One of the document, and why it may not be deleted, if so.
type Asked = Result<Permitted<ObjectIdentifier>, (ObjectIdentifier, S3Error)>;
type Outcome = (ObjectIdentifier, Result<Removed, S3Error>);

fn delete_one(volume: &Volume, bucket: &str, asked: Asked) -> Outcome {
    match asked {
        Ok(object) => {
            let outcome = try_delete_one(volume, bucket, &object);
            (object.into_inner(), outcome)
        }
        Err((object, error)) => (object, Err(error)),
    }
}

fn try_delete_one(volume: &Volume, bucket: &str, object: &Permitted<ObjectIdentifier>) -> Result<Removed, S3Error> {
    let version = match object.version_id.as_deref() {
        None => None,
        Some(text) => Some(Version::parse(text).ok_or_else(|| S3Error::no_such_version(&object.key, text))?),
    };
    let preconditions = Preconditions {
        if_match: object.etag.clone(),
        size: object.size,
        last_modified_s: object.last_modified_time.as_deref().map(date).transpose()?,
    };
    let condition = preconditions.condition();
    let removed = remove(volume, bucket, object.key.as_bytes(), version, condition.as_ref());
    removed.map_err(|error| refusal::version(error, bucket, &object.key, "DELETE", version))
}

/// The marker that was laid, or removed.
fn marker_of(outcome: &Result<Removed, S3Error>) -> Option<String> {
    let removed = outcome.as_ref().ok().filter(|removed| removed.is_marker)?;
    removed.version.map(|version| version.to_string())
}

fn line<'a>(object: &'a ObjectIdentifier, outcome: &'a Result<Removed, S3Error>, marker: Option<&'a str>) -> DeleteResult<'a> {
    let (key, version_id) = (object.key.as_bytes(), object.version_id.as_deref());
    match outcome {
        Ok(_) => {
            DeleteResult::Deleted(Deleted { key, version_id, delete_marker: marker.is_some(), delete_marker_version_id: marker })
        }
        Err(error) => DeleteResult::Error(DeleteError { key, version_id, code: error.code().as_str(), message: error.text() }),
    }
}

impl Preconditions {
    fn of_headers(context: &Context<'_>) -> Result<Self, S3Error> {
        const SIZE: &str = "x-amz-if-match-size";
        let size = match context.header(SIZE)? {
            None => None,
            Some(text) => Some(text.parse().map_err(|_| S3Error::invalid_argument(SIZE, text, "Not a size"))?),
        };
        let last_modified_s = context.header("x-amz-if-match-last-modified-time")?.map(date).transpose()?;
        Ok(Self { if_match: context.entity_tags("if-match")?.map(Cow::into_owned), size, last_modified_s })
    }

    fn condition(&self) -> Option<Condition> {
        if self.if_match.is_none() && self.size.is_none() && self.last_modified_s.is_none() {
            return None;
        }
        let this = self.clone();
        Some(Box::new(move |now: Option<&State>| {
            // S3 says NoSuchKey to an ETag's match on nothing, while what is gone has no wrong size and no wrong date (204,
            // https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteObject.html).
            let Some(state) = now else { return this.if_match.is_none() };
            this.size.is_none_or(|size| size == state.size)
                && this.last_modified_s.is_none_or(|seconds| seconds == metadata::last_modified(state).seconds)
                && this
                    .if_match
                    .as_ref()
                    .is_none_or(|list| conditional::etag_matches(list, &metadata::etag_of(state).to_string()))
        }))
    }
}

/// An HTTP date or ISO 8601: clients send both. Compared by whole seconds, as listings show them.
fn date(text: &str) -> Result<i64, S3Error> {
    let parsed = Timestamp::parse_http_date(text, Timestamp::now()).or_else(|| Timestamp::parse_iso8601(text));
    parsed.map(|time| time.seconds).ok_or_else(|| S3Error::invalid_argument("LastModifiedTime", text, "Not a date"))
}
