//! `/health/live` and `/health/ready`, also where MinIO has them, and `/minio/health/cluster` with its `/read`, which `mc ready` waits
//! for: without credentials, and only unsigned GET and HEAD of exactly these paths. Signed, they are objects of the legal buckets
//! `health` and `minio`.

use crate::http::Request;
use crate::s3::plan::answer::Answer;
use crate::s3::plan::core::Core;

/// The answer, when `request` asks for the server's health.
pub fn answer(core: &Core, request: &Request<'_>) -> Option<Answer> {
    if !matches!(request.method(), "GET" | "HEAD") || request.header_bytes("authorization").is_some() {
        return None;
    }
    let when = |is_well: bool| Answer::empty(if is_well { 200 } else { 503 });
    match (request.path(), request.query()) {
        (b"/health/live" | b"/minio/health/live", None) => Some(Answer::empty(200)),
        (b"/health/ready" | b"/minio/health/ready", None) => Some(readiness(core.trouble())),
        (b"/minio/health/cluster", None) => Some(with_quorum(readiness(core.trouble()), "X-Minio-Write-Quorum")),
        // Whether the others suffice when this one is taken down: there are none.
        (b"/minio/health/cluster", Some(b"maintenance=true")) => Some(with_quorum(Answer::empty(412), "X-Minio-Write-Quorum")),
        (b"/minio/health/cluster/read", None) => Some(with_quorum(when(core.serves_reads()), "X-Minio-Read-Quorum")),
        _ => None,
    }
}

/// What MinIO's client reads of such an answer: how many drives must be there.
fn with_quorum(mut answer: Answer, name: &'static str) -> Answer {
    answer.own_header(name, b"1");
    answer
}

/// With the reason in words: it is for the operator who asks, and names nothing that a client does not see.
fn readiness(trouble: Option<&'static str>) -> Answer {
    let Some(reason) = trouble else { return Answer::empty(200) };
    let mut answer = Answer { status: 503, body: format!("{reason}\n").into_bytes(), ..Answer::default() };
    answer.header("Content-Type", b"text/plain");
    answer
}
