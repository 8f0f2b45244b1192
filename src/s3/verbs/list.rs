//! ListObjects and ListObjectsV2: one walk, two documents.

use std::sync::atomic::AtomicBool;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;

use crate::base::storage_class::StorageClass;
use crate::base::time::Timestamp;
use crate::config::ListUnreadable;
use crate::io::{HelperPanicked, Work};
use crate::limits::{LIST_PAGE_MAX, LISTED_KEY_SIZE_MAX};
use crate::net::Exchange;
use crate::s3::ask::address::BucketTarget;
use crate::s3::ask::error::{Code, S3Error};
use crate::s3::plan::answer::Reply;
use crate::s3::plan::context::Context;
use crate::s3::plan::leave::{self, Stop};
use crate::s3::plan::patience::patiently;
use crate::s3::plan::{metadata, refusal};
use crate::store::buckets;
use crate::store::error::StoreError;
use crate::store::listing::list::{self, Entry, Object, Page, Unreadable};
use crate::store::listing::walk::WalkError;
use crate::store::volume::Volume;
use crate::sys::FileKind;
use crate::xml::{self, ListEntry, Owner};

/// What all listings of keys ask for.
pub struct Asked {
    pub bucket: String,
    pub prefix: String,
    pub delimiter: Option<String>,
    /// Only keys after this one.
    pub after: String,
    pub max_keys: usize,
    pub url_encoded: bool,
}

/// `GET /bucket`.
pub async fn list_objects(exchange: &Exchange, context: &Context<'_, BucketTarget>) -> Result<Reply, S3Error> {
    let asked = Asked::of(context, context.query.value("marker").unwrap_or_default().to_owned())?;
    let owner = owner_of(context);
    build(exchange, context, asked, move |asked, page, out| {
        let head = xml::ListObjects {
            bucket: &asked.bucket,
            prefix: asked.prefix.as_bytes(),
            marker: asked.after.as_bytes(),
            next_marker: next_marker(page),
            delimiter: asked.delimiter.as_ref().map(String::as_bytes),
            max_keys: asked.max_keys as u64,
            url_encoded: asked.url_encoded,
            is_truncated: page.is_truncated,
        };
        let shown: Vec<Shown<'_>> = objects(page).map(Shown::of).collect();
        let entries: Vec<ListEntry<'_>> = shown.iter().map(|shown| shown.entry(Some(owner.borrowed()))).collect();
        xml::list_objects(out, &head, entries.into_iter(), prefixes(page).into_iter());
    })
    .await
}

/// `GET /bucket?list-type=2`.
pub async fn list_objects_v2(exchange: &Exchange, context: &Context<'_, BucketTarget>) -> Result<Reply, S3Error> {
    if let Some(other) = context.query.value("list-type").filter(|value| *value != "2") {
        return Err(S3Error::invalid_argument("list-type", other, "Invalid List Type specified in Request"));
    }
    let token = context.query.value("continuation-token").map(str::to_owned);
    let start_after = context.query.value("start-after").map(str::to_owned);
    let after = match &token {
        Some(token) => marker_of(token)?,
        None => start_after.clone().unwrap_or_default(),
    };
    let asked = Asked::of(context, after)?;
    let owner = fetches_owner(context)?.then(|| owner_of(context));
    build(exchange, context, asked, move |asked, page, out| {
        let next = next_marker(page).map(|marker| BASE64_URL_SAFE_NO_PAD.encode(marker));
        let head = xml::ListObjectsV2 {
            bucket: &asked.bucket,
            prefix: asked.prefix.as_bytes(),
            continuation_token: token.as_deref(),
            next_continuation_token: next.as_deref(),
            start_after: start_after.as_ref().map(String::as_bytes),
            delimiter: asked.delimiter.as_ref().map(String::as_bytes),
            max_keys: asked.max_keys as u64,
            url_encoded: asked.url_encoded,
            is_truncated: page.is_truncated,
        };
        let shown: Vec<Shown<'_>> = objects(page).map(Shown::of).collect();
        let owner = owner.as_ref().map(OwnerOf::borrowed);
        let entries: Vec<ListEntry<'_>> = shown.iter().map(|shown| shown.entry(owner)).collect();
        xml::list_objects_v2(out, &head, entries.into_iter(), prefixes(page).into_iter());
    })
    .await
}

impl Asked {
    pub fn of(context: &Context<'_, BucketTarget>, after: String) -> Result<Self, S3Error> {
        let query = context.query;
        Ok(Self {
            bucket: context.bucket().to_owned(),
            prefix: query.value("prefix").unwrap_or_default().to_owned(),
            delimiter: query.value("delimiter").filter(|delimiter| !delimiter.is_empty()).map(str::to_owned),
            after,
            max_keys: count(context, "max-keys", LIST_PAGE_MAX)?,
            url_encoded: url_encoded(context)?,
        })
    }
}

fn fetches_owner<T>(context: &Context<'_, T>) -> Result<bool, S3Error> {
    const NAME: &str = "fetch-owner";
    match context.query.value(NAME) {
        None | Some("") => Ok(false),
        Some(text) if text.eq_ignore_ascii_case("true") => Ok(true),
        Some(text) if text.eq_ignore_ascii_case("false") => Ok(false),
        Some(other) => Err(S3Error::invalid_argument(NAME, other, "The value is neither true nor false")),
    }
}

/// `encoding-type`, of which there is one.
pub fn url_encoded<T>(context: &Context<'_, T>) -> Result<bool, S3Error> {
    match context.query.value("encoding-type") {
        None | Some("") => Ok(false),
        Some("url") => Ok(true),
        Some(other) => Err(S3Error::invalid_argument("encoding-type", other, "Invalid Encoding Method specified in Request")),
    }
}

/// A page size: the default where it is not given, the bound where it is larger, and S3's error where it is no count.
pub fn count<T>(context: &Context<'_, T>, name: &'static str, bound: usize) -> Result<usize, S3Error> {
    let Some(text) = context.query.value(name).filter(|text| !text.is_empty()) else { return Ok(bound) };
    Ok((number(name, text)? as usize).min(bound))
}

/// A number that is no more than S3's integers hold.
pub fn number(name: &'static str, text: &str) -> Result<u32, S3Error> {
    let invalid = |message: String| S3Error::invalid_argument(name, text, message);
    let number: i64 = text.parse().map_err(|_| invalid(format!("Provided {name} not an integer or within integer range")))?;
    let number = u32::try_from(number).ok().filter(|number| *number <= i32::MAX as u32);
    number.ok_or_else(|| invalid(format!("Argument {name} must be an integer between 0 and {}", i32::MAX)))
}

/// Walks and writes the document on a helper.
async fn build(
    exchange: &Exchange,
    context: &Context<'_, BucketTarget>,
    asked: Asked,
    write: impl Fn(&Asked, &Page, &mut Vec<u8>) + Send + Sync + 'static,
) -> Result<Reply, S3Error> {
    let unreadable = context.live.list_unreadable;
    answer(exchange, context, asked, move |volume, asked, stop| {
        let page = walk(volume, asked, unreadable, stop)?;
        let mut out = Vec::with_capacity(256 + page.entries.len() * 400);
        write(asked, &page, &mut out);
        Ok((out, page.unreadable))
    })
    .await
}

/// Answers with the document that `make` walks for, on a helper, and what it could not read. A client that leaves meanwhile stops the walk.
pub async fn answer(
    exchange: &Exchange,
    context: &Context<'_, BucketTarget>,
    asked: Asked,
    make: impl Fn(&Volume, &Asked, &AtomicBool) -> list::Walked<(Vec<u8>, Unreadable)> + Send + Sync + 'static,
) -> Result<Reply, S3Error> {
    let core = context.core;
    let lease = core.room_for(asked.max_keys * LISTED_KEY_SIZE_MAX).await?;
    let (settings, stop) = (core.settings.clone(), Stop::default());
    let seen = stop.flag();
    let document = listed(exchange, move || {
        let (document, Unreadable { count, last }) = match make(&settings.volume, &asked, &seen) {
            Ok(made) => made,
            Err(WalkError::Unreadable(prefix)) => return Ok(Err(prefix)),
            Err(WalkError::Store(error)) => return Err(error),
        };
        if count > 0 {
            let last = String::from_utf8_lossy(&last).into_owned();
            tracing::warn!(bucket = asked.bucket, directories = count, last, "what the server's user may not read is not listed");
        }
        Ok(Ok(document))
    });
    let Some(document) = exchange.unless_client_leaves(document).await else { return Ok(leave::left()) };
    match document?.map_err(|error| refusal::store(error, context.bucket(), ""))? {
        Ok(document) => Ok(core.answer_page(document, lease)?.into()),
        Err(prefix) => Err(unreadable_directory(context, &String::from_utf8_lossy(&prefix))),
    }
}

/// A listing that cannot be whole is none: `sync --delete` would remove on the other side what is left out.
fn unreadable_directory(context: &Context<'_, BucketTarget>, prefix: &str) -> S3Error {
    tracing::warn!(bucket = context.bucket(), prefix, "a listing has failed: the server's user may not read this directory");
    let directory = if prefix.is_empty() { "the bucket's directory".to_owned() } else { format!("the directory `{prefix}`") };
    let message = format!(
        "The server's user may not read {directory}, so that its keys are not known (--list-unreadable skip leaves them out)"
    );
    S3Error::new(Code::AccessDenied).message(message).with("BucketName", context.bucket()).with("Prefix", prefix)
}

/// What `work` gives on a helper for listings; clients take turns there.
pub async fn listed<T: Send + 'static>(
    exchange: &Exchange,
    work: impl Fn() -> Result<T, StoreError> + Send + Sync + 'static,
) -> Result<Result<T, StoreError>, HelperPanicked> {
    patiently(exchange.peer().map(|peer| peer.ip()), Work::List, work).await
}

fn walk(volume: &Volume, asked: &Asked, unreadable: ListUnreadable, stop: &AtomicBool) -> list::Walked<Page> {
    let query = list::Query {
        prefix: asked.prefix.as_bytes(),
        delimiter: asked.delimiter.as_ref().map(String::as_bytes).unwrap_or_default(),
        after: asked.after.as_bytes(),
        max: asked.max_keys,
        unreadable,
    };
    buckets::page(volume.bucket(&asked.bucket), volume.snapshots(), &query, stop)
}

fn next_marker(page: &Page) -> Option<&[u8]> {
    page.entries.last().filter(|_| page.is_truncated).map(Entry::marker)
}

/// A continuation token is the key it goes on after, coded so that nobody takes it for one.
fn marker_of(token: &str) -> Result<String, S3Error> {
    let decoded = BASE64_URL_SAFE_NO_PAD.decode(token).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    decoded.filter(|marker| !marker.is_empty()).ok_or_else(|| {
        S3Error::new(Code::InvalidArgument)
            .message("The continuation token provided is incorrect")
            .with("ArgumentName", "continuation-token")
    })
}

fn objects(page: &Page) -> impl Iterator<Item = &Object> {
    page.entries.iter().filter_map(|entry| match entry {
        Entry::Object(object) => Some(object),
        Entry::CommonPrefix(_) => None,
    })
}

fn prefixes(page: &Page) -> Vec<&[u8]> {
    let mut prefixes = Vec::new();
    for entry in &page.entries {
        if let Entry::CommonPrefix(prefix) = entry {
            prefixes.push(prefix.as_slice());
        }
    }
    prefixes
}

/// An object as a listing shows it.
pub struct Shown<'a> {
    object: &'a Object,
    etag: String,
    size: u64,
    last_modified: Timestamp,
}

impl<'a> Shown<'a> {
    pub fn of(object: &'a Object) -> Self {
        let is_directory = object.stat.kind == FileKind::Directory;
        let mtime_ns = match &object.summary {
            Some(summary) if is_directory => summary.mtime_ns,
            _ => object.stat.mtime_ns,
        };
        Self {
            object,
            etag: metadata::etag_of_entry(object).to_string(),
            size: if is_directory { 0 } else { object.stat.size },
            last_modified: metadata::timestamp(mtime_ns),
        }
    }

    pub fn entry<'b>(&'b self, owner: Option<Owner<'b>>) -> ListEntry<'b> {
        let checksum = self.object.summary.as_ref().and_then(|summary| summary.checksum_type);
        ListEntry {
            key: &self.object.key,
            last_modified: self.last_modified,
            etag: &self.etag,
            size: self.size,
            checksum_algorithm: checksum.map(|(algorithm, _)| algorithm.name()),
            checksum_type: checksum.map(|(_, kind)| kind.name()),
            storage_class: self.object.summary.as_ref().map_or_else(StorageClass::default, |it| it.storage_class).name(),
            owner,
        }
    }
}

/// The owner of everything: the root identity.
pub struct OwnerOf {
    id: String,
    display_name: String,
}

impl OwnerOf {
    pub fn borrowed(&self) -> Owner<'_> {
        Owner { id: &self.id, display_name: &self.display_name }
    }
}

/// Who owns the objects of this server.
pub fn owner_of<T>(context: &Context<'_, T>) -> OwnerOf {
    let account = context.owner();
    OwnerOf { id: account.canonical_id.to_string(), display_name: account.display_name.to_string() }
}
