//! The answers that are no listings: copies, uploads, deletions, attributes and errors.

use crate::base::time::Timestamp;
use crate::xml::list::{Owner, owner};
use crate::xml::write::{DECLARATION, Writer};

/// Checksums of an object or part.
#[derive(Clone, Copy, Debug, Default)]
pub struct Checksums<'a> {
    /// Algorithm in S3's spelling (`CRC64NVME`) and base64 value.
    pub values: &'a [(&'a str, &'a str)],
    /// `FULL_OBJECT` or `COMPOSITE`.
    pub checksum_type: Option<&'a str>,
}

/// CopyObjectResult and CopyPartResult.
#[derive(Clone, Copy, Debug)]
pub struct CopyResult<'a> {
    pub last_modified: Timestamp,
    /// Without quotes.
    pub etag: &'a str,
    pub checksums: Checksums<'a>,
}

/// CompleteMultipartUploadResult.
#[derive(Clone, Copy, Debug)]
pub struct CompleteMultipartUploadResult<'a> {
    /// The object's URL.
    pub location: &'a str,
    pub bucket: &'a str,
    pub key: &'a [u8],
    /// Without quotes.
    pub etag: &'a str,
    pub checksums: Checksums<'a>,
}

/// ListPartsResult without its parts.
#[derive(Clone, Copy, Debug)]
pub struct ListParts<'a> {
    pub bucket: &'a str,
    pub key: &'a [u8],
    pub upload_id: &'a str,
    pub initiator: Owner<'a>,
    /// `STANDARD`, `GLACIER`, …
    pub storage_class: &'a str,
    pub part_number_marker: u32,
    pub next_part_number_marker: Option<u32>,
    pub max_parts: u64,
    pub is_truncated: bool,
    pub checksum_algorithm: Option<&'a str>,
    pub checksum_type: Option<&'a str>,
}

/// One part of ListParts.
#[derive(Clone, Copy, Debug)]
pub struct PartEntry<'a> {
    pub part_number: u32,
    pub last_modified: Timestamp,
    /// Without quotes.
    pub etag: &'a str,
    pub size: u64,
    pub checksums: Checksums<'a>,
}

/// One line of DeleteResult.
#[derive(Clone, Copy, Debug)]
pub enum DeleteResult<'a> {
    Deleted(Deleted<'a>),
    Error(DeleteError<'a>),
}

/// A key that is gone.
#[derive(Clone, Copy, Debug, Default)]
pub struct Deleted<'a> {
    pub key: &'a [u8],
    /// As the request named it.
    pub version_id: Option<&'a str>,
    /// A delete marker was made, or the deleted version was one.
    pub delete_marker: bool,
    pub delete_marker_version_id: Option<&'a str>,
}

/// A key that is not.
#[derive(Clone, Copy, Debug)]
pub struct DeleteError<'a> {
    pub key: &'a [u8],
    pub version_id: Option<&'a str>,
    pub code: &'a str,
    pub message: &'a str,
}

/// GetObjectAttributesResponse: only what was asked for is `Some`.
#[derive(Clone, Copy, Debug, Default)]
pub struct GetObjectAttributes<'a> {
    /// Without quotes, and S3 sends it without quotes here.
    pub etag: Option<&'a str>,
    pub checksums: Option<Checksums<'a>>,
    /// Only an object of several parts has them.
    pub parts: Option<ObjectParts<'a>>,
    pub storage_class: Option<&'a str>,
    pub object_size: Option<u64>,
}

/// A page of the parts of an object.
#[derive(Clone, Copy, Debug, Default)]
pub struct ObjectParts<'a> {
    pub parts_count: u32,
    pub part_number_marker: u32,
    pub next_part_number_marker: Option<u32>,
    pub max_parts: u64,
    pub is_truncated: bool,
    /// S3 lists parts only where they carry checksums.
    pub parts: &'a [ObjectPart<'a>],
}

/// One part of an object.
#[derive(Clone, Copy, Debug)]
pub struct ObjectPart<'a> {
    pub part_number: u32,
    pub size: u64,
    pub checksums: Checksums<'a>,
}

/// GetBucketLocation: us-east-1 is spelt as an empty element.
pub fn location_constraint(out: &mut Vec<u8>, region: &str) {
    let mut xml = Writer::new(out_with_declaration(out));
    xml.root("LocationConstraint");
    xml.characters(if region == "us-east-1" { "" } else { region });
    xml.close("LocationConstraint");
}

/// CopyObject.
pub fn copy_object(out: &mut Vec<u8>, result: &CopyResult<'_>) {
    copy(out, "CopyObjectResult", result);
}

/// UploadPartCopy.
pub fn copy_part(out: &mut Vec<u8>, result: &CopyResult<'_>) {
    copy(out, "CopyPartResult", result);
}

/// CreateMultipartUpload.
pub fn initiate_multipart_upload(out: &mut Vec<u8>, bucket: &str, key: &[u8], upload_id: &str) {
    let mut xml = Writer::document(out, "InitiateMultipartUploadResult");
    xml.text("Bucket", bucket);
    xml.key("Key", key, false);
    xml.text("UploadId", upload_id);
    xml.close("InitiateMultipartUploadResult");
}

/// CompleteMultipartUpload, without the declaration: the caller has sent `DECLARATION` before it began to complete and spaces
/// while it did.
pub fn complete_multipart_upload(out: &mut Vec<u8>, result: &CompleteMultipartUploadResult<'_>) {
    let mut xml = Writer::new(out);
    xml.root("CompleteMultipartUploadResult");
    xml.text("Location", result.location);
    xml.text("Bucket", result.bucket);
    xml.key("Key", result.key, false);
    xml.etag(result.etag);
    checksums(&mut xml, &result.checksums);
    xml.close("CompleteMultipartUploadResult");
}

/// ListParts.
pub fn list_parts<'a>(out: &mut Vec<u8>, list: &ListParts<'_>, parts: impl IntoIterator<Item = PartEntry<'a>>) {
    let mut xml = Writer::document(out, "ListPartsResult");
    xml.text("Bucket", list.bucket);
    xml.key("Key", list.key, false);
    xml.text("UploadId", list.upload_id);
    owner(&mut xml, "Initiator", list.initiator);
    owner(&mut xml, "Owner", list.initiator);
    xml.text("StorageClass", list.storage_class);
    xml.number("PartNumberMarker", u64::from(list.part_number_marker));
    if let Some(next) = list.next_part_number_marker {
        xml.number("NextPartNumberMarker", u64::from(next));
    }
    xml.number("MaxParts", list.max_parts);
    xml.boolean("IsTruncated", list.is_truncated);
    xml.optional("ChecksumAlgorithm", list.checksum_algorithm);
    xml.optional("ChecksumType", list.checksum_type);
    for part in parts {
        xml.open("Part");
        xml.number("PartNumber", u64::from(part.part_number));
        xml.time("LastModified", part.last_modified);
        xml.etag(part.etag);
        xml.number("Size", part.size);
        checksums(&mut xml, &part.checksums);
        xml.close("Part");
    }
    xml.close("ListPartsResult");
}

/// DeleteObjects; a quiet request passes errors only.
pub fn delete_result<'a>(out: &mut Vec<u8>, results: impl IntoIterator<Item = DeleteResult<'a>>) {
    let mut xml = Writer::document(out, "DeleteResult");
    for result in results {
        match result {
            DeleteResult::Deleted(deleted) => {
                xml.open("Deleted");
                xml.key("Key", deleted.key, false);
                xml.optional("VersionId", deleted.version_id);
                if deleted.delete_marker {
                    xml.boolean("DeleteMarker", true);
                }
                xml.optional("DeleteMarkerVersionId", deleted.delete_marker_version_id);
                xml.close("Deleted");
            }
            DeleteResult::Error(error) => {
                xml.open("Error");
                xml.key("Key", error.key, false);
                xml.optional("VersionId", error.version_id);
                xml.text("Code", error.code);
                xml.text("Message", error.message);
                xml.close("Error");
            }
        }
    }
    xml.close("DeleteResult");
}

/// GetObjectAttributes.
pub fn get_object_attributes(out: &mut Vec<u8>, attributes: &GetObjectAttributes<'_>) {
    let mut xml = Writer::document(out, "GetObjectAttributesResponse");
    xml.optional("ETag", attributes.etag);
    if let Some(of) = &attributes.checksums {
        xml.open("Checksum");
        checksums(&mut xml, of);
        xml.close("Checksum");
    }
    if let Some(parts) = &attributes.parts {
        object_parts(&mut xml, parts);
    }
    xml.optional("StorageClass", attributes.storage_class);
    if let Some(size) = attributes.object_size {
        xml.number("ObjectSize", size);
    }
    xml.close("GetObjectAttributesResponse");
}

/// An error, without the declaration: CompleteMultipartUpload may have to report one where its result was expected. `fields`
/// come between the message and what follows them, in order.
pub fn error_document<'a>(out: &mut Vec<u8>, code: &str, message: &str, fields: impl IntoIterator<Item = (&'a str, &'a str)>) {
    let mut xml = Writer::new(out);
    xml.open("Error");
    xml.text("Code", code);
    xml.text("Message", message);
    for (name, text) in fields {
        xml.text(name, text);
    }
    xml.close("Error");
}

fn out_with_declaration(out: &mut Vec<u8>) -> &mut Vec<u8> {
    out.extend_from_slice(DECLARATION);
    out
}

fn copy(out: &mut Vec<u8>, root: &str, result: &CopyResult<'_>) {
    let mut xml = Writer::document(out, root);
    xml.time("LastModified", result.last_modified);
    xml.etag(result.etag);
    checksums(&mut xml, &result.checksums);
    xml.close(root);
}

fn object_parts(xml: &mut Writer<'_>, parts: &ObjectParts<'_>) {
    xml.open("ObjectParts");
    xml.number("PartsCount", u64::from(parts.parts_count));
    xml.number("PartNumberMarker", u64::from(parts.part_number_marker));
    if let Some(next) = parts.next_part_number_marker {
        xml.number("NextPartNumberMarker", u64::from(next));
    }
    xml.number("MaxParts", parts.max_parts);
    xml.boolean("IsTruncated", parts.is_truncated);
    for part in parts.parts {
        xml.open("Part");
        xml.number("PartNumber", u64::from(part.part_number));
        xml.number("Size", part.size);
        checksums(xml, &part.checksums);
        xml.close("Part");
    }
    xml.close("ObjectParts");
}

fn checksums(xml: &mut Writer<'_>, checksums: &Checksums<'_>) {
    for (algorithm, value) in checksums.values {
        xml.checksum(algorithm, value);
    }
    xml.optional("ChecksumType", checksums.checksum_type);
}

#[cfg(test)]
mod tests;
