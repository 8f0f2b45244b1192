//! A simulated network for tests: two ends of one connection in memory, where the client's end dies at a chosen
//! operation of the server. Enumerating that operation tries the client's death at every await point of a request.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io::{self, Read};
use std::rc::Rc;
use std::time::Duration;

use super::Shutdown;

/// The server's end of a simulated connection.
pub struct End {
    wire: Rc<Wire>,
}

/// How the client dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Death {
    /// It closes: the server reads an end, and writes into the void until the reset comes.
    Fin,
    /// It resets: the server's next call fails.
    Reset,
}

/// The wire, as the test sees it.
pub struct Wire {
    /// What the client has sent and the server has not read.
    to_server: RefCell<VecDeque<u8>>,
    /// What the server has sent.
    pub to_client: RefCell<Vec<u8>>,
    /// Operations of the server so far.
    pub operations: Cell<usize>,
    /// The client dies when the server starts this operation.
    dies_at: usize,
    death: Death,
    /// The server receives at most this many bytes at once.
    segment_size: usize,
    /// Bytes of the next segments, whatever those after them have: a head that comes alone, before a body that waits to be
    /// invited; or requests, each by itself.
    segment_sizes: RefCell<VecDeque<usize>>,
    /// Each receive finds nothing at first, so that the server waits for it.
    is_slow: Cell<bool>,
    /// What the next receive does on a slow wire.
    arrives_later: Cell<bool>,
    server_closed: Cell<bool>,
}

impl Wire {
    /// A connection on which the client has sent `request`, and dies before the server's operation number `dies_at`.
    pub fn new(request: Vec<u8>, dies_at: usize, death: Death, segment_size: usize) -> Rc<Self> {
        Rc::new(Self {
            to_server: RefCell::new(request.into()),
            to_client: RefCell::default(),
            operations: Cell::new(0),
            dies_at,
            death,
            segment_size,
            segment_sizes: RefCell::default(),
            is_slow: Cell::new(false),
            arrives_later: Cell::new(false),
            server_closed: Cell::new(false),
        })
    }

    /// The first segment has exactly `first_segment_size` bytes, and each one is waited for.
    pub fn slow(self: &Rc<Self>, first_segment_size: usize) {
        self.segments([first_segment_size]);
        self.is_slow.set(true);
        self.arrives_later.set(true);
    }

    /// The next segments have exactly these sizes.
    pub fn segments(&self, sizes: impl IntoIterator<Item = usize>) {
        self.segment_sizes.borrow_mut().extend(sizes);
    }

    /// Whether the server has received everything that the client sent.
    pub fn is_received(&self) -> bool {
        self.to_server.borrow().is_empty()
    }

    /// The server's end.
    pub fn end(self: &Rc<Self>) -> End {
        End { wire: self.clone() }
    }

    /// Whether the client's death was reached.
    pub fn client_died(&self) -> bool {
        self.operations.get() > self.dies_at
    }
}

impl End {
    fn operate(&self) -> bool {
        let operation = self.wire.operations.get();
        self.wire.operations.set(operation + 1);
        operation >= self.wire.dies_at
    }

    pub(super) fn try_receive(&self, into: &mut [u8]) -> io::Result<usize> {
        if self.operate() {
            return match self.wire.death {
                Death::Fin => Ok(0),
                Death::Reset => Err(io::ErrorKind::ConnectionReset.into()),
            };
        }
        if self.wire.is_slow.get() && self.wire.arrives_later.replace(!self.wire.arrives_later.get()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let mut queue = self.wire.to_server.borrow_mut();
        let segment_size = self.wire.segment_sizes.borrow_mut().pop_front();
        let count = into.len().min(queue.len()).min(segment_size.unwrap_or(self.wire.segment_size));
        if let Some(rest) = segment_size.map(|size| size - count).filter(|rest| *rest > 0 && !queue.is_empty()) {
            self.wire.segment_sizes.borrow_mut().push_front(rest);
        }
        if count == 0 {
            // The client waits for its answer; a server that waits for more waits for the client's end.
            return if self.wire.server_closed.get() { Ok(0) } else { Err(io::ErrorKind::WouldBlock.into()) };
        }
        // One piece: the queue is filled once.
        queue.read(&mut into[..count])
    }

    pub(super) fn try_send(&self, bytes: &[u8]) -> io::Result<usize> {
        if self.operate() && self.wire.death == Death::Reset {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        self.wire.to_client.borrow_mut().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    /// It is not told of a client that dies later, at an operation of the server's.
    pub(super) fn peer_has_left(&self) -> bool {
        self.wire.client_died()
    }

    /// With nothing left to read, the simulated client goes away after a moment: what would be an idle connection ends.
    pub(super) async fn readable(&self) -> io::Result<()> {
        if self.wire.to_server.borrow().is_empty() {
            self.wire.server_closed.set(true);
        } else if !self.wire.is_slow.get() {
            // It is there already, and no timer of a real clock comes between two requests.
            return Ok(());
        }
        super::sleep(Duration::from_micros(10)).await;
        Ok(())
    }

    pub(super) async fn writable(&self) -> io::Result<()> {
        super::sleep(Duration::from_micros(10)).await;
        Ok(())
    }

    pub(super) fn shutdown(&self, _half: Shutdown) {
        self.wire.server_closed.set(true);
    }
}
