//! The client dies at every operation of the server on its connection, one after the other, by FIN and by RST, until a
//! request comes through. Afterwards the old object is there, whole, or the new one is; nothing of the dead request is left.
//!
//! Requests are signed here from AWS' documentation, not by the product:
//! <https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming.html>

use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

use super::{Core, Live, Settings, serve_exchange};
use crate::auth::RootCredentials;
use crate::base::published::Published;
use crate::base::secret::Secret;
use crate::base::time::Timestamp;
use crate::config::{Durability, ListUnreadable, ReadMode, VerifyReads};
use crate::control::{self, Control};
use crate::documents::Documents;
use crate::io::sim::{Death, Wire};
use crate::io::{Helpers, run_core, sleep};
use crate::limits::{BLOCK_SIZE, HUGE_PAGE_SIZE, PUT_SIZE_MAX, XML_SIZE_MAX};
use crate::mem::{Arena, RequestMemory, Room};
use crate::net::{self, After, Exchange};
use crate::orders::orders;
use crate::store::buckets;
use crate::store::volume::Volume;

const ACCESS_KEY: &str = "death";
const SECRET_KEY: &str = "death-has-a-secret-key";
const KEY: &str = "/bucket/dir/key";
/// Two whole blocks, one aligned piece, and a tail that is not aligned.
const LARGE: usize = 2 * BLOCK_SIZE + 5 * 4096 + 77;
const SEGMENT_SIZE: usize = 150_000;

/// A request about to be signed.
pub struct Request {
    method: &'static str,
    path: String,
    query: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    form: Form,
}

/// How the payload is signed.
#[derive(Clone, Copy, PartialEq)]
pub enum Form {
    Unsigned,
    Signed,
    /// `aws-chunked`, each chunk with its signature.
    Chunked,
}

/// What a request was answered.
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Request {
    pub fn new(method: &'static str, query: &str, body: &[u8], form: Form) -> Self {
        Self { method, path: KEY.to_owned(), query: query.to_owned(), headers: Vec::new(), body: body.to_vec(), form }
    }

    /// Of another path than the usual key's.
    pub fn at(mut self, path: &str) -> Self {
        self.path = path.to_owned();
        self
    }

    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The bytes on the wire, and how many of them are the head.
    pub fn sign(mut self) -> (Vec<u8>, usize) {
        let date = Timestamp::now().amz_date();
        let payload = match self.form {
            Form::Unsigned => "UNSIGNED-PAYLOAD".to_owned(),
            Form::Signed => hex(&Sha256::digest(&self.body)),
            Form::Chunked => "STREAMING-AWS4-HMAC-SHA256-PAYLOAD".to_owned(),
        };
        let mut signed = vec![("host", "localhost"), ("x-amz-content-sha256", &payload), ("x-amz-date", &date)];
        let decoded_length = self.body.len().to_string();
        if self.form == Form::Chunked {
            signed.extend([("content-encoding", "aws-chunked"), ("x-amz-decoded-content-length", &decoded_length)]);
        }
        signed.extend(self.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        signed.sort();
        let names: Vec<&str> = signed.iter().map(|(name, _)| *name).collect();
        let names = names.join(";");
        let lines: String = signed.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
        let canonical = format!("{}\n{}\n{}\n{lines}\n{names}\n{payload}", self.method, self.path, self.query);
        let scope = format!("{}/us-east-1/s3/aws4_request", &date[..8]);
        let seed = signature(&date, &format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{}", hex(&Sha256::digest(canonical))));
        if self.form == Form::Chunked {
            self.body = chunked(&self.body, &date, &scope, &seed);
        }
        let query = if self.query.is_empty() { String::new() } else { format!("?{}", self.query) };
        let fields: String = signed.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let head = format!(
            "{} {}{query} HTTP/1.1\r\n{fields}Content-Length: {}\r\nAuthorization: AWS4-HMAC-SHA256 \
             Credential={ACCESS_KEY}/{scope}, SignedHeaders={names}, Signature={seed}\r\n\r\n",
            self.method,
            self.path,
            self.body.len(),
        );
        ([head.as_bytes(), &self.body].concat(), head.len())
    }
}

fn chunked(body: &[u8], date: &str, scope: &str, seed: &str) -> Vec<u8> {
    let (mut out, mut previous) = (Vec::new(), seed.to_owned());
    for chunk in body.chunks(64 * 1024).chain([&[][..]]) {
        let (empty, digest) = (hex(&Sha256::digest(b"")), hex(&Sha256::digest(chunk)));
        previous = signature(date, &format!("AWS4-HMAC-SHA256-PAYLOAD\n{date}\n{scope}\n{previous}\n{empty}\n{digest}"));
        out.extend_from_slice(format!("{:x};chunk-signature={previous}\r\n", chunk.len()).as_bytes());
        out.extend_from_slice(chunk);
        out.extend_from_slice(b"\r\n");
    }
    out
}

fn signature(date: &str, text: &str) -> String {
    let steps = [&date[..8], "us-east-1", "s3", "aws4_request", text];
    let key = steps.iter().fold(format!("AWS4{SECRET_KEY}").into_bytes(), |key, step| {
        let mut mac = Hmac::<Sha256>::new_from_slice(&key).unwrap();
        mac.update(step.as_bytes());
        mac.finalize().into_bytes().to_vec()
    });
    hex(&key)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Answer {
    fn read(bytes: &[u8]) -> Option<Self> {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
        let head = String::from_utf8(bytes[..end].to_vec()).ok()?.to_ascii_lowercase();
        let status = head.split(' ').nth(1)?.parse().ok()?;
        // An interim answer is followed by the one that counts.
        if status == 100 { Self::read(&bytes[end + 4..]) } else { Some(Self { status, head, body: bytes[end + 4..].to_vec() }) }
    }

    fn header(&self, name: &str) -> &str {
        let line = self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        line.unwrap_or_default()
    }

    pub fn element(&self, name: &str) -> String {
        let text = String::from_utf8_lossy(&self.body).into_owned();
        let found = text.split_once(&format!("<{name}>")).and_then(|(_, rest)| rest.split_once(&format!("</{name}>")));
        found.map_or(String::new(), |(value, _)| value.replace("&quot;", "\""))
    }
}

/// One data core over a volume of its own.
pub struct Ground {
    core: Rc<Core>,
    arena: Arena,
    top: PathBuf,
}

/// One version of the object.
#[derive(Clone, Copy)]
struct Version<'a> {
    body: &'a [u8],
    token: &'a str,
}

impl Ground {
    async fn exchange(&self, wire: &Rc<Wire>) -> Option<Answer> {
        let core = self.core.clone();
        let service = Rc::new(async move |exchange: &mut Exchange| -> After { serve_exchange(&core, exchange).await });
        net::simulate(wire.end(), service).await;
        let answer = wire.to_client.borrow();
        Answer::read(&answer)
    }

    /// A request of a client that lives.
    pub async fn ask(&self, request: Request) -> Answer {
        self.send(request.sign().0).await
    }

    /// The same with what is on the wire.
    pub async fn send(&self, bytes: Vec<u8>) -> Answer {
        let wire = Wire::new(bytes, usize::MAX, Death::Fin, usize::MAX);
        self.exchange(&wire).await.unwrap()
    }

    async fn put(&self, version: Version<'_>) {
        let request = Request::new("PUT", "", version.body, Form::Unsigned).with("x-amz-meta-token", version.token);
        assert_eq!(self.ask(request).await.status, 200);
    }

    /// The one of `versions` that is there, whole; `None`: no object.
    async fn find<'a>(&self, versions: &[Version<'a>]) -> Option<&'a str> {
        let answer = self.ask(Request::new("GET", "", b"", Form::Unsigned)).await;
        if answer.status == 404 {
            return None;
        }
        assert_eq!(answer.status, 200, "{}", answer.head);
        let token = answer.header("x-amz-meta-token");
        let found = versions.iter().find(|version| version.token == token).unwrap_or_else(|| panic!("metadata of {token:?}"));
        assert!(answer.body == found.body, "{} bytes under the metadata of {token}", answer.body.len());
        if !answer.header("etag").ends_with("-1\"") {
            assert_eq!(answer.header("etag"), format!("\"{}\"", hex(&md5::Md5::digest(found.body))));
        }
        assert!(std::fs::read(self.top.join(&KEY[1..])).unwrap() == found.body, "the file has other bytes than the object");
        Some(found.token)
    }

    /// What a request may not leave behind.
    async fn assert_nothing_left(&self, descriptors: usize, context: &str) {
        // Hashing runs on as a task of the core's, for a turn or two; and who watches the configuration opens a file now and then.
        let are_closed = || self.descriptors_below() <= descriptors;
        let mut is_clean = false;
        for _ in 0..5000 {
            is_clean = self.arena.free_count() == self.arena.block_count() && are_closed();
            if is_clean {
                break;
            }
            sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(self.arena.free_count(), self.arena.block_count(), "{context}: blocks are still leased");
        assert!(is_clean, "{context}: descriptors are open");
        let staged: Vec<_> = std::fs::read_dir(self.top.join(".sluice/staging")).unwrap().collect();
        assert!(staged.is_empty(), "{context}: {staged:?}");
    }

    /// Open files below the volume, named or not. Other tests of this process have other volumes.
    fn descriptors_below(&self) -> usize {
        let links = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
        links.filter(|link| std::fs::read_link(link.path()).is_ok_and(|target| target.starts_with(&self.top))).count()
    }

    /// Files of uploads that are neither manifest nor log.
    fn part_files(&self) -> usize {
        fn count(directory: &Path) -> usize {
            let entries = std::fs::read_dir(directory).unwrap().flatten();
            let count_one = |entry: std::fs::DirEntry| match entry.file_type().unwrap().is_dir() {
                true => count(&entry.path()),
                false => usize::from(!["upload", "parts"].contains(&&*entry.file_name().to_string_lossy())),
            };
            entries.map(count_one).sum()
        }
        count(&self.top.join(".sluice/uploads"))
    }
}

/// A request whose client dies, for each place where it can; `judge` is told the answer, if there was one, and what the wire saw.
async fn die_everywhere<'t>(
    ground: &'t Ground,
    mut prepare: impl AsyncFnMut() -> Request,
    mut judge: impl AsyncFnMut(Option<Answer>, &Wire, &str),
) {
    for death in [Death::Fin, Death::Reset] {
        for dies_at in 0.. {
            let (request, head_size) = prepare().await.sign();
            let wire = Wire::new(request, dies_at, death, SEGMENT_SIZE);
            wire.slow(head_size);
            // An upload's log stays open between its requests.
            let descriptors = ground.descriptors_below();
            let answer = ground.exchange(&wire).await;
            let context = format!("{death:?} before operation {dies_at}");
            ground.assert_nothing_left(descriptors, &context).await;
            assert!(wire.client_died() || answer.as_ref().is_some_and(|answer| answer.status == 200), "{context}: nobody died");
            judge(answer, &wire, &context).await;
            if !wire.client_died() {
                assert!(dies_at > 4, "the request has more await points than {dies_at}");
                break;
            }
        }
    }
}

pub type Story = for<'g> fn(&'g Ground) -> Pin<Box<dyn Future<Output = ()> + 'g>>;

pub fn on_a_core(story: Story) {
    let top = tempfile::tempdir().unwrap();
    let path = top.path().canonicalize().unwrap();
    let mut settings = settings(&path, Durability::Acked);
    buckets::create(settings.volume.bucket("bucket"), settings.volume.uploads()).unwrap();
    let control = control(&path, &settings);
    settings.orders = control.orders().clone();
    run_core(Helpers::start(2, || ()).unwrap(), || async move {
        let arena = Arena::new(2 * HUGE_PAGE_SIZE).unwrap();
        let room = Room::new(settings.memory.clone(), 1);
        let core = Rc::new(Core::new(Arc::new(settings), arena.clone(), room, 1, 8));
        story(&Ground { core, arena, top: path }).await;
    })
    .unwrap();
    assert!(control.end());
}

/// Who changes what is configured, with the configuration of `directory` itself.
fn control(directory: &Path, settings: &Settings) -> Control {
    let documents = Documents::new(&directory.join(".sluice/config"));
    let work = control::Work { volume: settings.volume.clone(), documents, cluster: None };
    let live = settings.live.clone();
    let publish = move |catalog| live.change(|now| Live { catalog, ..now.clone() });
    Control::start(work, publish, || panic!("the thread that changes the configuration is lost")).unwrap()
}

/// The settings of a server of `directory`, without anybody to change what is configured.
pub fn settings(directory: &Path, durability: Durability) -> Settings {
    let credentials = RootCredentials::new(
        ACCESS_KEY.to_owned(),
        Secret::new(SECRET_KEY.to_owned()),
        Arc::new(crate::auth::first_account(ACCESS_KEY)),
    );
    Settings {
        volume: Arc::new(Volume::open(directory.as_os_str().as_encoded_bytes(), durability).unwrap()),
        memory: RequestMemory::new(64 << 20),
        region: Some("us-east-1".to_owned()),
        read_mode: ReadMode::Auto,
        live: Published::new(Live {
            credentials: Arc::new(credentials),
            catalog: Arc::default(),
            domains: Vec::new(),
            allow_sigv2: false,
            list_unreadable: ListUnreadable::Fail,
            verify_reads: VerifyReads::Passing,
            log_requests: false,
            put_size_max: PUT_SIZE_MAX,
            xml_size_max: XML_SIZE_MAX,
        }),
        orders: orders().0,
        is_draining: false.into(),
    }
}

fn bytes(size: usize, seed: u8) -> Vec<u8> {
    (0..size).map(|index| (index / 7) as u8 ^ seed).collect()
}

/// PUT of `size` bytes, over an object or none.
async fn check_put_and_die(ground: &Ground, size: usize, form: Form, old: Option<Version<'_>>) {
    let body = bytes(size, 0x55);
    let new = Version { body: &body, token: "new" };
    let versions: Vec<_> = old.into_iter().chain([new]).collect();
    let before = old.map(|old| old.token);
    let prepare = async || {
        match old {
            Some(old) => ground.put(old).await,
            None => assert_eq!(ground.ask(Request::new("DELETE", "", b"", Form::Unsigned)).await.status, 204),
        }
        Request::new("PUT", "", new.body, form).with("x-amz-meta-token", new.token).with("expect", "100-continue")
    };
    die_everywhere(ground, prepare, async |answer, wire, context| {
        let found = ground.find(&versions).await;
        assert!(found == before || found == Some("new"), "{context}");
        if answer.is_some_and(|answer| answer.status == 200) {
            assert_eq!(found, Some("new"), "{context}: acknowledged");
        }
        if !wire.is_received() {
            assert_eq!(found, before, "{context}: not all of it arrived");
        }
    })
    .await;
}

const OLD: Version<'static> = Version { body: b"the old object", token: "old" };

#[test]
fn a_small_put() {
    on_a_core(|ground| {
        Box::pin(async move {
            check_put_and_die(ground, 4000, Form::Signed, Some(OLD)).await;
            check_put_and_die(ground, 4000, Form::Unsigned, None).await;
            check_put_and_die(ground, 100_000, Form::Chunked, Some(OLD)).await;
        })
    });
}

#[test]
fn a_large_put() {
    on_a_core(|ground| {
        Box::pin(async move {
            check_put_and_die(ground, LARGE, Form::Unsigned, Some(OLD)).await;
            check_put_and_die(ground, LARGE, Form::Signed, None).await;
        })
    });
}

#[test]
fn a_large_put_in_signed_chunks() {
    on_a_core(|ground| {
        Box::pin(async move {
            let old = bytes(LARGE + 1, 0x33);
            check_put_and_die(ground, LARGE, Form::Chunked, Some(Version { body: &old, token: "old" })).await;
        })
    });
}

impl Ground {
    async fn begin_upload(&self) -> String {
        let request = Request::new("POST", "uploads=", b"", Form::Unsigned).with("x-amz-meta-token", "upload");
        self.ask(request).await.element("UploadId")
    }

    async fn put_part(&self, id: &str, body: &[u8]) -> String {
        let request = Request::new("PUT", &format!("partNumber=1&uploadId={id}"), body, Form::Unsigned);
        self.ask(request).await.header("etag").to_owned()
    }
}

fn complete_request(id: &str, etag: &str) -> Request {
    let part = format!("<Part><PartNumber>1</PartNumber><ETag>{etag}</ETag></Part>");
    let document = format!("<CompleteMultipartUpload>{part}</CompleteMultipartUpload>");
    Request::new("POST", &format!("uploadId={id}"), document.as_bytes(), Form::Signed)
}

/// A part that replaces another: the upload goes on with one of them, whole.
async fn check_part_and_die(ground: &Ground, size: usize, form: Form) {
    let (old, new) = (bytes(70_000, 1), bytes(size, 2));
    let etags = [&old, &new].map(|part| format!("\"{}\"", hex(&md5::Md5::digest(part))));
    let current = std::cell::RefCell::new(String::new());
    let prepare = async || {
        ground.put(OLD).await;
        let id = ground.begin_upload().await;
        assert_eq!(ground.put_part(&id, &old).await, etags[0]);
        let request = Request::new("PUT", &format!("partNumber=1&uploadId={id}"), &new, form).with("expect", "100-continue");
        *current.borrow_mut() = id;
        request
    };
    die_everywhere(ground, prepare, async |answer, wire, context| {
        assert_eq!(ground.find(&[OLD]).await, Some("old"), "{context}");
        assert_eq!(ground.part_files(), 1, "{context}: files of dead attempts");
        let id = current.borrow().clone();
        let listed = ground.ask(Request::new("GET", &format!("uploadId={id}"), b"", Form::Unsigned)).await.element("ETag");
        assert!(etags.contains(&listed), "{context}: {listed}");
        if answer.is_some_and(|answer| answer.status == 200) {
            assert_eq!(listed, etags[1], "{context}: acknowledged");
        }
        if !wire.is_received() {
            assert_eq!(listed, etags[0], "{context}: not all of it arrived");
        }
        let completed = ground.ask(complete_request(&id, &listed)).await;
        assert_eq!(completed.status, 200, "{context}");
        let body = if listed == etags[0] { &old } else { &new };
        assert_eq!(ground.find(&[Version { body, token: "upload" }]).await, Some("upload"), "{context}");
        assert_eq!(ground.part_files(), 0, "{context}");
    })
    .await;
}

#[test]
fn a_part() {
    on_a_core(|ground| {
        Box::pin(async move {
            check_part_and_die(ground, 5000, Form::Signed).await;
            check_part_and_die(ground, LARGE, Form::Chunked).await;
        })
    });
}

#[test]
fn a_completion() {
    on_a_core(|ground| {
        Box::pin(async move {
            let body = bytes(LARGE, 9);
            let new = Version { body: &body, token: "upload" };
            let current = std::cell::RefCell::new((String::new(), String::new()));
            let prepare = async || {
                ground.put(OLD).await;
                let id = ground.begin_upload().await;
                let etag = ground.put_part(&id, new.body).await;
                let request = complete_request(&id, &etag);
                *current.borrow_mut() = (id, etag);
                request
            };
            die_everywhere(ground, prepare, async |answer, wire, context| {
                let found = ground.find(&[OLD, new]).await;
                if answer.is_some_and(|answer| answer.status == 200) {
                    assert_eq!(found, Some("upload"), "{context}: acknowledged");
                }
                if !wire.is_received() {
                    assert_eq!(found, Some("old"), "{context}: not all of it arrived");
                }
                // The client asks again, and is answered as it would have been.
                let (id, etag) = current.borrow().clone();
                let again = ground.ask(complete_request(&id, &etag)).await;
                assert_eq!(again.status, 200, "{context}");
                assert!(again.element("ETag").ends_with("-1\""), "{context}");
                assert_eq!(ground.find(&[OLD, new]).await, Some("upload"), "{context}");
                assert_eq!(ground.part_files(), 0, "{context}");
            })
            .await;
        })
    });
}
