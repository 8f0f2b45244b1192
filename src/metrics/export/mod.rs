//! How does it look from outside? The metrics as Prometheus' text, over http, on a thread of its own.
//!
//! May import every room of floor 4 and below; reads the cells that `metrics::record` fills, and asks the volume and the kernel
//! for the rest when somebody asks, so that nobody pays for metrics that nobody reads. Never on a data core. Two paths, GET and
//! HEAD only, hyper's parser. Limits: `METRICS_CONNECTIONS_MAX` connections, each with `METRICS_*` bounds on head, idle time and
//! life. What is served names cores, operations and sizes, never a bucket, a key or a client.

mod families;
mod text;

use std::convert::Infallible;
use std::net::TcpListener as StdListener;
use std::sync::Arc;
use std::thread::JoinHandle;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{sleep, timeout};

use super::record::CoreCells;
use crate::config::Durability;
use crate::limits::{
    ACCEPT_PAUSE, METRICS_CONNECTION_DURATION, METRICS_CONNECTIONS_MAX, METRICS_DRAIN_TIMEOUT, METRICS_HEAD_SIZE_MAX,
    METRICS_IDLE_TIMEOUT,
};
use crate::s3::service::Settings;

/// What is looked at.
pub struct Sources {
    /// Each data core's CPU and its cells.
    pub cores: Vec<(usize, &'static CoreCells)>,
    /// The volume is in there.
    pub settings: Arc<Settings>,
    /// As configured.
    pub durability: Durability,
}

/// The running listener.
pub struct Exporter {
    stop: watch::Sender<bool>,
    thread: JoinHandle<()>,
}

impl Exporter {
    /// Serves metrics on `listener`, which is bound, listens and does not block.
    pub fn start(listener: StdListener, sources: Sources) -> std::io::Result<Self> {
        let (stop, stopped) = watch::channel(false);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
        let listener = {
            let _inside = runtime.enter();
            TcpListener::from_std(listener)?
        };
        let thread = std::thread::Builder::new().name("metrics".to_owned());
        let thread = thread.spawn(move || runtime.block_on(serve(listener, Arc::new(sources), stopped)))?;
        Ok(Self { stop, thread })
    }

    /// Accepts no more, and gives answers in flight a moment to leave.
    pub fn stop(self) {
        // Both fail only when the thread has ended, which is what is wanted.
        let _ = self.stop.send(true);
        let _ = self.thread.join();
    }
}

type Stopped = watch::Receiver<bool>;

async fn serve(listener: TcpListener, sources: Arc<Sources>, mut stopped: Stopped) {
    let places = Arc::new(Semaphore::new(METRICS_CONNECTIONS_MAX));
    loop {
        let accepted = async {
            let place = places.clone().acquire_owned().await;
            (listener.accept().await, place)
        };
        let accepted = tokio::select! {
            accepted = accepted => accepted,
            _ = stopped.changed() => break,
        };
        match accepted {
            (Ok((stream, _)), Ok(place)) => {
                tokio::spawn(connection(stream, sources.clone(), stopped.clone(), place));
            }
            // Out of descriptors or memory: others go on and will free some.
            _ => sleep(ACCEPT_PAUSE).await,
        }
    }
    drop(listener);
    let _ = timeout(METRICS_DRAIN_TIMEOUT, places.acquire_many(METRICS_CONNECTIONS_MAX as u32)).await;
}

/// One connection, for as long as it may live.
async fn connection(stream: TcpStream, sources: Arc<Sources>, mut stopped: Stopped, _place: OwnedSemaphorePermit) {
    let service = service_fn(move |request| {
        let response = answer(&sources, &request);
        async { Ok::<_, Infallible>(response) }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(METRICS_IDLE_TIMEOUT).max_buf_size(METRICS_HEAD_SIZE_MAX);
    let mut served = std::pin::pin!(http.serve_connection(TokioIo::new(stream), service));
    tokio::select! {
        // However it ended: there is nobody to tell.
        _ = served.as_mut() => return,
        () = sleep(METRICS_CONNECTION_DURATION) => {}
        _ = stopped.changed() => {}
    }
    served.as_mut().graceful_shutdown();
    let _ = timeout(METRICS_DRAIN_TIMEOUT, served).await;
}

const TEXT: &str = "text/plain; charset=utf-8";
/// <https://prometheus.io/docs/instrumenting/exposition_formats/>
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

fn answer(sources: &Sources, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut refused = response(StatusCode::METHOD_NOT_ALLOWED, TEXT, "GET and HEAD only\n".to_owned());
        refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return refused;
    }
    match request.uri().path() {
        "/metrics" => response(StatusCode::OK, PROMETHEUS, families::render(sources)),
        "/" => response(StatusCode::OK, TEXT, "Sluice\n\n/metrics  for Prometheus, and for `sluice top`\n".to_owned()),
        _ => response(StatusCode::NOT_FOUND, TEXT, "only /metrics is here\n".to_owned()),
    }
}

fn response(status: StatusCode, content_type: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
