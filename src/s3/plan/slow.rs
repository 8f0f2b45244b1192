//! Answers that may take long: CompleteMultipartUpload and CopyObject. Clients and proxies give up on a silent connection, so
//! after a while the answer begins, with white space until its document is known; an error then stands in a 200, as S3 does
//! (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_CompleteMultipartUpload.html>). A client that leaves stops a copy: it would
//! ask for all of it again. A completion goes on: asked again, its client is answered what came of it.

use std::pin::{Pin, pin};

use super::answer::{Answer, Exchanged, Reply};
use super::context::Context;
use super::core::HOST_ID;
use super::leave::{self, Stop};
use crate::base::version_id::Version;
use crate::http;
use crate::io::within;
use crate::limits::KEEP_ALIVE_INTERVAL;
use crate::net::{After, Exchange};
use crate::s3::ask::error::S3Error;
use crate::xml;

/// A finished document, without its declaration, and headers that only a fast answer can carry.
pub struct Document {
    pub headers: Vec<u8>,
    pub xml: Vec<u8>,
}

impl Document {
    /// With the version that was made, and the one that was read for it, where there are such.
    pub fn new(xml: Vec<u8>, made: Option<Version>, read: Option<Version>) -> Self {
        let mut answer = Answer::default();
        answer.version(made);
        if let Some(read) = read {
            answer.own_header("x-amz-copy-source-version-id", read.to_string().as_bytes());
        }
        Self { headers: answer.headers, xml }
    }
}

/// How a wait for the work ended.
enum Waited<T> {
    Done(T),
    /// The time is over, and the client waits.
    NotYet,
    Left,
}

/// Answers with what `work` makes, whole when it is quick. `stop` is told when the client leaves.
pub async fn answer(
    exchange: &mut Exchange,
    context: &Context<'_>,
    request_id: &str,
    stop: &Stop,
    work: impl Future<Output = Result<Document, S3Error>>,
) -> Result<Reply, S3Error> {
    let mut work = pin!(work);
    let quick = loop {
        match wait(exchange, work.as_mut()).await {
            // HTTP/1.0 has no chunks (RFC 9112 section 6.1): such a client waits in silence.
            Waited::NotYet if context.request.version() == http::Version::Http10 => {}
            waited => break waited,
        }
    };
    match quick {
        Waited::Done(result) => {
            let document = result?;
            let mut answer = Answer::xml(200, [xml::DECLARATION, &document.xml].concat());
            answer.headers.extend_from_slice(&document.headers);
            return Ok(answer.into());
        }
        Waited::NotYet => {}
        Waited::Left => {
            stop.tell();
            drop(work.await);
            return Ok(leave::left());
        }
    }
    let mut head = Vec::with_capacity(512);
    context.core.write_head(&mut head, 200, request_id, Some("close"));
    http::write_header(&mut head, "Content-Type", b"application/xml");
    http::write_header(&mut head, "Transfer-Encoding", b"chunked");
    http::end_head(&mut head);
    chunk(&mut head, xml::DECLARATION);
    let mut client_is_there = exchange.send(&head, true).await.is_ok();
    let result = loop {
        if !client_is_there {
            stop.tell();
            break work.await;
        }
        match wait(exchange, work.as_mut()).await {
            Waited::Done(result) => break result,
            Waited::NotYet => {
                let mut space = Vec::with_capacity(8);
                chunk(&mut space, b" ");
                client_is_there = exchange.send(&space, true).await.is_ok();
            }
            Waited::Left => client_is_there = false,
        }
    };
    if !client_is_there {
        return Ok(leave::left());
    }
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
    let sent = exchange.send(&rest, false).await.is_ok();
    Ok(Reply::Sent(Exchanged { after: if sent { After::Close } else { After::Abort }, status: 200, error }))
}

async fn wait<F: Future>(exchange: &Exchange, work: Pin<&mut F>) -> Waited<F::Output> {
    match within(KEEP_ALIVE_INTERVAL, pin!(exchange.unless_client_leaves(work))).await {
        Some(Some(result)) => Waited::Done(result),
        Some(None) => Waited::Left,
        None => Waited::NotYet,
    }
}

/// One chunk of `Transfer-Encoding: chunked` (RFC 9112 section 7.1).
fn chunk(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(format!("{:x}\r\n", bytes.len()).as_bytes());
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
}
