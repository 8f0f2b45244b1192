//! PutBucketVersioning and GetBucketVersioning.

use super::bucket;
use crate::catalog::BucketEntry;
use crate::flow::Received;
use crate::limits::XML_SIZE_MAX;
use crate::net::Exchange;
use crate::orders::Change;
use crate::s3::ask::address::BucketTarget;
use crate::s3::ask::error::{Code, S3Error};
use crate::s3::plan::answer::{Answer, Reply};
use crate::s3::plan::context::Context;
use crate::s3::plan::{body, refusal};
use crate::xml;

/// `GET /bucket?versioning`.
pub async fn get(context: &Context<'_, BucketTarget>) -> Result<Reply, S3Error> {
    bucket::find(context).await?;
    let settings = context.live.catalog.bucket(context.bucket()).and_then(BucketEntry::keeping);
    let mut out = Vec::new();
    xml::versioning(&mut out, settings.map(|settings| settings.versioning).unwrap_or_default());
    Ok(Answer::xml(200, out).into())
}

/// `PUT /bucket?versioning`. Answered when it holds for every change that is answered from then on.
pub async fn put(exchange: &mut Exchange, mut context: Context<'_, BucketTarget>) -> Result<Reply, S3Error> {
    let Received { bytes: document, .. } = body::document(exchange, &mut context, XML_SIZE_MAX).await?;
    exchange.finish_body();
    let versioning = xml::parse_versioning(&document)?;
    let versioning = versioning.ok_or_else(|| S3Error::new(Code::IllegalVersioningConfigurationException))?;
    let (name, owner) = (context.bucket().into(), context.owner().id.clone());
    let change = Change::SetVersioning { name, owner, versioning };
    let changed = context.core.settings.orders.ask(&context.principal.arn, change).await;
    changed.map_err(|refused| refusal::order(refused, context.bucket()))?;
    Ok(Answer::empty(200).into())
}
