//! What does the document say? Reads the XML documents of requests and writes those of answers.
//!
//! Pure: no I/O, no clock, nothing of `store` or `http`. Imports `limits`, `base` and `model`. Requests are read in one pass over the
//! caller's bytes and take memory in proportion to them (`XML_SIZE_MAX`, `XML_DEPTH_MAX`, `DELETE_KEYS_MAX`,
//! `PART_NUMBER_MAX`); answers are appended to a buffer of the caller, element order as in the S3 API reference.

mod answer;
mod list;
mod parse;
mod versioning;
mod write;

pub use answer::{
    Checksums, CompleteMultipartUploadResult, CopyResult, DeleteError, DeleteResult, Deleted, GetObjectAttributes, ListParts,
    ObjectPart, ObjectParts, PartEntry, complete_multipart_upload, copy_object, copy_part, delete_result, error_document,
    get_object_attributes, initiate_multipart_upload, list_parts, location_constraint,
};
pub use list::{
    BucketEntry, ListBuckets, ListEntry, ListMultipartUploads, ListObjects, ListObjectsV2, ListVersions, Owner, UploadEntry,
    VersionEntry, list_buckets, list_multipart_uploads, list_objects, list_objects_v2, list_versions,
};
pub use parse::{
    CompletedPart, CreateBucketConfiguration, Delete, ObjectIdentifier, XmlError, complete_multipart_upload as parse_complete,
    create_bucket_configuration as parse_create_bucket, delete_objects as parse_delete,
};
pub use versioning::{parse_versioning, versioning};
pub use write::{DECLARATION, Writer};

/// The namespace of every S3 document.
pub const NAMESPACE: &str = "http://s3.amazonaws.com/doc/2006-03-01/";
