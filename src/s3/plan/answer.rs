//! The answer to a request: its head with what every answer carries, and a body that is in memory.

use super::core::{Core, HOST_ID};
use crate::base::version_id::Version;
use crate::digest::ETag;
use crate::digest::checksum::Value;
use crate::http;
use crate::mem::Lease;
use crate::metrics::record::ErrorClass;
use crate::net::After;
use crate::s3::ask::error::{Code, S3Error};

/// An answer that is whole before it is sent.
#[derive(Default)]
pub struct Answer {
    pub status: u16,
    /// Complete header lines beside the common ones.
    pub headers: Vec<u8>,
    pub body: Vec<u8>,
    /// Content-Length where it is not the body's: an answer to HEAD.
    pub length: Option<u64>,
    /// Keeps room for a body that is more than some lines, until its client has taken it.
    pub lease: Option<Lease>,
}

/// What a verb gives back.
pub enum Reply {
    /// To be sent.
    Whole(Answer),
    /// Already on its way; this becomes of the connection.
    Sent(Exchanged),
}

/// An answered request: what becomes of the connection, and what the log says.
pub struct Exchanged {
    pub after: After,
    pub status: u16,
    /// What went wrong, for the metrics.
    pub error: Option<Code>,
}

impl Exchanged {
    /// What metrics count it as.
    pub fn error_class(&self) -> Option<ErrorClass> {
        match self.error {
            Some(code) => code.class(),
            None => (self.after == After::Abort).then_some(ErrorClass::CutOff),
        }
    }
}

impl Answer {
    /// An answer without a body.
    pub fn empty(status: u16) -> Self {
        Self { status, ..Self::default() }
    }

    /// An XML document.
    pub fn xml(status: u16, body: Vec<u8>) -> Self {
        let mut answer = Self { status, body, ..Self::default() };
        answer.header("Content-Type", b"application/xml");
        answer
    }

    /// Adds a header whose value is our own.
    pub fn own_header(&mut self, name: &'static str, value: &[u8]) {
        http::write_own(&mut self.headers, name, value);
    }

    /// An answer to bytes that were taken: their ETag, and the checksums that were sent or given.
    pub fn taken(md5: [u8; 16], checksums: &[Value]) -> Self {
        let mut answer = Self::empty(200);
        // What most such answers take.
        answer.headers.reserve(160);
        let mut text = Vec::with_capacity(48);
        ETag::Md5(md5).write_quoted_into(&mut text);
        answer.own_header("ETag", &text);
        for value in checksums {
            text.clear();
            value.write_into(&mut text);
            answer.own_header(value.algorithm().header(), &text);
        }
        answer
    }

    /// Says which version it is about; nothing in a bucket that never kept any.
    pub fn version(&mut self, version: Option<Version>) {
        if let Some(version) = version {
            self.own_header(VERSION_ID, version.to_string().as_bytes());
        }
    }

    /// Adds a header.
    pub fn header(&mut self, name: &str, value: &[u8]) {
        // A name that is no token can only be that of user metadata written through POSIX; it is left out.
        let _ = http::write_header(&mut self.headers, name, value);
    }

    /// An S3 error.
    pub fn error(error: &S3Error, resource: &str, request_id: &str) -> Self {
        let mut body = Vec::with_capacity(512);
        error.write_document(&mut body, resource, request_id, HOST_ID);
        let mut answer = match error.status() {
            304 => Self::empty(304),
            status => Self::xml(status, body),
        };
        // RFC 9110 section 15.5.17: what a satisfiable range would have to fit in.
        if let Some((_, size)) = error.fields().iter().find(|(name, _)| error.status() == 416 && *name == "ActualObjectSize") {
            answer.header("Content-Range", format!("bytes */{size}").as_bytes());
        }
        // A HEAD has no document to tell it, and botocore looks for it here.
        if let Some((_, region)) = error.fields().iter().find(|(name, _)| *name == "Region") {
            answer.header(BUCKET_REGION, region.as_bytes());
        }
        for (name, value) in error.headers() {
            answer.header(name, value.as_bytes());
        }
        if error.code().is_transient() {
            answer.header("Retry-After", b"1");
        }
        answer
    }

    /// The bytes on the wire: head, and body unless it is an answer to HEAD.
    pub fn render(&self, core: &Core, request_id: &str, connection: Option<&str>, head_only: bool) -> Vec<u8> {
        let mut out = self.render_head(core, request_id, connection, self.body.len());
        if !head_only && self.status != 204 && self.status != 304 {
            out.extend_from_slice(&self.body);
        }
        out
    }

    /// The head on the wire, with room for `room` bytes behind it.
    pub fn render_head(&self, core: &Core, request_id: &str, connection: Option<&str>, room: usize) -> Vec<u8> {
        let mut out = Vec::with_capacity(256 + self.headers.len() + room);
        core.write_head(&mut out, self.status, request_id, connection);
        out.extend_from_slice(&self.headers);
        // RFC 9110 section 8.6: none with 204; 304 speaks of a representation that is not sent.
        if self.status != 204 && self.status != 304 {
            http::write_own_number(&mut out, "Content-Length", self.length.unwrap_or(self.body.len() as u64));
        }
        http::end_head(&mut out);
        out
    }
}

impl From<Answer> for Reply {
    fn from(answer: Answer) -> Self {
        Self::Whole(answer)
    }
}

/// Which version of an object an answer is about.
pub const VERSION_ID: &str = "x-amz-version-id";
/// That what is asked for, or was deleted or made, is a delete marker.
pub const DELETE_MARKER: &str = "x-amz-delete-marker";
/// Where a bucket is: in answers to HeadBucket, and to requests that were signed for another region.
pub const BUCKET_REGION: &str = "x-amz-bucket-region";
