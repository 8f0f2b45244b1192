//! The runtime of one data core: a ring built on the core's own thread, its timers, and the core's helpers.

use std::cell::RefCell;
use std::future::Future;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use super::helper::{HelperPanicked, Helpers};
use crate::limits::RING_ENTRIES;
use crate::metrics::record::{self, RingOperation, Work};

pub use monoio::task::JoinHandle;

thread_local! {
    static ALWAYS_READY: RefCell<Option<Rc<monoio::net::TcpStream>>> = const { RefCell::new(None) };
    /// The helpers of the core that runs on this thread.
    static HELPERS: RefCell<Option<Helpers>> = const { RefCell::new(None) };
}

/// Builds the ring on this thread and runs `main` on it until it is done.
///
/// SINGLE_ISSUER and DEFER_TASKRUN (Linux 6.1): completions are run in our wait and nowhere else, so a core is never
/// interrupted in the middle of its work.
pub fn run_core<F: Future<Output = ()>>(helpers: Helpers, main: impl FnOnce() -> F) -> std::io::Result<()> {
    let mut runtime = build_runtime()?;
    HELPERS.set(Some(helpers));
    runtime.block_on(main());
    HELPERS.set(None);
    // Its descriptor belongs to the ring that ends here.
    ALWAYS_READY.set(None);
    Ok(())
}

/// The same without helpers: what blocks is done on this thread, which is then the only one. For counting instructions, since
/// under valgrind a thread that waits for its ring stops all others.
#[cfg(test)]
pub fn run_alone<F: Future<Output = ()>>(main: impl FnOnce() -> F) -> std::io::Result<()> {
    build_runtime()?.block_on(main());
    ALWAYS_READY.set(None);
    Ok(())
}

fn build_runtime() -> std::io::Result<monoio::Runtime<monoio::time::TimeDriver<monoio::IoUringDriver>>> {
    let mut ring = io_uring::IoUring::builder();
    ring.setup_single_issuer().setup_defer_taskrun().setup_cqsize(RING_ENTRIES * 16);
    monoio::RuntimeBuilder::<monoio::IoUringDriver>::new().with_entries(RING_ENTRIES).uring_builder(ring).enable_timer().build()
}

/// Starts a task on this core.
pub fn spawn<T: 'static>(task: impl Future<Output = T> + 'static) -> JoinHandle<T> {
    monoio::spawn(task)
}

/// Waits.
pub async fn sleep(duration: Duration) {
    monoio::time::sleep(duration).await;
}

/// What `future` gives, if it does within `duration`; else it goes on and may be asked again.
pub async fn within<F: Future>(duration: Duration, mut future: Pin<&mut F>) -> Option<F::Output> {
    let mut timer = pin!(monoio::time::sleep(duration));
    std::future::poll_fn(|context| match future.as_mut().poll(context) {
        Poll::Ready(value) => Poll::Ready(Some(value)),
        Poll::Pending => timer.as_mut().poll(context).map(|()| None),
    })
    .await
}

/// Lets the core take one turn through its ring: whatever is runnable runs, and completions are seen. (A task that woke
/// itself would go to the queue's front, and starve the ring.)
pub async fn turn() {
    let ready = ALWAYS_READY.with_borrow_mut(|ready| {
        if ready.is_none() {
            *ready = always_ready().ok().map(Rc::new);
        }
        ready.clone()
    });
    match ready {
        Some(ready) => {
            let _waiting = record::on_ring(RingOperation::Poll);
            drop(ready.writable(false).await);
        }
        // No descriptor left for the event: the timer's millisecond is slower, and right.
        None => sleep(Duration::from_millis(1)).await,
    }
}

/// An event that can always be written, wrapped as the only thing that monoio polls.
fn always_ready() -> std::io::Result<monoio::net::TcpStream> {
    let event = rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC)?;
    monoio::net::TcpStream::from_std(std::net::TcpStream::from(event))
}

/// Runs `work`, which may block, on one of this core's helper threads for such work. The core goes on with other connections.
/// When the caller is dropped, the work is still done, and its result is dropped.
pub async fn blocking<T: Send + 'static>(kind: Work, work: impl FnOnce() -> T + Send + 'static) -> Result<T, HelperPanicked> {
    blocking_for(None, kind, work).await
}

/// The same for work of which one client could bring much: those who wait for this kind take turns.
pub async fn blocking_for<T: Send + 'static>(
    client: Option<IpAddr>,
    kind: Work,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, HelperPanicked> {
    let helpers = HELPERS.with_borrow(Clone::clone);
    match helpers {
        Some(helpers) => helpers.run(kind, client, work).await,
        None => Ok(work()),
    }
}
