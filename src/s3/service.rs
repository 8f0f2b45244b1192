//! The way in: from what arrived on a connection to the verb that answers it, and from its answer or error back to the
//! connection. Authentication and policy are decided here, once, for all verbs.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use arc_swap::ArcSwap;

use super::address::{self, Address};
use super::answer::{Answer, BUCKET_REGION, HOST_ID, Reply};
use super::context::{Bounds, Context, Query};
use super::error::{Code, S3Error};
use super::operation::{self, Counted, Level, Operation, Route};
use super::{attributes, body, bucket, complete, copy, delete, get, health, list, multipart, put, request_headers, unconfigured};
use crate::auth::{self, RootCredentials, Verifier};
use crate::base::time::Timestamp;
use crate::config::ReadMode;
use crate::http::{self, DateCache, HeadError, Request};
use crate::io::sleep;
use crate::limits::RECENT_DURATION;
use crate::mem::Arena;
use crate::metrics::record::ErrorClass;
use crate::net::{After, Arrival, Exchange, ReceivedHead};
use crate::policy::{self, Decision, Question};
use crate::store::Volume;
use crate::store::object::Object;
use crate::store::recent::RecentObjects;

/// What all cores share.
pub struct Settings {
    /// The served directory.
    pub volume: Volume,
    /// The region that credentials must be scoped to.
    pub region: String,
    /// How objects are read.
    pub read_mode: ReadMode,
    /// What a reload changes.
    pub live: ArcSwap<Live>,
    /// The server is leaving: not ready any more.
    pub is_draining: AtomicBool,
}

/// What a reload changes: a request sees one state of it.
pub struct Live {
    /// The one identity of now.
    pub credentials: RootCredentials,
    /// Suffixes under which buckets are host names.
    pub domains: Vec<String>,
    /// Whether Signature Version 2 is believed.
    pub allow_sigv2: bool,
    /// Whether each request gets a line in the log.
    pub log_requests: bool,
    /// Bytes of one PUT and of one part, at most.
    pub put_size_max: u64,
    /// Bytes of a request's document, at most; each kind of document has its own bound besides.
    pub xml_size_max: usize,
}

/// What the requests of one core share.
pub struct Core {
    /// What all cores share.
    pub settings: Arc<Settings>,
    /// This core's blocks.
    pub arena: Arena,
    verifier: RefCell<Verifier>,
    date: RefCell<DateCache>,
    pub(super) recent: RefCell<RecentObjects>,
    /// Random at start and counted up: request ids are unique without asking the kernel for each.
    next_request_id: Cell<u64>,
}

/// An answered request: what becomes of the connection, and what the log says.
pub(super) struct Exchanged {
    pub(super) after: After,
    pub(super) status: u16,
    /// What went wrong, for the metrics.
    pub(super) error: Option<Code>,
}

impl Core {
    /// The state of a core. `seed` is random.
    /// At most `recent_objects_max` objects are remembered.
    pub fn new(settings: Arc<Settings>, arena: Arena, seed: u64, recent_objects_max: usize) -> Self {
        let (verifier, date) = (RefCell::default(), RefCell::new(DateCache::new()));
        let recent = RefCell::new(RecentObjects::new(recent_objects_max));
        Self { settings, arena, verifier, date, recent, next_request_id: Cell::new(seed) }
    }

    /// Closes what was opened too long ago, for as long as the core runs.
    pub async fn forget_recent(self: Rc<Self>) {
        loop {
            sleep(RECENT_DURATION).await;
            self.recent.borrow_mut().forget_old(Instant::now());
        }
    }

    /// Remembers an object that was opened no earlier than `opened_ns`.
    pub(super) fn remember(&self, bucket: &str, key: &str, object: Object, opened_ns: i64) {
        self.recent.borrow_mut().remember(self.volume(), bucket, key.as_bytes(), object, opened_ns);
    }

    /// The volume.
    pub fn volume(&self) -> &Volume {
        &self.settings.volume
    }

    /// Whether new work may come: the volume takes changes and the server is not leaving.
    pub fn is_ready(&self) -> bool {
        self.volume().takes_changes() && !self.settings.is_draining.load(Ordering::Relaxed)
    }

    /// The status line and what every answer carries.
    pub(super) fn write_head(&self, out: &mut Vec<u8>, status: u16, request_id: &str, connection: Option<&str>) {
        http::write_status(out, status);
        http::write_own(out, "Date", self.date.borrow_mut().text(Timestamp::now()));
        http::write_own(out, "Server", b"Sluice");
        http::write_own(out, "x-amz-request-id", request_id.as_bytes());
        http::write_own(out, "x-amz-id-2", HOST_ID.as_bytes());
        if let Some(connection) = connection {
            http::write_own(out, "Connection", connection.as_bytes());
        }
    }

    fn request_id(&self) -> String {
        let id = self.next_request_id.get();
        self.next_request_id.set(id.wrapping_add(1));
        // Mixed, so that consecutive ids do not look alike (splitmix64's finaliser).
        let mixed = (id ^ (id >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let id = mixed ^ (mixed >> 31);
        (0..16).rev().map(|digit| char::from(b"0123456789ABCDEF"[(id >> (4 * digit)) as usize & 15])).collect()
    }
}

impl Exchanged {
    fn error_class(&self) -> Option<ErrorClass> {
        match self.error {
            Some(code) => code.class(),
            None => (self.after == After::Abort).then_some(ErrorClass::CutOff),
        }
    }
}

/// Serves what arrived on a connection.
pub async fn serve_exchange(core: &Core, exchange: &mut Exchange) -> After {
    let request_id = core.request_id();
    let (head, result) = match exchange.arrival() {
        Arrival::Request(head) => {
            let result = serve_request(core, exchange, &head, &request_id).await;
            (Some(head), result)
        }
        Arrival::Refused(error) => (None, Err(refused(error))),
        Arrival::TimedOut => (None, Err(S3Error::new(Code::RequestTimeout))),
        Arrival::Panicked(head) => (Some(head), Err(S3Error::new(Code::InternalError))),
    };
    let exchanged = match result {
        Ok(Reply::Sent(exchanged)) => exchanged,
        Ok(Reply::Whole(answer)) => send(core, exchange, head.as_ref(), &answer, &request_id).await,
        Err(error) => {
            log_error(&error, head.as_ref(), &request_id);
            let resource = head.as_ref().map(|head| String::from_utf8_lossy(head.request().path()).into_owned());
            let mut answer = Answer::error(&error, resource.as_deref().unwrap_or_default(), &request_id);
            if let Some(head) = &head {
                add_resource_headers(core, &head.request(), &error, &mut answer);
            }
            let sent = send(core, exchange, head.as_ref(), &answer, &request_id).await;
            Exchanged { error: Some(error.code()), ..sent }
        }
    };
    exchange.answered(exchanged.error_class());
    if core.settings.live.load().log_requests {
        log_request(exchange, head.as_ref(), &request_id, exchanged.status);
    }
    match &head {
        Some(head) if exchanged.after == After::Keep && !body::skip(exchange, &head.request()).await => After::Close,
        _ => exchanged.after,
    }
}

async fn serve_request(core: &Core, exchange: &mut Exchange, head: &ReceivedHead, request_id: &str) -> Result<Reply, S3Error> {
    let request = head.request();
    if let Some(answer) = health::answer(core, &request) {
        exchange.counts_as(Counted::Health.into());
        return Ok(answer.into());
    }
    let settings = &*core.settings;
    let now = Timestamp::now();
    let query = Query::parse(request.query())?;
    let live = settings.live.load();
    let authenticated = authenticate(core, &live, &request, now)?;
    let address = address::parse(request.path(), request.host(), &live.domains)?;
    let route = route(&request, &query, &address)?;
    exchange.counts_as(route.operation.counted().into());
    let question = Question {
        principal: authenticated.principal,
        action: route.action(query.value("versionId").is_some()),
        bucket: address.bucket.as_deref(),
        key: address.key.as_ref().map(String::as_bytes),
    };
    if policy::decide(&question) == Decision::Deny {
        return Err(S3Error::new(Code::AccessDenied));
    }
    if let Some(bucket) = &address.bucket {
        address::check_bucket(bucket, route.operation == Operation::CreateBucket)?;
    }
    if let Some(key) = &address.key {
        address::check_key(key)?;
    }
    let owner = live.credentials.principal();
    let account = request_headers::Account { id: &owner.account_id };
    request_headers::check(route.operation, account, request.headers())?;
    let is_presigned = authenticated.kind == auth::Kind::Presigned;
    request_headers::check_query(route.operation, account, is_presigned, query.pairs())?;
    let bounds = Bounds { put_size_max: live.put_size_max, xml_size_max: live.xml_size_max };
    let (query, address, payload) = (&query, &address, authenticated.payload);
    let context = Context { bounds, owner, core, request, query, address, route, payload, is_presigned };
    dispatch(exchange, context, request_id).await
}

async fn dispatch(exchange: &mut Exchange, context: Context<'_>, request_id: &str) -> Result<Reply, S3Error> {
    #[cfg(feature = "seams")]
    super::seams::panic_if_asked(&context).await?;
    // Boxed one by one, a small request does not pay for the largest verb's state, nor does a stalled one.
    match context.route.operation {
        Operation::ListBuckets => Box::pin(bucket::list(&context)).await,
        Operation::CreateBucket => Box::pin(bucket::create(exchange, context)).await,
        Operation::HeadBucket => bucket::head(&context).await,
        Operation::DeleteBucket => bucket::delete(&context).await,
        Operation::GetBucketLocation => bucket::location(&context).await,
        Operation::ListObjects => Box::pin(list::list_objects(&context)).await,
        Operation::ListObjectsV2 => Box::pin(list::list_objects_v2(&context)).await,
        Operation::ListObjectVersions => Box::pin(list::list_object_versions(&context)).await,
        Operation::GetObjectAttributes => attributes::get_object_attributes(&context).await,
        Operation::PutObject => Box::pin(put::put_object(exchange, context)).await,
        Operation::GetObject => get::get_object(exchange, &context, request_id).await,
        Operation::HeadObject => get::head_object(&context).await,
        Operation::DeleteObject => delete::delete_object(&context).await,
        Operation::CopyObject => Box::pin(copy::copy_object(exchange, context, request_id)).await,
        Operation::CreateMultipartUpload => Box::pin(multipart::create(&context)).await,
        Operation::UploadPart => Box::pin(multipart::upload_part(exchange, context)).await,
        Operation::UploadPartCopy => Box::pin(copy::upload_part_copy(exchange, context, request_id)).await,
        Operation::CompleteMultipartUpload => Box::pin(complete::complete_multipart_upload(exchange, context, request_id)).await,
        Operation::AbortMultipartUpload => multipart::abort(&context).await,
        Operation::ListParts => multipart::list_parts(&context).await,
        Operation::ListMultipartUploads => multipart::list_uploads(&context).await,
        Operation::DeleteObjects => Box::pin(delete::delete_objects(exchange, context)).await,
        Operation::Unconfigured(feature) => unconfigured_feature(&context, feature).await,
        Operation::NotBuilt => Err(context.route.not_built()),
    }
}

/// Reads of features that are not built, on a bucket and object that must be there.
async fn unconfigured_feature(context: &Context<'_>, feature: operation::Unconfigured) -> Result<Reply, S3Error> {
    match context.route.level {
        Level::Service => {}
        Level::Bucket => drop(bucket::find(context).await?),
        Level::Object => drop(get::find(context).await?),
    }
    let principal = context.owner;
    let owner = crate::xml::Owner { id: &principal.canonical_id, display_name: &principal.display_name };
    let subject = unconfigured::Subject { bucket: context.bucket(), key: context.address.key.as_deref(), owner };
    Ok(Answer::xml(200, unconfigured::answer(feature, &subject)?).into())
}

fn authenticate<'c>(
    core: &Core,
    live: &'c Live,
    request: &Request<'_>,
    now: Timestamp,
) -> Result<auth::Authenticated<'c>, S3Error> {
    let headers: Vec<(&[u8], &[u8])> = request.headers().map(|(name, value)| (name.as_bytes(), value)).collect();
    // Version 4 signs the host itself; only Version 2 needs to know what it means.
    let host = request.host().filter(|_| live.allow_sigv2);
    let host_bucket = host.and_then(|host| address::bucket_of_host(host, &live.domains));
    let signed = auth::SignedRequest {
        method: request.method(),
        path: request.path(),
        query: request.query().unwrap_or_default(),
        host: request.host().unwrap_or_default().as_bytes(),
        host_bucket: host_bucket.as_deref(),
        headers: headers.as_slice(),
    };
    let scope = auth::Scope { region: &core.settings.region, now, accepts_version_2: live.allow_sigv2 };
    core.verifier.borrow_mut().authenticate(&signed, &live.credentials, &scope).map_err(S3Error::from)
}

fn route(request: &Request<'_>, query: &Query<'_>, address: &Address) -> Result<&'static Route, S3Error> {
    operation::route(&operation::Request {
        method: request.method(),
        level: address.level(),
        query: query.pairs(),
        has_copy_source: request.header_bytes("x-amz-copy-source").is_some(),
        content_type: request.header("content-type"),
    })
}

/// What an error says of the resource in its head.
fn add_resource_headers(core: &Core, request: &Request<'_>, error: &S3Error, answer: &mut Answer) {
    let may_be_head_bucket = request.method() == "HEAD" && error.status() != 404;
    if error.status() != 405 && !may_be_head_bucket {
        return;
    }
    let Ok(address) = address::parse(request.path(), request.host(), &core.settings.live.load().domains) else { return };
    let Ok(query) = Query::parse(request.query()) else { return };
    if error.status() == 405 {
        // RFC 9110 section 15.5.6.
        answer.header("Allow", operation::allowed(address.level(), query.pairs()).as_bytes());
    }
    // Go's `GetBucketRegion` sends HeadBucket without a signature and reads it of the 403
    // (https://docs.aws.amazon.com/AmazonS3/latest/API/API_HeadBucket.html). What is not there has none.
    let is_told = error.fields().iter().any(|(name, _)| *name == "Region");
    if may_be_head_bucket && address.level() == Level::Bucket && !is_told {
        answer.header(BUCKET_REGION, core.settings.region.as_bytes());
    }
}

/// Sends an answer that is in memory, and decides whether the connection can go on: only when the end of the request's body can
/// be reached.
async fn send(core: &Core, exchange: &mut Exchange, head: Option<&ReceivedHead>, answer: &Answer, request_id: &str) -> Exchanged {
    let request = head.map(ReceivedHead::request);
    let keep = request.is_some_and(|request| request.keep_alive() && body::can_be_skipped(exchange, &request));
    let head_only = head.is_some_and(|head| head.request().method() == "HEAD");
    let keep = keep && !exchange.drains();
    let connection = request.map_or(Some("close"), |request| request.connection(keep));
    let bytes = answer.render(core, request_id, connection, head_only);
    let after = match exchange.send(&bytes, false).await {
        Ok(()) if keep => After::Keep,
        Ok(()) => After::Close,
        Err(_) => After::Abort,
    };
    Exchanged { after, status: answer.status, error: None }
}

fn refused(error: HeadError) -> S3Error {
    match error.status() {
        414 => S3Error::new(Code::URITooLong),
        431 => S3Error::new(Code::RequestHeaderSectionTooLarge),
        501 => S3Error::new(Code::NotImplemented),
        _ => S3Error::new(Code::BadRequest),
    }
}

fn log_error(error: &S3Error, head: Option<&ReceivedHead>, request_id: &str) {
    let (method, path) = method_and_path(head);
    match error.status() {
        500.. => {
            tracing::error!(request_id, method, path, code = error.code().as_str(), message = error.text(), "request failed")
        }
        _ => tracing::debug!(request_id, method, path, code = error.code().as_str(), message = error.text(), "request refused"),
    }
}

fn log_request(exchange: &Exchange, head: Option<&ReceivedHead>, request_id: &str, status: u16) {
    let (method, path) = method_and_path(head);
    let (peer, bytes) = (exchange.peer().map(|peer| peer.to_string()), exchange.bytes_sent());
    let elapsed_us = exchange.started().elapsed().as_micros() as u64;
    tracing::info!(request_id, peer, method, path, status, bytes, elapsed_us, "request");
}

/// Without the query, which may hold a signature.
fn method_and_path(head: Option<&ReceivedHead>) -> (String, String) {
    let Some(head) = head else { return (String::new(), String::new()) };
    let request = head.request();
    (request.method().to_owned(), String::from_utf8_lossy(request.path()).into_owned())
}
