//! Buckets: list, create, head, delete, location.

use super::answer::{Answer, BUCKET_REGION, Reply};
use super::context::Context;
use super::error::{Code, S3Error};
use super::put::durable;
use super::{body, refusal};
use crate::io::blocking;
use crate::limits::{LIST_BUCKETS_MAX, XML_SIZE_MAX};
use crate::net::Exchange;
use crate::store::{StoreError, bucket};
use crate::xml;

/// `GET /`.
pub(super) async fn list(context: &Context<'_>) -> Result<Reply, S3Error> {
    let count_max = match context.query.value("max-buckets") {
        None => LIST_BUCKETS_MAX,
        Some(text) => text.parse().ok().filter(|count| (1..=LIST_BUCKETS_MAX).contains(count)).ok_or_else(|| {
            S3Error::invalid_argument("max-buckets", text, "Argument max-buckets must be an integer between 1 and 10000")
        })?,
    };
    let settings = context.core.settings.clone();
    let buckets = blocking(move || bucket::list(&settings.volume)).await?;
    let buckets = buckets.map_err(|error| refusal::store(error, "", ""))?;
    let prefix = context.query.value("prefix").filter(|prefix| !prefix.is_empty());
    let after = context.query.value("continuation-token").unwrap_or_default();
    let region = context.core.settings.region.as_str();
    let is_here = context.query.value("bucket-region").is_none_or(|wanted| wanted.is_empty() || wanted == region);
    let mut matching = buckets
        .iter()
        .filter(|_| is_here)
        .filter(|bucket| bucket.name.as_str() > after && prefix.is_none_or(|prefix| bucket.name.starts_with(prefix)));
    let page: Vec<_> = matching.by_ref().take(count_max).collect();
    let next = matching.next().and(page.last()).map(|bucket| bucket.name.as_str());
    let principal = context.owner;
    let owner = xml::Owner { id: &principal.canonical_id, display_name: &principal.display_name };
    let head = xml::ListBuckets { owner, region, continuation_token: next, prefix };
    let entries = page.iter().map(|bucket| xml::BucketEntry { name: &bucket.name, creation_date: bucket.created });
    let mut out = Vec::new();
    xml::list_buckets(&mut out, &head, entries);
    Ok(Answer::xml(200, out).into())
}

/// `PUT /bucket`.
pub(super) async fn create(exchange: &mut Exchange, mut context: Context<'_>) -> Result<Reply, S3Error> {
    let document = body::document(exchange, &mut context, XML_SIZE_MAX).await?;
    exchange.finish_body();
    let region = context.core.settings.region.as_str();
    let wanted = xml::parse_create_bucket(&document)?.location_constraint.filter(|wanted| !wanted.is_empty());
    if let Some(wanted) = wanted
        && wanted != region
    {
        let message = format!(
            "The {wanted} location constraint is incompatible for the region specific endpoint this request was sent to."
        );
        return Err(S3Error::new(Code::IllegalLocationConstraintException).message(message));
    }
    let settings = context.core.settings.clone();
    let name = context.bucket().to_owned();
    let created = blocking(move || bucket::create(&settings.volume, &name)).await?;
    match created {
        Ok(ticket) => durable(&context, ticket).await?,
        // Made again by its owner: S3 answers 200 in us-east-1 and 409 elsewhere
        // (https://docs.aws.amazon.com/AmazonS3/latest/API/API_CreateBucket.html, BucketAlreadyOwnedByYou). rclone takes both.
        Err(StoreError::BucketExists) if region == "us-east-1" => {
            durable(&context, bucket::observed(context.core.volume())).await?;
        }
        Err(error) => return Err(refusal::store(error, context.bucket(), "")),
    }
    let mut answer = Answer::empty(200);
    answer.header("Location", format!("/{}", context.bucket()).as_bytes());
    Ok(answer.into())
}

/// `HEAD /bucket`.
pub(super) async fn head(context: &Context<'_>) -> Result<Reply, S3Error> {
    find(context).await?;
    let mut answer = Answer::empty(200);
    answer.header(BUCKET_REGION, context.core.settings.region.as_bytes());
    Ok(answer.into())
}

/// `DELETE /bucket`.
pub(super) async fn delete(context: &Context<'_>) -> Result<Reply, S3Error> {
    let settings = context.core.settings.clone();
    let name = context.bucket().to_owned();
    let deleted = blocking(move || bucket::delete(&settings.volume, &name)).await?;
    let ticket = deleted.map_err(|error| refusal::store(error, context.bucket(), ""))?;
    durable(context, ticket).await?;
    Ok(Answer::empty(204).into())
}

/// `GET /bucket?location`.
pub(super) async fn location(context: &Context<'_>) -> Result<Reply, S3Error> {
    find(context).await?;
    let mut out = Vec::new();
    xml::location_constraint(&mut out, &context.core.settings.region);
    Ok(Answer::xml(200, out).into())
}

/// The request's bucket, which must be there.
pub(super) async fn find(context: &Context<'_>) -> Result<bucket::Bucket, S3Error> {
    let settings = context.core.settings.clone();
    let name = context.bucket().to_owned();
    let found = blocking(move || bucket::head(&settings.volume, &name)).await?;
    found.map_err(|error| refusal::store(error, context.bucket(), ""))
}
