//! Answers that may take long: CompleteMultipartUpload and CopyObject. Clients and proxies give up on a silent connection, so
//! after a while the answer begins, with white space until its document is known; an error then stands in a 200, as S3 does
//! (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_CompleteMultipartUpload.html>).

use std::pin::pin;

use super::answer::{Answer, HOST_ID, Reply};
use super::context::Context;
use super::error::S3Error;
use super::service::Exchanged;
use crate::http;
use crate::io::within;
use crate::limits::KEEP_ALIVE_INTERVAL;
use crate::net::{After, Exchange};
use crate::xml;

/// A finished document, without its declaration, and headers that only a fast answer can carry.
pub(super) struct Document {
    pub(super) headers: Vec<u8>,
    pub(super) xml: Vec<u8>,
}

/// Answers with what `work` makes, whole when it is quick.
pub(super) async fn answer(
    exchange: &mut Exchange,
    context: &Context<'_>,
    request_id: &str,
    work: impl Future<Output = Result<Document, S3Error>>,
) -> Result<Reply, S3Error> {
    let mut work = pin!(work);
    // HTTP/1.0 has no chunks (RFC 9112 section 6.1): such a client waits in silence.
    let quick = match context.request.version() {
        http::Version::Http10 => Some(work.as_mut().await),
        http::Version::Http11 => within(KEEP_ALIVE_INTERVAL, work.as_mut()).await,
    };
    if let Some(result) = quick {
        let document = result?;
        let mut answer = Answer::xml(200, [xml::DECLARATION, &document.xml].concat());
        answer.headers.extend_from_slice(&document.headers);
        return Ok(answer.into());
    }
    let mut head = Vec::with_capacity(512);
    context.core.write_head(&mut head, 200, request_id, Some("close"));
    http::write_header(&mut head, "Content-Type", b"application/xml");
    http::write_header(&mut head, "Transfer-Encoding", b"chunked");
    http::end_head(&mut head);
    chunk(&mut head, xml::DECLARATION);
    let mut client_is_there = exchange.send(&head, true).await.is_ok();
    let result = loop {
        match within(KEEP_ALIVE_INTERVAL, work.as_mut()).await {
            Some(result) => break result,
            // The work goes on also when nobody waits for it any more: it is half done.
            None if client_is_there => {
                let mut space = Vec::with_capacity(8);
                chunk(&mut space, b" ");
                client_is_there = exchange.send(&space, true).await.is_ok();
            }
            None => {}
        }
    };
    let error = result.as_ref().err().map(|error| error.code());
    let document = match result {
        Ok(document) => document.xml,
        Err(error) => {
            let mut out = Vec::new();
            error.write_element(&mut out, &String::from_utf8_lossy(context.request.path()), request_id, HOST_ID);
            out
        }
    };
    let mut rest = Vec::with_capacity(document.len() + 32);
    chunk(&mut rest, &document);
    rest.extend_from_slice(b"0\r\n\r\n");
    let sent = client_is_there && exchange.send(&rest, false).await.is_ok();
    Ok(Reply::Sent(Exchanged { after: if sent { After::Close } else { After::Abort }, status: 200, error }))
}

/// One chunk of `Transfer-Encoding: chunked` (RFC 9112 section 7.1).
fn chunk(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(format!("{:x}\r\n", bytes.len()).as_bytes());
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
}
