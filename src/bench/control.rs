//! The run's own questions, one at a time and before anything is measured: is the bucket there, what does it hold?

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::time::Timespec;

use super::BenchError;
use super::answer::{Interest, element};
use super::connection::{Connection, Exchange, Space, Turn};
use super::endpoint::Endpoint;
use super::keys::{self, ListedKey};
use super::payload::Payload;
use super::request::{Renderer, Request};
use super::settings::{Operation, Settings};
use super::workload::Task;
use crate::limits::{BENCH_OBJECTS_MAX, LIST_PAGE_MAX};

/// A connection for them.
pub struct Control {
    endpoint: Arc<Endpoint>,
    renderer: Renderer,
    space: Space,
    timeout: Duration,
}

/// What was answered.
struct Reply {
    status: u16,
    document: Vec<u8>,
}

impl Control {
    pub fn new(settings: &Settings, endpoint: &Arc<Endpoint>, payload: &Arc<Payload>) -> Self {
        let (endpoint, renderer) = (Arc::clone(endpoint), Renderer::new(settings, endpoint.host.clone()));
        Self { endpoint, renderer, space: Space::new(Arc::clone(payload)), timeout: settings.timeout }
    }

    /// Makes the bucket if it is not there; whether it was made.
    pub fn ensure_bucket(&mut self) -> Result<bool, BenchError> {
        let request = self.renderer.bucket("HEAD")?;
        let reply = self.ask(request)?;
        if reply.status == 403 {
            // A HEAD has no body to say why; a listing has.
            let request = self.renderer.list(&[], 1)?;
            return self.ask_well(request).map(|_| false);
        }
        if reply.status != 404 {
            return Ok(false);
        }
        let request = self.renderer.bucket("PUT")?;
        self.ask_well(request).map(|_| true)
    }

    /// Deletes the bucket.
    pub fn delete_bucket(&mut self) -> Result<(), BenchError> {
        let request = self.renderer.bucket("DELETE")?;
        self.ask_well(request).map(drop)
    }

    /// Everything below the prefix, page by page.
    pub fn list_all(&mut self) -> Result<Vec<ListedKey>, BenchError> {
        let (mut all, mut token) = (Vec::new(), None::<String>);
        // Bounded although a broken server may answer without end.
        while (all.len() as u64) < BENCH_OBJECTS_MAX {
            let parameters: Vec<_> = token.iter().map(|token| ("continuation-token", token.as_str())).collect();
            let request = self.renderer.list(&parameters, LIST_PAGE_MAX as u64)?;
            let line = request.line();
            let reply = self.ask_well(request)?;
            let page = keys::read_page(&reply.document);
            let page = page.ok_or_else(|| BenchError::Refused(format!("{line}: the answer is no listing")))?;
            let is_last = page.next.is_none() || page.keys.is_empty();
            all.extend(page.keys);
            if is_last {
                return Ok(all);
            }
            token = page.next;
        }
        Err(BenchError::Usage(format!("there are more than {BENCH_OBJECTS_MAX} objects below the prefix: choose a longer one")))
    }

    fn ask_well(&mut self, request: Request) -> Result<Reply, BenchError> {
        let line = request.line();
        let reply = self.ask(request)?;
        if (200..300).contains(&reply.status) {
            return Ok(reply);
        }
        let of = |name: &str| element(&reply.document, name).unwrap_or_default();
        Err(BenchError::Refused(format!("{line}: {} {}: {}", reply.status, of("Code"), of("Message"))))
    }

    /// Sends one request on a connection of its own and waits for the answer.
    fn ask(&mut self, request: Request) -> Result<Reply, BenchError> {
        let deadline = Instant::now() + self.timeout;
        let line = request.line();
        let lost = |reason: &str| BenchError::Unreachable(format!("{line}: {reason}"));
        let mut connection = Connection::default();
        connection.open(&self.endpoint).map_err(|error| lost(&error.to_string()))?;
        let mut waiting = Some(Rc::new(request));
        while Instant::now() < deadline {
            match connection.turn(&mut self.space) {
                Turn::Wait => wait(&connection, deadline),
                Turn::Ready => {
                    let Some(request) = waiting.take() else { continue };
                    let task = Task { operation: Operation::List, number: 0, repeats: false };
                    let document = || Interest::Document(Vec::new());
                    let exchange = Exchange::new(task, request, Vec::new(), &self.space.payload, Instant::now(), None, document);
                    if let Turn::Broken(reason) = connection.begin(exchange, &self.space) {
                        return Err(lost(&reason));
                    }
                }
                Turn::Answered(answer) => {
                    let status = answer.head.status;
                    let document = match answer.exchange.interest {
                        Interest::Document(document) | Interest::Error(document) => document,
                        Interest::Length | Interest::Keys(_) => Vec::new(),
                    };
                    return Ok(Reply { status, document });
                }
                Turn::Broken(reason) => return Err(lost(&reason)),
            }
        }
        Err(lost("timeout"))
    }
}

/// Waits until the connection can go on.
fn wait(connection: &Connection, deadline: Instant) {
    let Some(transport) = &connection.transport else { return };
    let mut flags = PollFlags::IN;
    flags.set(PollFlags::OUT, connection.wants_write());
    let left = deadline.saturating_duration_since(Instant::now());
    let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
    // Whatever it says, the connection is tried again.
    let _ = rustix::event::poll(&mut [PollFd::from_borrowed_fd(transport.socket(), flags)], Some(&timeout));
}
