//! How much, at most? Every bound of the server is a named constant here, with the relations between them asserted at
//! compile time. What an operator may change is in `config`, and its default stands here.

use std::time::Duration;

/// Bytes of request line and headers. AWS allows 8 KiB of headers; long pre-signed URLs with session tokens need more, and metadata in
/// as many headers as it can make, each of them named among the signed ones, the most.
pub const HEAD_SIZE_MAX: usize = 40 * 1024;
/// Bytes of the request target: a 1,024-byte key with every byte percent-encoded, and a pre-signed query with a token.
pub const TARGET_SIZE_MAX: usize = 16 * 1024;
/// Header fields of one request: 2 KiB of metadata under names of one and two bytes are 1,049, and others come with them.
pub const HEADER_COUNT_MAX: usize = 1200;
/// Query parameters of one request: a pre-signed URL may have its metadata there.
pub const QUERY_COUNT_MAX: usize = 1200;

/// Bytes of a key, as S3: <https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html>.
pub const KEY_SIZE_MAX: usize = 1024;
/// Bytes of one file name (`NAME_MAX`).
pub const NAME_SIZE_MAX: usize = 255;
/// Bytes of user metadata, names and values, as S3.
pub const USER_METADATA_SIZE_MAX: usize = 2 * 1024;
/// Bytes of an object's other headers, names and values, as S3.
pub const SYSTEM_METADATA_SIZE_MAX: usize = 2 * 1024;

/// Bytes of the record beside an object's inode: what ext4 keeps inside an inode of 256 bytes.
pub const RECORD_SIZE_MAX: usize = 64;
/// Bytes of an extended record that still goes into an xattr; larger ones are spilled to a file. ext4 has one block of 4 KiB
/// for all of an inode's attributes, ACLs included.
pub const EXTENDED_RECORD_INLINE_SIZE_MAX: usize = 2 * 1024;
/// Bytes of an extended record: all headers and metadata of one request head, and 10,000 parts of 10,000 sizes with their SHA-256.
pub const EXTENDED_RECORD_SIZE_MAX: usize = 640 * 1024;

/// Bytes of one object and of one upload by a single PUT, as S3.
pub const PUT_SIZE_MAX: u64 = 5 * 1024 * 1024 * 1024;
/// Bytes of a multipart object, as S3 in 2026: 50 TB.
pub const OBJECT_SIZE_MAX: u64 = 50 * 1024 * 1024 * 1024 * 1024;
/// Bytes of a part that is not the last, at least.
pub const PART_SIZE_MIN: u64 = 5 * 1024 * 1024;
/// The highest part number.
pub const PART_NUMBER_MAX: u32 = 10_000;

/// Slot files of one multipart upload: how often the size of its parts may turn out to be larger than thought.
pub const SLOT_SIZES_MAX: usize = 4;
/// Bytes of a slot file: ext4 with blocks of 4 KiB ends at 16 TiB.
pub const SLOT_FILE_SIZE_MAX: u64 = 8 * 1024 * 1024 * 1024 * 1024;
/// Gaps between the parts of one object that are taken out of its file; with more of them, all is copied.
pub const GAPS_MAX: usize = 64;
/// Multipart uploads whose tables stay in memory between requests, beside those in use.
pub const UPLOADS_CACHED_MAX: usize = 64;
/// Parts in all of these tables.
pub const UPLOADS_CACHED_PARTS_MAX: usize = 115_000;
/// Bytes that a part takes in such a table.
pub const CACHED_PART_SIZE: usize = 272;
/// Bytes of what is remembered of all buckets' uploads to list them; a bucket with more is read whole for each page.
pub const UPLOADS_INDEX_SIZE_MAX: usize = 16 * 1024 * 1024;
/// How long a Complete waits for slots that are still being written; then it assembles a file that they cannot reach.
pub const FENCE_DURATION: Duration = Duration::from_secs(5);
/// How long a repeated Complete waits between two looks whether the first is done: twice as long each time, from the first of these
/// to the second.
pub const COMPLETE_POLL_MIN: Duration = Duration::from_millis(20);
/// See `COMPLETE_POLL_MIN`.
pub const COMPLETE_POLL_MAX: Duration = Duration::from_secs(1);
/// Bytes that the kernel copies from file to file in one call, between two looks at the clock.
pub const COPY_STEP_SIZE: usize = 8 * 1024 * 1024;
/// Bytes of the buffer through which a copy goes that has to be digested.
pub const COPY_BUFFER_SIZE: usize = 1024 * 1024;

/// Between two looks whether the served directory is still there.
pub const PRESENCE_INTERVAL: Duration = Duration::from_secs(1);
/// A look that takes longer hangs in the filesystem: no new work should come. A network filesystem that fails over takes some seconds.
pub const PRESENCE_AGE_MAX: Duration = Duration::from_secs(20);

/// Directories of which is remembered where names are staged for them, because it cannot be in `.sluice`.
pub const HOMES_KNOWN_MAX: usize = 16 * 1024;

/// How long a request waits until it asks again for what another one is reading, a large directory or the log of an upload: twice as
/// long each time, from the first of these to the second.
pub const BEING_READ_POLL_MIN: Duration = Duration::from_millis(5);
/// See `BEING_READ_POLL_MIN`.
pub const BEING_READ_POLL_MAX: Duration = Duration::from_millis(100);
/// Keys or entries of one listing page.
pub const LIST_PAGE_MAX: usize = 1000;
/// Of the memory of requests, the part that snapshots of directories may have while nobody else wants it.
pub const SNAPSHOTS_SHARE: usize = 2;
/// Names in one directory snapshot, and bytes of it. A larger directory is scanned for each page.
pub const SNAPSHOT_NAMES_MAX: usize = 4 * 1024 * 1024;
pub const SNAPSHOT_SIZE_MAX: usize = 128 * 1024 * 1024;
/// Names up to which a snapshot is small: any number may be built at once, of the larger ones one at a time.
pub const SNAPSHOT_NAMES_SMALL: usize = 4096;
/// Names in one chunk of a snapshot, about: what is copied when one of them changes.
pub const SNAPSHOT_CHUNK_NAMES: usize = 512;
/// Directories of more names than `SNAPSHOT_NAMES_SMALL` that the kernel tells changes of; each takes a watch of the user's bound
/// `fs.inotify.max_user_watches`.
pub const LISTING_WATCHES_MAX: usize = 64;
/// Changed names of one watched directory that nobody has listed since; asking for more of them one by one costs about as much as
/// reading 10^6 names.
pub const LISTING_CHANGES_MAX: usize = 64 * 1024;
/// Bytes of all changed names that are noted.
pub const LISTING_CHANGES_SIZE_MAX: usize = 16 * 1024 * 1024;
/// Names kept of one scan through a directory that is too large for a snapshot: some pages, so that a scan serves more than
/// one delimiter run.
pub const SCAN_NAMES_MAX: usize = 32 * 1024;
/// Directories that one listing keeps open.
pub const LISTING_HANDLES_MAX: usize = 8;
/// Directories noted for later while searching a tree for an object.
pub const WALK_PENDING_MAX: usize = 64 * 1024;
/// How old a spilled record must be before anybody asks whether it is still in use.
pub const SPILL_GRACE: Duration = Duration::from_secs(24 * 3600);
/// From the start of the server to the first walk for that.
pub const SPILL_SWEEP_DELAY: Duration = Duration::from_secs(3600);
/// From walk to walk. Not a day: a job that moves files at the same hour each day does not meet every walk.
pub const SPILL_WALK_INTERVAL: Duration = Duration::from_secs(29 * 3600);
/// Walks in each of which nothing was found to point to a spilled record, before it is removed.
pub const SPILL_WALKS: usize = 3;
/// Bits of the table of spilled records that are in use (2 MiB). With a million of them, one in sixteen of the unused stays.
pub const SPILL_SEEN_BITS: usize = 16 * 1024 * 1024;
/// How deep such a walk goes: the components of the longest key, and those above and inside it. In a deeper tree nothing is
/// removed.
pub const SPILL_WALK_DEPTH_MAX: usize = KEY_SIZE_MAX / 2 + 8;
/// Directories that such a walk holds open.
pub const SPILL_WALK_OPEN_MAX: usize = 64;
/// Bytes of names that such a walk notes for later. In a tree that needs more, nothing is removed.
pub const SPILL_WALK_PENDING_SIZE_MAX: usize = 64 * 1024 * 1024;
/// How long such a walk works before it rests.
pub const SPILL_SWEEP_STEP: Duration = Duration::from_millis(2);
/// How many times longer it rests than it works.
pub const SPILL_SWEEP_REST: u32 = 9;
/// How old a change must be, at least, before times prove that there was no other since, where they do not tell every two apart: more
/// than a kernel tick. What a filesystem needs is found out at start (`store/disk/grain.rs`).
pub const TIMESTAMP_GRAIN_NS: i64 = 20_000_000;
/// How old where nothing could be found out: FAT keeps every second second.
pub const GRAIN_ASSUMED_NS: i64 = 2_000_000_000;
/// How old at least where a foreign clock gives the times.
pub const GRAIN_REMOTE_NS: i64 = 1_000_000_000;
/// How long a change is waited for that gives another time, at start.
pub const GRAIN_LOOK_DURATION: Duration = Duration::from_millis(60);
/// How long after a file's last change somebody is looked for who has it open for writing: longer than a write(2) takes, and than the
/// kernel leaves a page dirty into which memory is mapped (`vm.dirty_expire_centisecs`, 30 s).
pub const WRITER_AGE_NS: i64 = 60_000_000_000;
/// How often a directory is read again that changed while it was read, until its names are known.
pub const READ_ATTEMPTS_MAX: usize = 4;
/// Keys of one DeleteObjects request.
pub const DELETE_KEYS_MAX: usize = 1000;
/// Bytes of a request's XML document, except CompleteMultipartUpload's.
pub const XML_SIZE_MAX: usize = 2 * 1024 * 1024;
/// Bytes of CompleteMultipartUpload's XML document: 10,000 parts with checksums.
pub const XML_COMPLETE_SIZE_MAX: usize = 4 * 1024 * 1024;
/// Depth of a request's XML document.
pub const XML_DEPTH_MAX: usize = 16;

/// Bytes of one chunk line of `Transfer-Encoding: chunked` or `aws-chunked`, with its extensions.
pub const CHUNK_LINE_SIZE_MAX: usize = 512;
/// Bytes of a trailer section.
pub const TRAILER_SIZE_MAX: usize = 4 * 1024;

/// Bytes of a data block: the unit of receiving, digesting, O_DIRECT writing, reading ahead and sending.
pub const BLOCK_SIZE: usize = 512 * 1024;
/// Alignment of blocks and of every O_DIRECT transfer: covers 512 and 4,096-byte devices.
pub const BLOCK_ALIGN: usize = 4096;
/// Bytes of a huge page: the unit in which the arena takes memory.
pub const HUGE_PAGE_SIZE: usize = 2 * 1024 * 1024;
/// How often a core looks for huge pages of its arena that nobody used in between.
pub const ARENA_LOOK_INTERVAL: Duration = Duration::from_secs(10);
/// Huge pages that a core gives back to the kernel at one look: freeing them holds it up, and so does the first use afterwards.
pub const ARENA_RELEASES_MAX: usize = 16;
/// Default of `--buffer-memory`: all blocks of all cores.
pub const BUFFER_MEMORY_DEFAULT: u64 = 128 * 1024 * 1024;
/// Default of `--request-memory`: what all requests and caches hold beside blocks.
pub const REQUEST_MEMORY_DEFAULT: u64 = 256 * 1024 * 1024;
/// The least: what is fixed, and some of the largest requests.
pub const REQUEST_MEMORY_MIN: u64 = 96 * 1024 * 1024;
/// What of it is there for caches that do not lease what they hold: tables and index of uploads, and names that changed in watched
/// directories.
pub const REQUEST_MEMORY_FIXED: usize =
    UPLOADS_CACHED_PARTS_MAX * CACHED_PART_SIZE + UPLOADS_INDEX_SIZE_MAX + LISTING_CHANGES_SIZE_MAX;
/// Bytes of a lease that is a small one: an object of `SMALL_OBJECT_SIZE_MAX`, also while it is copied behind its head. They wait by
/// themselves.
pub const SMALL_LEASE_SIZE_MAX: usize = 2 * SMALL_OBJECT_SIZE_MAX + 4096;
/// The part of the memory of requests that only those get: documents that stall must not hold up small objects.
pub const SMALL_LEASES_SHARE: usize = 8;
/// What a core keeps of it for its next requests, at most.
pub const REQUEST_SHARE_SIZE_MAX: usize = 256 * 1024;
/// The part of it that those may have together, by its inverse, whom nobody knows by a signature that held.
pub const STRANGERS_SHARE: usize = 2;
/// How long a connection that nobody knows waits for room for its head: it may hold some meanwhile, for which others like it wait.
pub const STRANGER_ROOM_WAIT: Duration = Duration::from_secs(2);
/// How long a request waits for room in it; then it is refused (SlowDown), and its client comes again.
pub const ROOM_WAIT: Duration = Duration::from_secs(10);
/// How often it is looked meanwhile whether other cores gave something back.
pub const ROOM_LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// Bytes that a request may hold without a lease: most heads, and answers of a few lines.
pub const UNLEASED_SIZE_MAX: usize = 4 * 1024;
/// Bytes of an answer's body up to which it is copied behind its head, to leave in one call.
pub const SMALL_ANSWER_SIZE_MAX: usize = 128 * 1024;
/// Times the size of a document that its parsed form takes besides.
pub const DOCUMENT_PARSED_FACTOR: usize = 2;
/// Times the size of a large head that what is made of it takes: fields, parameters, what is signed.
pub const HEAD_PARSED_FACTOR: usize = 4;
/// Bytes of a page's entry before anybody knows its key: percent-encoded, and what stands beside it. More is asked for when it is known.
pub const LISTED_KEY_SIZE_MAX: usize = 3 * KEY_SIZE_MAX + 512;
/// Bytes of a page's entry that has no key.
pub const LISTED_SIZE_MAX: usize = 512;
/// Blocks that one transfer holds at most: one being received, the others being written (or the same for a download).
pub const BLOCKS_PER_TRANSFER_MAX: usize = 4;
/// Blocks that a download reads ahead while more than half of its core's are free: what a disk of some milliseconds needs in
/// flight to give its full rate to few clients.
pub const BLOCKS_AHEAD_MAX: usize = 8;

/// Submission entries of a core's ring. Polls (one for each waiting connection) and transfers (one for each block) are
/// submitted in batches of at most this many; the completion queue is sixteen times as long.
pub const RING_ENTRIES: u32 = 1024;
/// Operations that metrics tell apart: those that are built, and four kinds of others. Each costs a core 0.9 KiB.
pub const METRIC_OPERATIONS_MAX: usize = 32;
/// The bounds of latency histograms, as powers of two of a nanosecond: 4 µs is less than any request takes, and beyond 69 s it
/// does not matter by how much.
pub const LATENCY_BOUND_MIN_LOG2: u32 = 12;
/// See `LATENCY_BOUND_MIN_LOG2`.
pub const LATENCY_BOUND_MAX_LOG2: u32 = 36;
/// Buckets for the MD5 streams of one step: 1 to 16, and more.
pub const MD5_STREAMS_SIZES: usize = 17;
/// Buckets for the changes of one barrier: 1, 2, 4 to 4,096, and more.
pub const BARRIER_BATCH_SIZES: usize = 14;
/// Connections of `--metrics-listen`; more wait in its queue.
pub const METRICS_CONNECTIONS_MAX: usize = 16;
/// Bytes of a request head there.
pub const METRICS_HEAD_SIZE_MAX: usize = 16 * 1024;
/// How long such a head may take, and a connection be idle.
pub const METRICS_IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long one such connection may live: also one that never reads its answer.
pub const METRICS_CONNECTION_DURATION: Duration = Duration::from_secs(300);
/// How long answers in flight have when the server ends.
pub const METRICS_DRAIN_TIMEOUT: Duration = Duration::from_secs(2);
/// Bytes of a scrape that `sluice top` reads: 1,000 cores with a dozen operations each.
pub const METRICS_PAGE_SIZE_MAX: usize = 128 * 1024 * 1024;
/// How long `sluice top` waits for one.
pub const METRICS_ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// Parts of the table of keys that somebody is about to change, each with a lock of its own.
pub const KEY_TURN_SHARDS: usize = 64;
/// Locks that all keys of a volume share by hash.
pub const KEY_LOCKS: usize = 4096;
/// Helper threads of one core that open objects and read what is in no cache: so many reads a disk gets of it at a time.
pub const READ_HELPERS: usize = 8;
/// Those that make, publish or remove one thing whose bytes are there.
pub const COMMIT_HELPERS: usize = 8;
/// Those that put an object together of bytes that lie in files, of which little has to be moved (`ASSEMBLE_SIZE_MAX`).
pub const ASSEMBLE_HELPERS: usize = 4;
/// Bytes that are moved for one object or part by those; more is a copy.
pub const ASSEMBLE_SIZE_MAX: u64 = 8 * 1024 * 1024;
/// Those that move the bytes of an object or a part from file to file, which may take minutes each.
pub const COPY_HELPERS: usize = 4;
/// Those that read directories. A page is mostly work of the CPU, of which a core has one; a second goes on while one waits for
/// the disk, or for a directory that does not answer.
pub const LIST_HELPERS: usize = 2;
/// How far those step back for everything else on their CPU: as nice(2). A small upload or download then takes the CPU from a
/// listing when it comes; where nothing else wants it, listings have all of it.
pub const LIST_HELPERS_NICENESS: i32 = 10;
/// Those that remove much: a thousand objects, an upload with its parts, a bucket, the space of a large file.
pub const REMOVE_HELPERS: usize = 2;
/// How long after a helper thread could not be started the next is tried.
pub const HELPER_RETRY_INTERVAL: Duration = Duration::from_secs(5);
/// Helper threads of one core at most, all kinds together.
pub const HELPERS_PER_CORE: usize =
    READ_HELPERS + COMMIT_HELPERS + ASSEMBLE_HELPERS + COPY_HELPERS + LIST_HELPERS + REMOVE_HELPERS;

/// Small uploads that one visit of a helper commits.
pub const COMMIT_BATCH_MAX: usize = 32;
/// Visits of helpers by small uploads under way at once, per core: others wait and come together. Most of the helpers for commits
/// stay free for everything else.
pub const COMMIT_VISITS_MAX: usize = 2;

/// Bytes by which each waiting hash is advanced before the core takes a turn: 16 MD5s take about a third of a millisecond, with as
/// many SHA-256s two thirds, an MD5 alone a fifth.
pub const HASH_STEP_SIZE: usize = 128 * 1024;
/// Steps of pieces of one stream end on multiples of this: the block of MD5 and SHA-256.
pub const HASH_PIECE_ALIGN: usize = 64;
/// Chunks that end in one block and wait for their SHA-256: with more of them, which are smaller than any client's, they are hashed at once.
pub const CHUNK_ENDS_MAX: usize = 256;

/// Bytes after which a download asks the page cache again whether what follows is there.
pub const SEND_QUANTUM_SIZE: u64 = 2 * 1024 * 1024;
/// The same where nothing was cached, on top: between two looks the reads ahead run dry.
pub const SEND_DIRECT_SIZE: u64 = 30 * 1024 * 1024;

/// Bytes of an upload from which its space is reserved before the body is received.
pub const RESERVE_SIZE_MIN: u64 = 1024 * 1024;
/// Bytes of an extended attribute's value at most (`XATTR_SIZE_MAX` of <linux/limits.h>).
pub const ATTRIBUTE_SIZE_MAX: usize = 65_536;
/// Bytes of nearly all: a POSIX ACL of 127 entries.
pub const ATTRIBUTE_SIZE_USUAL: usize = 1024;
/// How often a publication starts again because other writers changed the same names.
pub const PUBLISH_ATTEMPTS_MAX: usize = 64;

/// Buckets of one ListBuckets page, as S3.
pub const LIST_BUCKETS_MAX: usize = 10_000;
/// Bytes of a refused request's body that are read and dropped, so that its connection lives on.
pub const DRAIN_SIZE_MAX: u64 = 256 * 1024;

/// How often a core looks whether it should drain.
pub const DRAIN_POLL: Duration = Duration::from_millis(25);
/// How long a start waits for the directory's lock and the ports all together: the kernel takes those of a process that was killed
/// from it a moment later, when its last transfers and its rings have ended.
pub const START_PATIENCE: Duration = Duration::from_secs(5);
/// How often it tries meanwhile.
pub const START_POLL: Duration = Duration::from_millis(20);
/// Connections that wait to be accepted; the kernel caps it by `net.core.somaxconn`.
pub const LISTEN_BACKLOG: i32 = 4096;

/// How long an answer may be silent before white space keeps its connection alive.
pub const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(5);

/// An object up to this size is received into memory and written buffered, and read with one `pread` into the answer's buffer.
pub const SMALL_OBJECT_SIZE_MAX: usize = 128 * 1024;

/// How long a core remembers an object that it opened: longer gains nothing, and this long a removed one keeps its space.
pub const RECENT_DURATION: Duration = Duration::from_secs(1);
/// Objects that one core remembers. Each small one holds a descriptor.
pub const RECENT_OBJECTS_MAX: usize = 2048;
/// Bytes that what is kept of an object's parts may take; others are opened each time.
pub const RECENT_PARTS_SIZE_MAX: usize = 8 * 1024;
/// The same as a share of the connections of one core: the limit of open files leaves room for every fourth connection's file.
pub const RECENT_SHARE: usize = 8;
/// Bytes of all files that one core keeps open for that.
pub const RECENT_SIZE_MAX: u64 = 64 * 1024 * 1024;

/// How far a client's clock may be from ours: 15 minutes, as S3 (`RequestTimeTooSkewed`).
pub const CLOCK_SKEW_MAX_S: u64 = 15 * 60;
/// The longest life of a pre-signed URL: 7 days.
pub const PRESIGN_EXPIRES_MAX_S: u64 = 7 * 24 * 3600;
/// Derived signing keys that one core remembers: pre-signed URLs of a week name eight days, for a few access keys at once.
pub const SIGNING_KEYS_MAX: usize = 32;

/// Bytes asked for in one receive of a head. What follows a small head (a whole 4 KiB PUT) comes with it.
pub const RECEIVE_SIZE: usize = 64 * 1024;
/// Bytes of one TLS record, header and expansion included: RFC 5246 section 6.2.3 allows 2,048 more than the 16 KiB of
/// plaintext, RFC 8446 section 5.2 only 256.
pub const TLS_RECORD_SIZE_MAX: usize = 16 * 1024 + 2048 + 5;
/// Bytes that a core receives and decrypts at once: a record that is still held, and what comes behind it.
pub const TLS_RECEIVE_SIZE: usize = 96 * 1024;
/// Bytes that one connection holds undecrypted while it waits: part of a record, and one that its reader had no room for.
/// Also what a client may send as one handshake message, of which a ClientHello with post-quantum keys needs 2 KiB.
pub const TLS_HELD_SIZE_MAX: usize = 2 * TLS_RECORD_SIZE_MAX;
/// Plaintext bytes encrypted before the socket is asked again: three full records.
pub const TLS_BATCH_SIZE: usize = 3 * 16 * 1024;
/// Bytes that one connection holds encrypted while its client does not take them.
pub const TLS_OUTGOING_SIZE_MAX: usize = 64 * 1024;
/// Bytes of a file with a certificate chain or its key.
pub const CERTIFICATE_FILE_SIZE_MAX: u64 = 1024 * 1024;
/// Pipelined requests that a connection is served before it goes through the ring once.
pub const PIPELINE_TURN_MAX: usize = 16;
/// How often a core looks for connections whose deadline has passed.
pub const SWEEP_INTERVAL: Duration = Duration::from_millis(250);
/// How often, while a helper works for a client, it is looked whether the client is still there.
pub const CLIENT_LOOK_INTERVAL: Duration = Duration::from_millis(250);
/// How long accepting pauses when descriptors have run out.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How long a body may be waited for before its rate is judged.
pub const RATE_GRACE: Duration = Duration::from_secs(30);
/// How long, and for how many bytes, a connection that ends with unread bytes is still read, so that the answer arrives.
pub const LINGER_DURATION: Duration = Duration::from_secs(3);
/// See `LINGER_DURATION`.
pub const LINGER_SIZE_MAX: usize = 32 * 1024 * 1024;
/// A transfer that waits this long for its client gives its blocks back.
pub const STALL_DURATION: Duration = Duration::from_millis(500);

/// Seconds within which a request's head must have arrived, from its first byte on.
pub const HEAD_TIMEOUT_DEFAULT_S: u64 = 30;
/// Seconds that a kept-alive connection may be silent between requests. Longer than a load balancer's usual 60, so that
/// it is the balancer that closes and never sends a request into our close.
pub const IDLE_TIMEOUT_DEFAULT_S: u64 = 75;
/// Seconds without one byte of a body, received or taken by the client.
pub const BODY_STALL_TIMEOUT_DEFAULT_S: u64 = 30;
/// Seconds for one request, all in all: 5 GiB at half a megabit a second.
pub const TOTAL_TIMEOUT_DEFAULT_S: u64 = 24 * 3600;
/// Bytes a second below which a body counts as stalled although bytes drip.
pub const MINIMUM_RATE_DEFAULT: u64 = 1024;
/// Seconds that requests in flight have to finish after SIGTERM.
pub const DRAIN_TIMEOUT_DEFAULT_S: u64 = 30;
/// The longest value any timeout may be set to: 30 days. Keeps deadline arithmetic away from overflow.
pub const TIMEOUT_MAX_S: u64 = 30 * 24 * 3600;
/// Connections of one core. An idle one costs at most 6 KiB: 96 MiB.
pub const CONNECTIONS_PER_CORE_DEFAULT: usize = 16 * 1024;
/// Connections of one core beyond those: while all are at requests, they ask for health, and all else is put off.
pub const CONNECTIONS_BEYOND_MAX: usize = 16;
/// How long one of them may take until its request is there.
pub const CONNECTIONS_BEYOND_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a newcomer to a full core is left alone while there is another way: a TLS handshake and a head over a long way.
pub const STRANGER_GRACE: Duration = Duration::from_secs(1);
/// The highest value for connections of one core.
pub const CONNECTIONS_PER_CORE_MAX: usize = 1024 * 1024;
/// Descriptors kept for everything that is no connection: directories, rings, objects being moved.
pub const DESCRIPTORS_RESERVED: usize = 512;
/// A socket for each connection, and for every fourth the file that it moves just now; a core that runs out pauses accepting.
pub const fn descriptors_for(cores: usize, connections: usize) -> u64 {
    let sockets = cores.saturating_mul(connections);
    descriptors_reserved(cores).saturating_add(sockets).saturating_add(sockets / 4) as u64
}
/// Those for everything but the connections that have a place.
pub const fn descriptors_reserved(cores: usize) -> usize {
    DESCRIPTORS_RESERVED.saturating_add(cores.saturating_mul(CONNECTIONS_BEYOND_MAX))
}
/// Addresses to listen on.
pub const LISTEN_COUNT_MAX: usize = 64;
/// Data cores.
pub const CORES_MAX: usize = 1024;
/// Cores of a NUMA node up to which all of them become data cores.
pub const CORES_UNSPARED_MAX: usize = 4;
/// On a larger node, one core in so many stays free for interrupts and the control thread.
pub const CORES_PER_SPARE: usize = 16;
/// Bytes read of one file in sysfs or procfs: /proc/interrupts has a count for each interrupt and CPU.
pub const SYSTEM_FILE_SIZE_MAX: u64 = 64 * 1024 * 1024;
/// Bytes of the configuration file.
pub const CONFIG_FILE_SIZE_MAX: u64 = 1024 * 1024;
/// Bytes of a document of what is configured.
pub const DOCUMENT_SIZE_MAX: u64 = 1024 * 1024;
/// Bytes of the log of changed documents, from which on it begins anew, and of one line of it.
pub const GENERATION_LOG_SIZE_MAX: u64 = 1024 * 1024;
/// See `GENERATION_LOG_SIZE_MAX`.
pub const GENERATION_LINE_SIZE_MAX: usize = 512;
/// How long somebody waits for others who change documents, each of whom needs some fsyncs; and how often it asks meanwhile.
pub const DOCUMENT_LOCK_PATIENCE: Duration = Duration::from_secs(2);
/// See `DOCUMENT_LOCK_PATIENCE`.
pub const DOCUMENT_LOCK_POLL: Duration = Duration::from_millis(2);
/// Changes of what is configured that wait for the thread that makes them; more are put off (SlowDown).
pub const ORDERS_MAX: usize = 256;
/// How often that thread looks whether others have changed documents.
pub const DOCUMENTS_LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// How often it looks at all of them, and at the directories of all buckets, whatever the log says.
pub const DOCUMENTS_SCAN_INTERVAL: Duration = Duration::from_secs(10);
/// How many times longer it does not scan than it did.
pub const DOCUMENTS_SCAN_REST: u32 = 20;
/// How long the server waits at its end for a change that is being made.
pub const CONTROL_END_PATIENCE: Duration = Duration::from_secs(5);
/// Bytes of a file that holds one key.
pub const KEY_FILE_SIZE_MAX: u64 = 4 * 1024;

/// Connections of `sluice bench`.
pub const BENCH_CONNECTIONS_MAX: usize = 64 * 1024;
/// Threads of `sluice bench`.
pub const BENCH_THREADS_MAX: usize = 256;
/// Requests a second that `sluice bench --rate` may be asked for.
pub const BENCH_RATE_MAX: u64 = 100_000_000;
/// Objects that one run of `sluice bench` prepares, or finds and remembers.
pub const BENCH_OBJECTS_MAX: u64 = 4 * 1024 * 1024;
/// Bytes of a file with keys.
pub const BENCH_KEY_FILE_SIZE_MAX: u64 = 1024 * 1024 * 1024;
/// Bytes of signed requests that one thread keeps for replay; those beyond are signed for each sending.
pub const BENCH_REQUESTS_SIZE_MAX: usize = 256 * 1024 * 1024;
/// How long a signed request is replayed: well inside the 15 minutes that a server allows a clock to differ.
pub const BENCH_SIGNATURE_LIFE: Duration = Duration::from_secs(8 * 60);
/// Bytes of the random payload that uploads send; larger objects repeat it.
pub const BENCH_PAYLOAD_SIZE_MAX: usize = 64 * 1024 * 1024;
/// Bytes of one chunk of a signed streaming upload: as warp and minio-go send them.
pub const BENCH_CHUNK_SIZE: usize = 64 * 1024;
/// Bytes received at once into memory: heads, small bodies, listings.
pub const BENCH_RECEIVE_SIZE: usize = 64 * 1024;
/// Bytes of a body that are thrown away by one call.
pub const BENCH_DISCARD_SIZE: usize = 4 * 1024 * 1024;
/// Bytes of an error document that are kept to find its code.
pub const BENCH_ERROR_BODY_SIZE_MAX: usize = 4 * 1024;
/// Bytes of one answer to the bench's own questions: a page of a listing.
pub const BENCH_ANSWER_SIZE_MAX: usize = 16 * 1024 * 1024;
/// Slices handed to one send: the kernel's `IOV_MAX` is 1,024.
pub const BENCH_SLICES_MAX: usize = 64;
/// Kinds of errors that one run tells apart.
pub const BENCH_ERROR_KINDS_MAX: usize = 64;
/// Connections that may fail to open in a row, over this time, before the server counts as gone.
pub const BENCH_GONE_AFTER: Duration = Duration::from_secs(3);
/// How long a connection that could not be opened waits for its next attempt.
pub const BENCH_REOPEN_PAUSE: Duration = Duration::from_millis(50);
/// How often a thread of the bench looks for requests whose time is up, and whether it should stop.
pub const BENCH_SWEEP_INTERVAL: Duration = Duration::from_millis(50);

const _: () = {
    assert!(BENCH_SIGNATURE_LIFE.as_secs() < CLOCK_SKEW_MAX_S);
    assert!(BENCH_PAYLOAD_SIZE_MAX.is_multiple_of(BENCH_CHUNK_SIZE));
    assert!(BENCH_SLICES_MAX <= 1024);
    assert!(BENCH_ERROR_BODY_SIZE_MAX < BENCH_RECEIVE_SIZE);
    assert!(RECEIVE_SIZE >= HEAD_SIZE_MAX);
    assert!(METRIC_OPERATIONS_MAX <= 256);
    assert!(HEAD_TIMEOUT_DEFAULT_S < TIMEOUT_MAX_S && TOTAL_TIMEOUT_DEFAULT_S <= TIMEOUT_MAX_S);
    assert!(CONNECTIONS_PER_CORE_DEFAULT <= CONNECTIONS_PER_CORE_MAX);
    assert!(BUFFER_MEMORY_DEFAULT >= (BLOCK_SIZE * BLOCKS_PER_TRANSFER_MAX) as u64);
    assert!(TARGET_SIZE_MAX < HEAD_SIZE_MAX);
    assert!(TLS_RECEIVE_SIZE >= TLS_HELD_SIZE_MAX + TLS_RECORD_SIZE_MAX);
    assert!(TLS_BATCH_SIZE + TLS_BATCH_SIZE / 8 < TLS_OUTGOING_SIZE_MAX);
    assert!(BLOCK_SIZE.is_multiple_of(BLOCK_ALIGN));
    assert!(HUGE_PAGE_SIZE.is_multiple_of(BLOCK_SIZE));
    assert!(SMALL_OBJECT_SIZE_MAX <= BLOCK_SIZE);
    assert!(BLOCKS_PER_TRANSFER_MAX >= 2);
    assert!(BLOCKS_AHEAD_MAX >= BLOCKS_PER_TRANSFER_MAX);
    assert!(KEY_SIZE_MAX > NAME_SIZE_MAX);
    assert!(PART_SIZE_MIN.is_multiple_of(BLOCK_ALIGN as u64) && SLOT_FILE_SIZE_MAX > PUT_SIZE_MAX);
    assert!(REQUEST_MEMORY_DEFAULT as usize - REQUEST_MEMORY_FIXED > SNAPSHOT_SIZE_MAX / 2);
    // A document of each kind, and a page, with what is fixed.
    assert!(REQUEST_MEMORY_MIN as usize >= REQUEST_MEMORY_FIXED + 2 * (1 + DOCUMENT_PARSED_FACTOR) * XML_COMPLETE_SIZE_MAX);
    assert!(SNAPSHOT_SIZE_MAX < u32::MAX as usize);
    assert!(SCAN_NAMES_MAX > LIST_PAGE_MAX);
    assert!(CORES_PER_SPARE > CORES_UNSPARED_MAX);
    assert!(COMMIT_VISITS_MAX <= COMMIT_HELPERS / 2);
    // Each kind of work has a thread, and none as many as the others together.
    assert!(READ_HELPERS > 0 && COMMIT_HELPERS > 0 && ASSEMBLE_HELPERS > 0 && COPY_HELPERS > 0);
    assert!(LIST_HELPERS > 0 && REMOVE_HELPERS > 0 && LIST_HELPERS_NICENESS < 20);
    assert!(READ_HELPERS <= HELPERS_PER_CORE / 2 && COMMIT_HELPERS <= HELPERS_PER_CORE / 2);
    // What takes long has fewer threads than what is short.
    assert!(COPY_HELPERS + LIST_HELPERS + REMOVE_HELPERS <= READ_HELPERS + COMMIT_HELPERS + ASSEMBLE_HELPERS);
    assert!(HELPERS_PER_CORE <= 32 && ASSEMBLE_SIZE_MAX >= COPY_STEP_SIZE as u64);
    assert!(SPILL_WALK_OPEN_MAX < DESCRIPTORS_RESERVED / 4 && SPILL_WALK_OPEN_MAX > 1);
    assert!(SPILL_SEEN_BITS.is_power_of_two() && SPILL_SEEN_BITS.is_multiple_of(64));
    assert!(SPILL_WALKS >= 2 && SPILL_WALK_INTERVAL.as_secs() > SPILL_GRACE.as_secs());
};
