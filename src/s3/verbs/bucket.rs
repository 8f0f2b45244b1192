//! Buckets: list, create, head, delete, location.

use super::list::listed;
use super::put::durable;
use crate::config::values;
use crate::flow::Received;
use crate::io::{Work, blocking};
use crate::limits::{LIST_BUCKETS_MAX, LISTED_SIZE_MAX, XML_SIZE_MAX};
use crate::model::Carried;
use crate::net::Exchange;
use crate::orders::{Change, Refused};
use crate::s3::ask::address::BucketTarget;
use crate::s3::ask::error::{Code, S3Error};
use crate::s3::plan::answer::{Answer, BUCKET_REGION, Reply};
use crate::s3::plan::context::Context;
use crate::s3::plan::core::{Live, Settings};
use crate::s3::plan::leave::{self, Stop};
use crate::s3::plan::{body, refusal};
use crate::store::buckets::{self, BucketsQuery, InTheWay, InTheWayKind};
use crate::store::disk::ListedBucket;
use crate::store::error::StoreError;
use crate::xml;

/// `GET /`.
pub async fn list<T>(exchange: &Exchange, context: &Context<'_, T>) -> Result<Reply, S3Error> {
    let count_max = match context.query.value("max-buckets") {
        None => LIST_BUCKETS_MAX,
        Some(text) => text.parse().ok().filter(|count| (1..=LIST_BUCKETS_MAX).contains(count)).ok_or_else(|| {
            S3Error::invalid_argument("max-buckets", text, "Argument max-buckets must be an integer between 1 and 10000")
        })?,
    };
    let lease = context.core.room_for(count_max * LISTED_SIZE_MAX).await?;
    let settings = context.core.settings.clone();
    let prefix = context.query.value("prefix").filter(|prefix| !prefix.is_empty());
    let after = context.query.value("continuation-token").unwrap_or_default().to_owned();
    let region = &*context.region();
    let is_here = is_here(context)?;
    let wanted = prefix.unwrap_or_default().to_owned();
    let page = listed(exchange, move || {
        let query = BucketsQuery { prefix: &wanted, after: &after, max: if is_here { count_max } else { 0 } };
        buckets::list(settings.volume.disk(), &query)
    });
    let (page, is_truncated) = page.await?.map_err(|error| refusal::store(error, "", ""))?;
    let next = page.last().filter(|_| is_truncated).map(|bucket| bucket.name.as_str());
    let account = context.owner();
    let owner = xml::Owner { id: &account.canonical_id, display_name: &account.display_name };
    let head = xml::ListBuckets { owner, region, continuation_token: next, prefix };
    let entries = page.iter().map(|bucket| xml::BucketEntry { name: &bucket.name, creation_date: bucket.created });
    let mut out = Vec::new();
    xml::list_buckets(&mut out, &head, entries);
    Ok(context.core.answer_page(out, lease)?.into())
}

/// `bucket-region`: whether the buckets of this server are asked for.
fn is_here<T>(context: &Context<'_, T>) -> Result<bool, S3Error> {
    const NAME: &str = "bucket-region";
    match context.query.value(NAME).filter(|wanted| !wanted.is_empty()) {
        None => Ok(true),
        Some(wanted) if context.core.settings.region.as_deref().is_none_or(|region| wanted == region) => Ok(true),
        Some(wanted) if is_region(wanted) => Ok(false),
        Some(wanted) => {
            let message = format!("Argument value {wanted} is not a valid AWS Region");
            Err(S3Error::invalid_argument(NAME, wanted, message))
        }
    }
}

/// Whether `text` is written like one of Amazon's regions (`us-gov-west-1`), or is their old name of eu-west-1.
fn is_region(text: &str) -> bool {
    let mut words = text.rsplit('-');
    let is_number = |word: &str| matches!(word.as_bytes(), [b'0'..=b'9']);
    let is_word = |word: &str| word.len() >= 2 && word.bytes().all(|byte| byte.is_ascii_lowercase());
    text == "EU" || (words.next().is_some_and(is_number) && words.clone().count() >= 2 && words.all(is_word))
}

/// `PUT /bucket`.
pub async fn create(exchange: &mut Exchange, mut context: Context<'_, BucketTarget>) -> Result<Reply, S3Error> {
    let Received { bytes: document, .. } = body::document(exchange, &mut context, XML_SIZE_MAX).await?;
    exchange.finish_body();
    let region = context.region().into_owned();
    let wanted = xml::parse_create_bucket(&document)?.location_constraint.filter(|wanted| !wanted.is_empty());
    if let Some(wanted) = wanted {
        check_location(&context, &wanted)?;
    }
    let change = Change::CreateBucket { name: context.bucket().into(), owner: context.owner().id.clone() };
    match context.core.settings.orders.ask(&context.principal.arn, change).await {
        Ok(Some(ticket)) => durable(&context, ticket).await?,
        Ok(None) => {}
        // Made again by its owner: S3 answers 200 in us-east-1 and 409 elsewhere
        // (https://docs.aws.amazon.com/AmazonS3/latest/API/API_CreateBucket.html, BucketAlreadyOwnedByYou). rclone takes both.
        Err(Refused::Store(StoreError::BucketExists)) if region == "us-east-1" => {
            durable(&context, context.core.disk().barrier().observed()).await?;
        }
        Err(refused) => return Err(refusal::order(refused, context.bucket())),
    }
    let mut answer = Answer::empty(200);
    answer.header("Location", format!("/{}", context.bucket()).as_bytes());
    answer.header("x-amz-bucket-arn", format!("arn:aws:s3:::{}", context.bucket()).as_bytes());
    Ok(answer.into())
}

/// Whether a bucket may be made in this region. Where any is believed, a bucket is in each of them.
fn check_location(context: &Context<'_, BucketTarget>, wanted: &str) -> Result<(), S3Error> {
    // S3's first region beside us-east-1, under its name of then.
    let is_name = wanted == "EU" || values::region(wanted).is_ok();
    match &context.core.settings.region {
        Some(region) if wanted == region => Ok(()),
        Some(_) if is_region(wanted) => {
            let message = format!(
                "The {wanted} location constraint is incompatible for the region specific endpoint this request was sent to."
            );
            Err(S3Error::new(Code::IllegalLocationConstraintException).message(message))
        }
        // Any region that a client was told.
        None if is_name => Ok(()),
        _ => Err(S3Error::new(Code::InvalidLocationConstraint).with("LocationConstraint", wanted)),
    }
}

/// `HEAD /bucket`.
pub async fn head(context: &Context<'_, BucketTarget>) -> Result<Reply, S3Error> {
    find(context).await?;
    let mut answer = Answer::empty(200);
    answer.header(BUCKET_REGION, context.region().as_bytes());
    Ok(answer.into())
}

/// `DELETE /bucket`.
pub async fn delete(exchange: &Exchange, context: &Context<'_, BucketTarget>) -> Result<Reply, S3Error> {
    let settings = context.core.settings.clone();
    let name = context.bucket().to_owned();
    let stop = Stop::default();
    let seen = stop.flag();
    let deleting = blocking(Work::Remove, move || {
        check_known(&settings, &name)?;
        buckets::delete(settings.volume.bucket(&name), settings.volume.uploads(), &seen).map_err(|error| match error {
            // What is in the way is somebody's own: it is said, since S3 shows nothing of it.
            StoreError::BucketNotEmpty => (error.into(), buckets::in_the_way(settings.volume.bucket(&name)).ok().flatten()),
            error => (error.into(), None),
        })
    });
    // It may have to search many directories for an object before it can say that there is none.
    let Some(deleted) = exchange.unless_client_leaves(deleting).await else { return Ok(leave::left()) };
    let ticket = deleted?.map_err(|(refused, in_the_way)| match in_the_way {
        Some(in_the_way) => refusal::order(refused, context.bucket()).message(not_empty(&in_the_way)),
        None => refusal::order(refused, context.bucket()),
    })?;
    durable(context, ticket).await?;
    forget(context).await;
    Ok(Answer::empty(204).into())
}

/// A directory that says which bucket it is, of which nothing is known, has settings that nobody can read. Asked once more, as it may
/// have been made since the request began.
fn check_known(settings: &Settings, name: &str) -> Result<(), (Refused, Option<InTheWay>)> {
    let refused = |refused: Refused| (refused, None);
    let found = buckets::identify(settings.volume.bucket(name)).map_err(|error| refused(error.into()))?;
    let carries_id = found.is_some_and(|found| found.carries != Carried::Nothing);
    if carries_id && settings.live.reader().snapshot().catalog.bucket(name).is_none_or(|entry| entry.damage().is_some()) {
        return Err(refused(Refused::Damaged));
    }
    Ok(())
}

/// The directory is gone, and with it the bucket. A document that stays behind is none, and gives way to the next of this name.
async fn forget(context: &Context<'_, BucketTarget>) {
    let change = Change::ForgetBucket { name: context.bucket().into() };
    let is_known = |live: &Live| live.catalog.bucket(context.bucket()).is_some();
    if (is_known(context.live) || is_known(&context.core.live()))
        && let Err(refused) = context.core.settings.orders.ask(&context.principal.arn, change).await
    {
        tracing::warn!(bucket = context.bucket(), ?refused, "the document of a deleted bucket stays where it is");
    }
}

fn not_empty(in_the_way: &InTheWay) -> String {
    let what = match in_the_way.kind {
        InTheWayKind::Directory => "directory, which was not made through S3,",
        InTheWayKind::Symlink => "symbolic link",
        InTheWayKind::Special => "special file",
        InTheWayKind::File => "file, whose name is no key,",
    };
    let path = String::from_utf8_lossy(&in_the_way.path);
    format!("The bucket you tried to delete is not empty: it has no object, but the {what} `{path}` is in the way")
}

/// `GET /bucket?location`.
pub async fn location(context: &Context<'_, BucketTarget>) -> Result<Reply, S3Error> {
    find(context).await?;
    let mut out = Vec::new();
    xml::location_constraint(&mut out, &context.region());
    Ok(Answer::xml(200, out).into())
}

/// The request's bucket, which must be there.
pub async fn find(context: &Context<'_, BucketTarget>) -> Result<ListedBucket, S3Error> {
    let settings = context.core.settings.clone();
    let name = context.bucket().to_owned();
    let found = blocking(Work::Read, move || settings.volume.bucket(&name).head()).await?;
    found.map_err(|error| refusal::store(error, context.bucket(), ""))
}
