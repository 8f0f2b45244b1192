//! GetObjectAttributes.

use super::get;
use super::list::count;
use crate::base::storage_class::StorageClass;
use crate::limits::{LIST_PAGE_MAX, LISTED_SIZE_MAX};
use crate::s3::ask::error::S3Error;
use crate::s3::plan::answer::Reply;
use crate::s3::plan::context::Context;
use crate::s3::plan::metadata;
use crate::store::names::checksum;
use crate::store::names::record::Record;
use crate::xml::{self, Checksums, ObjectPart, ObjectParts};

/// `GET /bucket/key?attributes`: what `x-amz-object-attributes` asks for.
pub async fn get_object_attributes(context: &Context<'_>) -> Result<Reply, S3Error> {
    let wanted = wanted(context)?;
    let has = |name: &str| wanted.iter().any(|wanted| wanted.eq_ignore_ascii_case(name));
    let found = get::find(context).await?;
    let state = found.object.state;
    let etag = metadata::etag_of(&state).to_string();
    let record = state.record.as_ref();
    let checksum = record.and_then(|record| Some((record.checksum.as_ref()?, checksum::of_record(record)?)));
    let text = checksum.as_ref().map(|(_, checksum)| checksum.to_string());
    let values: Vec<(&str, &str)> = match (&checksum, &text) {
        (Some((kept, _)), Some(text)) => vec![(kept.algorithm().name(), text.as_str())],
        _ => Vec::new(),
    };
    let checksum_type = checksum.as_ref().map(|(kept, _)| kept.kind.name());
    let part_count = record.map_or(0, |record| record.parts);
    let storage_class = record.map_or_else(StorageClass::default, |record| record.storage_class);
    let marker: u32 = header_number(context, "x-amz-part-number-marker")?.unwrap_or(0);
    let max_parts = match header_number(context, "x-amz-max-parts")? {
        Some(max) => (max as usize).min(LIST_PAGE_MAX),
        None => count(context, "max-parts", LIST_PAGE_MAX)?,
    };
    let listed = if has("ObjectParts") { max_parts.min(part_count as usize) } else { 0 };
    let lease = context.core.room_for(listed * LISTED_SIZE_MAX).await?;
    let numbers = (marker.saturating_add(1)..=part_count).take(max_parts);
    let page: Vec<PagePart> = numbers.filter_map(|number| PagePart::of(record?, number)).collect();
    let shown: Vec<Option<(&str, &str)>> = page.iter().map(PagePart::checksum).collect();
    let entries = page.iter().zip(&shown);
    let parts: Vec<ObjectPart<'_>> = entries
        .map(|(part, checksum)| ObjectPart {
            part_number: part.number,
            size: part.size,
            checksums: Checksums { values: checksum.as_slice(), checksum_type: None },
        })
        .collect();
    let last = parts.last().map(|part| part.part_number);
    let attributes = xml::GetObjectAttributes {
        etag: has("ETag").then_some(etag.as_str()),
        checksums: (has("Checksum") && !values.is_empty()).then_some(Checksums { values: &values, checksum_type }),
        parts: (has("ObjectParts") && part_count > 0).then_some(ObjectParts {
            parts_count: part_count,
            part_number_marker: marker,
            next_part_number_marker: last,
            max_parts: max_parts as u64,
            is_truncated: last.is_some_and(|last| last < part_count),
            parts: &parts,
        }),
        storage_class: has("StorageClass").then_some(storage_class.name()),
        object_size: has("ObjectSize").then_some(state.size),
    };
    let mut out = Vec::new();
    xml::get_object_attributes(&mut out, &attributes);
    let mut answer = context.core.answer_page(out, lease)?;
    answer.header("Last-Modified", metadata::last_modified(&state).http_date().as_bytes());
    answer.version(found.version);
    Ok(answer.into())
}

/// A part on the page.
struct PagePart {
    number: u32,
    size: u64,
    checksum: Option<(&'static str, String)>,
}

impl PagePart {
    fn of(record: &Record, number: u32) -> Option<Self> {
        let (_, size) = record.part(number)?;
        let checksum = metadata::part_checksum(record, number).map(|value| (value.algorithm().name(), value.to_string()));
        Some(Self { number, size, checksum })
    }

    fn checksum(&self) -> Option<(&str, &str)> {
        self.checksum.as_ref().map(|(name, text)| (*name, text.as_str()))
    }
}

/// The list of `x-amz-object-attributes`: aws-sdk-go-v2 sends a line for each, and a pre-signed URL has it in its query.
fn wanted(context: &Context<'_>) -> Result<Vec<String>, S3Error> {
    const NAME: &str = "x-amz-object-attributes";
    const KNOWN: [&str; 5] = ["ETag", "Checksum", "ObjectParts", "StorageClass", "ObjectSize"];
    let header = context.list(NAME)?;
    let linked = context.presigned_pairs().filter(|(name, _)| name.eq_ignore_ascii_case(NAME)).map(|(_, value)| value);
    let lists: Vec<&str> = header.as_deref().into_iter().chain(linked).collect();
    let names = lists.iter().flat_map(|list| list.split(',')).map(str::trim).filter(|name| !name.is_empty());
    let names: Vec<String> = names.map(str::to_owned).collect();
    if names.is_empty() {
        return Err(S3Error::invalid_request(
            "The x-amz-object-attributes header specifying the attributes to be retrieved is either missing or empty",
        ));
    }
    if names.iter().any(|name| !KNOWN.iter().any(|known| known.eq_ignore_ascii_case(name))) {
        return Err(S3Error::invalid_argument(NAME, &lists.join(","), "Invalid attribute name specified."));
    }
    Ok(names)
}

fn header_number(context: &Context<'_>, name: &'static str) -> Result<Option<u32>, S3Error> {
    let Some(text) = context.amz_header(name)? else { return Ok(None) };
    super::list::number(name, text).map(Some)
}
