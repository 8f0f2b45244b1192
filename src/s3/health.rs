//! `/health/live` and `/health/ready`, also where MinIO has them: without credentials, and only unsigned GET and HEAD of exactly
//! these paths. Signed, they are objects of the legal buckets `health` and `minio`.

use super::answer::Answer;
use super::service::Core;
use crate::http::Request;

/// The answer, when `request` asks for the server's health.
pub(super) fn answer(core: &Core, request: &Request<'_>) -> Option<Answer> {
    if !matches!(request.method(), "GET" | "HEAD") || request.header_bytes("authorization").is_some() || request.query().is_some()
    {
        return None;
    }
    match request.path() {
        b"/health/live" | b"/minio/health/live" => Some(Answer::empty(200)),
        b"/health/ready" | b"/minio/health/ready" => Some(Answer::empty(if core.is_ready() { 200 } else { 503 })),
        _ => None,
    }
}
