//! GetObjectAttributes.

use super::answer::{Answer, Reply};
use super::context::Context;
use super::error::S3Error;
use super::list::count;
use super::{get, metadata};
use crate::digest::checksum::{Algorithm, Kind};
use crate::limits::LIST_PAGE_MAX;
use crate::store::checksum;
use crate::store::record::Record;
use crate::xml::{self, Checksums, ObjectPart, ObjectParts};

/// `GET /bucket/key?attributes`: what `x-amz-object-attributes` asks for.
pub(super) async fn get_object_attributes(context: &Context<'_>) -> Result<Reply, S3Error> {
    let wanted = wanted(context)?;
    let has = |name: &str| wanted.iter().any(|wanted| wanted.eq_ignore_ascii_case(name));
    let state = get::find(context).await?.state;
    let etag = metadata::etag_of(&state).to_string();
    let record = state.record.as_ref();
    let checksum = record.and_then(|record| Some((record.checksum.as_ref()?, checksum::of_record(record)?)));
    let text = checksum.as_ref().map(|(_, checksum)| checksum.to_string());
    let values: Vec<(&str, &str)> = match (&checksum, &text) {
        (Some((kept, _)), Some(text)) => vec![(Algorithm::from(kept.algorithm).name(), text.as_str())],
        _ => Vec::new(),
    };
    let checksum_type = checksum.as_ref().map(|(kept, _)| Kind::from(kept.kind).name());
    let part_count = record.map_or(0, |record| record.parts);
    let marker: u32 = header_number(context, "x-amz-part-number-marker")?.unwrap_or(0);
    let max_parts = match header_number(context, "x-amz-max-parts")? {
        Some(max) => (max as usize).min(LIST_PAGE_MAX),
        None => count(context, "max-parts", LIST_PAGE_MAX)?,
    };
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
        storage_class: has("StorageClass"),
        object_size: has("ObjectSize").then_some(state.size),
    };
    let mut out = Vec::new();
    xml::get_object_attributes(&mut out, &attributes);
    let mut answer = Answer::xml(200, out);
    answer.header("Last-Modified", metadata::last_modified(&state).http_date().as_bytes());
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

fn wanted<'a>(context: &'a Context<'_>) -> Result<Vec<&'a str>, S3Error> {
    const NAME: &str = "x-amz-object-attributes";
    const KNOWN: [&str; 5] = ["ETag", "Checksum", "ObjectParts", "StorageClass", "ObjectSize"];
    let text = context.header(NAME)?.unwrap_or_default();
    let names: Vec<&str> = text.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
    if names.is_empty() || names.iter().any(|name| !KNOWN.iter().any(|known| known.eq_ignore_ascii_case(name))) {
        return Err(S3Error::invalid_argument(NAME, text, "Invalid attribute name specified."));
    }
    Ok(names)
}

fn header_number(context: &Context<'_>, name: &'static str) -> Result<Option<u32>, S3Error> {
    let Some(text) = context.header(name)? else { return Ok(None) };
    text.parse().map(Some).map_err(|_| S3Error::invalid_argument(name, text, "Not a number"))
}
