//! What do the requests of a core share? Its part of memory, its caches, its way to the settings.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use crate::auth::{RootCredentials, Verifier};
use crate::base::published::{Published, Reader, Snapshot};
use crate::base::time::Timestamp;
use crate::catalog::Catalog;
use crate::config::{ListUnreadable, ReadMode, VerifyReads};
use crate::http::{self, DateCache};
use crate::io::sleep;
use crate::limits::RECENT_DURATION;
use crate::mem::{Arena, RequestMemory, Room};
use crate::orders::Orders;
use crate::store::disk::{Disk, Presence};
use crate::store::objects::open::Object;
use crate::store::objects::recent::RecentObjects;
use crate::store::volume::Volume;

/// `x-amz-id-2` and `<HostId>`: which server answered, for support. One process is one host.
pub const HOST_ID: &str = "sluice";

/// What all cores share.
pub struct Settings {
    /// The served directory.
    pub volume: Arc<Volume>,
    /// What requests hold beside blocks.
    pub memory: Arc<RequestMemory>,
    /// The only region that credentials may be scoped to; any is believed when `None`.
    pub region: Option<String>,
    /// How objects are read.
    pub read_mode: ReadMode,
    /// What changes while the server runs.
    pub live: Arc<Published<Live>>,
    /// The way to who changes what is configured.
    pub orders: Orders,
    /// The server is leaving: not ready any more.
    pub is_draining: AtomicBool,
}

/// What a reload changes, and what is configured: a request sees one state of both.
#[derive(Clone)]
pub struct Live {
    /// The one identity of now.
    pub credentials: Arc<RootCredentials>,
    /// What is configured.
    pub catalog: Arc<Catalog>,
    /// Suffixes under which buckets are host names.
    pub domains: Vec<String>,
    /// Whether Signature Version 2 is believed.
    pub allow_sigv2: bool,
    /// What becomes of listings that come to a directory which may not be read.
    pub list_unreadable: ListUnreadable,
    /// Which objects are compared with their checksums on the way to their clients.
    pub verify_reads: VerifyReads,
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
    /// This core's part of the memory of requests.
    pub room: Room,
    /// Its way to what changes.
    live: Reader<Live>,
    pub verifier: RefCell<Verifier>,
    date: RefCell<DateCache>,
    pub recent: RefCell<RecentObjects>,
    /// Random at start and counted up: request ids are unique without asking the kernel for each.
    next_request_id: Cell<u64>,
}

impl Core {
    /// The state of a core. `seed` is random.
    /// At most `recent_objects_max` objects are remembered.
    pub fn new(settings: Arc<Settings>, arena: Arena, room: Room, seed: u64, recent_objects_max: usize) -> Self {
        let (verifier, date) = (RefCell::default(), RefCell::new(DateCache::new()));
        let recent = RefCell::new(RecentObjects::new(recent_objects_max));
        let live = settings.live.reader();
        Self { settings, arena, room, live, verifier, date, recent, next_request_id: Cell::new(seed) }
    }

    /// What holds for a request that begins now, to its end.
    pub fn live(&self) -> Snapshot<Live> {
        self.live.snapshot()
    }

    /// Closes what was opened too long ago, for as long as the core runs.
    pub async fn forget_recent(self: Rc<Self>) {
        loop {
            sleep(RECENT_DURATION).await;
            self.recent.borrow_mut().forget_old(Instant::now());
        }
    }

    /// Remembers an object that was opened no earlier than `opened_ns`.
    pub fn remember(&self, bucket: &str, key: &str, object: Object, opened_ns: i64) {
        self.recent.borrow_mut().remember(self.volume().bucket(bucket), key.as_bytes(), object, opened_ns);
    }

    /// The volume.
    pub fn volume(&self) -> &Arc<Volume> {
        &self.settings.volume
    }

    /// The disk that it lies on.
    pub fn disk(&self) -> &Arc<Disk> {
        self.settings.volume.disk()
    }

    /// Why no new work should come, if it should not.
    pub fn trouble(&self) -> Option<&'static str> {
        let is_draining = self.settings.is_draining.load(Ordering::Relaxed);
        self.disk().trouble().or(is_draining.then_some("the server is leaving"))
    }

    /// Whether downloads go on: also when the volume takes no changes.
    pub fn serves_reads(&self) -> bool {
        let is_there = !matches!(self.disk().presence(), Presence::Gone | Presence::Unreachable);
        is_there && !self.settings.is_draining.load(Ordering::Relaxed)
    }

    /// The status line and what every answer carries.
    pub fn write_head(&self, out: &mut Vec<u8>, status: u16, request_id: &str, connection: Option<&str>) {
        http::write_status(out, status);
        http::write_own(out, "Date", self.date.borrow_mut().text(Timestamp::now()));
        http::write_own(out, "Server", b"Sluice");
        http::write_own(out, "x-amz-request-id", request_id.as_bytes());
        http::write_own(out, "x-amz-id-2", HOST_ID.as_bytes());
        if let Some(connection) = connection {
            http::write_own(out, "Connection", connection.as_bytes());
        }
    }

    /// A new one.
    pub fn request_id(&self) -> String {
        let id = self.next_request_id.get();
        self.next_request_id.set(id.wrapping_add(1));
        // Mixed, so that consecutive ids do not look alike (splitmix64's finaliser).
        let mixed = (id ^ (id >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let id = mixed ^ (mixed >> 31);
        (0..16).rev().map(|digit| char::from(b"0123456789ABCDEF"[(id >> (4 * digit)) as usize & 15])).collect()
    }
}
