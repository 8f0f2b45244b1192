//! May this request? The route says what it needs. What the path addresses is asked about by the service, before anything of it is
//! looked at; what only the verb comes to know (a copy source, a key of many) by the verb, which cannot go on without: what opens a
//! source or deletes a key of many takes a `Permitted`, and there is none but from here.

use std::ops::Deref;

use super::context::Context;
use super::refusal;
use crate::base::principal::PrincipalKind;
use crate::catalog::BucketEntry;
use crate::policy::{self, Action, Decision, Question, Resource};
use crate::s3::ask::address::{CopySource, Target};
use crate::s3::ask::error::{Code, S3Error};
use crate::s3::ask::operation::{Asked, Need, On, Operation};
use crate::xml::ObjectIdentifier;

/// Something whose use was allowed.
pub struct Permitted<T>(T);

impl<T> Permitted<T> {
    /// For what comes afterwards.
    pub fn into_inner(self) -> T {
        self.0
    }
}

impl<T> Deref for Permitted<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

/// Asks for everything that the request needs of what its path addresses.
pub fn request(context: &Context<'_, Target>) -> Result<(), S3Error> {
    let names_version = context.query.value("versionId").is_some();
    for need in context.route.needs.iter().filter(|need| is_asked(context, need.when)) {
        match need.on {
            On::Target => ask(context, need, names_version, context.target.resource())?,
            // Not before the source is parsed, once, for the policy and for who opens it.
            On::CopySource => {}
            On::EachKey if policy::may_ever(context.principal, need.action) => {}
            On::EachKey => return Err(denied()),
        }
    }
    context.target.bucket().map_or(Ok(()), |bucket| check_state(context, bucket))
}

/// A bucket of which nobody knows what it is set to is root's alone, and nothing is deleted from it: what cannot be read may forbid it.
fn check_state<T>(context: &Context<'_, T>, bucket: &str) -> Result<(), S3Error> {
    if context.live.catalog.bucket(bucket).and_then(BucketEntry::damage).is_none() {
        return Ok(());
    }
    use Operation::{DeleteBucket, DeleteObject, DeleteObjects};
    match context.principal.kind {
        PrincipalKind::Root if matches!(context.route.operation, DeleteBucket | DeleteObject | DeleteObjects) => {
            Err(refusal::damaged(bucket))
        }
        PrincipalKind::Root => Ok(()),
        PrincipalKind::Anonymous => Err(denied()),
    }
}

/// Asks whether a source may be read.
pub fn copy_source<T>(context: &Context<'_, T>, source: CopySource) -> Result<Permitted<CopySource>, S3Error> {
    let resource = Resource::Object(&source.bucket, source.key.as_bytes());
    ask_each(context, On::CopySource, source.version_id.is_some(), resource)?;
    check_state(context, &source.bucket)?;
    Ok(Permitted(source))
}

/// Asks for one key of many in `bucket`. Refused, it is given back with the reason.
pub fn key<T>(
    context: &Context<'_, T>,
    bucket: &str,
    object: ObjectIdentifier,
) -> Result<Permitted<ObjectIdentifier>, (ObjectIdentifier, S3Error)> {
    let resource = Resource::Object(bucket, object.key.as_bytes());
    match ask_each(context, On::EachKey, object.version_id.is_some(), resource) {
        Ok(()) => Ok(Permitted(object)),
        Err(error) => Err((object, error)),
    }
}

/// A route that needs nothing of such a thing has no business with it.
fn ask_each<T>(context: &Context<'_, T>, on: On, names_version: bool, resource: Resource<'_>) -> Result<(), S3Error> {
    let mut needs = context.route.needs.iter().filter(|need| need.on == on && is_asked(context, need.when)).peekable();
    if needs.peek().is_none() {
        return Err(denied());
    }
    needs.try_for_each(|need| ask(context, need, names_version, resource))
}

fn ask<T>(context: &Context<'_, T>, need: &Need, names_version: bool, resource: Resource<'_>) -> Result<(), S3Error> {
    let action: Action = if names_version { need.action.of_version() } else { need.action };
    match policy::decide(&Question { principal: context.principal, action, resource }) {
        Decision::Allow => Ok(()),
        Decision::Deny => Err(denied()),
    }
}

fn is_asked<T>(context: &Context<'_, T>, when: Asked) -> bool {
    match when {
        Asked::Always => true,
        Asked::With(header) => context.request.header_bytes(header).is_some(),
        // Links say it in their query.
        Asked::WithGrants => {
            context.request.headers().any(|(name, _)| names_grants(name))
                || context.presigned_pairs().any(|(name, _)| names_grants(name))
        }
    }
}

fn names_grants(name: &str) -> bool {
    let is = |known: &str| name.get(..known.len()).is_some_and(|start| start.eq_ignore_ascii_case(known));
    (is("x-amz-acl") && name.len() == "x-amz-acl".len()) || is("x-amz-grant-")
}

fn denied() -> S3Error {
    S3Error::new(Code::AccessDenied)
}
