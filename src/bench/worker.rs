//! One thread of the load: it waits for its connections with epoll(7), sends what is due and judges what comes back.

use std::collections::VecDeque;
use std::mem::MaybeUninit;
use std::num::NonZeroU64;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::time::Timespec;

use super::BenchError;
use super::answer::{Interest, KeyCount, element};
use super::connection::{Answer, Connection, Exchange, Space, Turn};
use super::endpoint::Endpoint;
use super::keys::Keys;
use super::pace::{Due, Pace};
use super::payload::Payload;
use super::phase::{Counters, Outcome, Phase};
use super::request::{Renderer, Request};
use super::settings::{Operation, Settings};
use super::tally::{Success, Tally};
use super::workload::{Task, Work, Workload};
use crate::limits::{BENCH_GONE_AFTER, BENCH_REOPEN_PAUSE, BENCH_REQUESTS_SIZE_MAX, BENCH_SIGNATURE_LIFE, BENCH_SWEEP_INTERVAL};
use crate::sys;

/// Events taken from the kernel at once.
const EVENTS_MAX: usize = 256;

/// What a thread is made of.
pub struct Blueprint {
    pub number: u64,
    pub threads: u64,
    pub connections: usize,
    pub cpu: Option<usize>,
    pub settings: Arc<Settings>,
    pub endpoint: Arc<Endpoint>,
    pub keys: Arc<Keys>,
    pub payload: Arc<Payload>,
    pub workload: Workload,
}

pub struct Worker {
    number: u64,
    threads: u64,
    settings: Arc<Settings>,
    endpoint: Arc<Endpoint>,
    keys: Arc<Keys>,
    renderer: Renderer,
    requests: Requests,
    /// Hashes of the ETags seen, by number; 0 where none was.
    etags: Vec<u64>,
    space: Space,
    workload: Workload,
    slots: Vec<Slot>,
    idle: VecDeque<usize>,
    epoll: OwnedFd,
    counters: Arc<Counters>,
    stop: Arc<AtomicBool>,
    // Of the phase that runs:
    work: Work,
    pace: Pace,
    tally: Tally,
    /// When the last request was begun that this phase begins.
    ended: Option<Instant>,
    last_answer: Instant,
    /// Since when no connection could be opened, and why.
    failing: Option<(Instant, String)>,
    lost: Option<String>,
}

/// A place for a connection.
struct Slot {
    connection: Connection,
    /// Told apart from the one before it in this place, to which a late event may belong.
    generation: u32,
    registered: EventFlags,
    /// Since when it has been connecting, or waiting to.
    since: Instant,
}

impl Worker {
    pub fn new(blueprint: Blueprint, counters: Arc<Counters>, stop: Arc<AtomicBool>) -> Result<Self, BenchError> {
        let Blueprint { number, threads, connections, cpu, settings, endpoint, keys, payload, workload } = blueprint;
        if let Some(cpu) = cpu {
            sys::cpu::pin(cpu).map_err(|error| BenchError::system("pinning a thread to a CPU of --cores", error))?;
        }
        // Requests of an open loop are to leave at their time, not within the usual 50 µs behind it.
        let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(|error| BenchError::system("epoll", error))?;
        let now = Instant::now();
        let slot = || Slot { connection: Connection::default(), generation: 0, registered: EventFlags::empty(), since: now };
        Ok(Self {
            renderer: Renderer::new(&settings, endpoint.host.clone()),
            requests: Requests::default(),
            etags: Vec::new(),
            space: Space::new(payload),
            slots: (0..connections).map(|_| slot()).collect(),
            idle: VecDeque::with_capacity(connections),
            work: Work::Connect,
            pace: Pace::closed(now, Some(now)),
            tally: Tally::default(),
            ended: None,
            last_answer: now,
            failing: None,
            lost: None,
            number,
            threads,
            settings,
            endpoint,
            keys,
            workload,
            epoll,
            counters,
            stop,
        })
    }

    /// Runs one phase from its first request to its last answer.
    pub fn run(&mut self, phase: &Phase, start: Instant) -> Outcome {
        let end = phase.duration.map(|duration| start + duration);
        self.pace = match phase.rate {
            Some(rate) => Pace::open(start, end, rate, self.number, self.threads),
            None => Pace::closed(start, end),
        };
        (self.work, self.ended, self.last_answer, self.lost) = (phase.work, None, start, None);
        self.workload.begin(phase.work);
        self.reopen(start);
        let mut swept = start;
        while !self.is_over() {
            self.dispatch();
            self.wait();
            let now = Instant::now();
            if now.duration_since(swept) >= BENCH_SWEEP_INTERVAL {
                swept = now;
                self.sweep(now);
                if phase.is_interruptible && self.stop.load(Ordering::Relaxed) {
                    self.end(now);
                }
            }
        }
        let mut tally = std::mem::take(&mut self.tally);
        tally.unsent = self.pace.unsent(self.ended.unwrap_or_else(Instant::now));
        tally.elapsed = self.last_answer.duration_since(start);
        Outcome { tally, lost: self.lost.take() }
    }

    fn is_over(&self) -> bool {
        let quiet = |slot: &Slot| slot.connection.exchange.is_none();
        let connecting = |slot: &Slot| !slot.connection.is_ready();
        self.lost.is_some()
            || match (self.work, self.ended) {
                (Work::Connect, None) => !self.slots.iter().any(connecting),
                (_, None) => false,
                (_, Some(_)) => self.idle.len() == self.slots.len() || self.slots.iter().all(quiet),
            }
    }

    fn end(&mut self, now: Instant) {
        self.ended.get_or_insert(now);
    }

    /// Begins what is due, on the connections that are free.
    fn dispatch(&mut self) {
        while self.ended.is_none() {
            let now = Instant::now();
            match self.pace.due(now) {
                Due::Never => self.end(now),
                Due::At(_) => return,
                Due::Now(intended) => {
                    let Some(index) = self.idle.pop_front() else {
                        if self.pace.is_past(now) {
                            self.end(now);
                        }
                        return;
                    };
                    match self.workload.next() {
                        Some(task) => {
                            self.pace.begin();
                            self.start(index, task, intended);
                        }
                        None => {
                            self.idle.push_front(index);
                            if self.work == Work::Connect {
                                return;
                            }
                            self.end(now);
                        }
                    }
                }
            }
        }
    }

    fn start(&mut self, index: usize, task: Task, intended: Instant) {
        let object = task.number * self.threads + self.number;
        let (renderer, keys, payload) = (&mut self.renderer, &self.keys, &self.space.payload);
        let request = match self.requests.find(task, || renderer.operation(task.operation, &keys.key(object), payload)) {
            Ok(request) => request,
            Err(error) => {
                self.lost = Some(error.to_string());
                return;
            }
        };
        let size = if task.operation == Operation::Get { self.keys.size(object) } else { None };
        let (tail, expected) = match (self.settings.range, size) {
            (Some(range), Some(size)) if request.is_open => {
                let from = self.workload.below(size.div_ceil(range).max(1)) * range;
                let to = (from + range).min(size).max(1);
                (format!("Range: bytes={from}-{}\r\n\r\n", to - 1).into_bytes(), Some(to - from))
            }
            (_, size) => (Vec::new(), size),
        };
        let interest: fn() -> Interest = match task.operation {
            Operation::List => || Interest::Keys(KeyCount::default()),
            _ => || Interest::Length,
        };
        let exchange = Exchange::new(task, request, tail, &self.space.payload, intended, expected, interest);
        let turn = self.slots[index].connection.begin(exchange, &self.space);
        self.took(index, turn);
    }

    fn wait(&mut self) {
        let timeout = match self.pace.due(Instant::now()) {
            // A free connection would have taken what is due now, so that there is none.
            Due::At(time) if self.ended.is_none() && !self.idle.is_empty() => {
                time.saturating_duration_since(Instant::now()).min(BENCH_SWEEP_INTERVAL)
            }
            _ => BENCH_SWEEP_INTERVAL,
        };
        let timeout = Timespec { tv_sec: 0, tv_nsec: i64::from(timeout.subsec_nanos()) };
        let mut space = [MaybeUninit::<epoll::Event>::uninit(); EVENTS_MAX];
        // EINTR is as good as no event.
        let Ok((events, _)) = epoll::wait(&self.epoll, &mut space[..], Some(&timeout)) else { return };
        for event in events {
            let data = event.data.u64();
            let (index, generation) = (data as u32 as usize, (data >> 32) as u32);
            if self.slots.get(index).is_some_and(|slot| slot.generation == generation) {
                let turn = self.slots[index].connection.turn(&mut self.space);
                self.took(index, turn);
                self.dispatch();
            }
        }
    }

    /// Goes on after a turn of a connection.
    fn took(&mut self, index: usize, turn: Turn) {
        match turn {
            Turn::Wait => {}
            Turn::Ready => {
                self.failing = None;
                self.idle.push_back(index);
            }
            Turn::Answered(answer) => {
                if answer.keeps_alive() {
                    self.idle.push_back(index);
                } else {
                    self.tally.reopened += 1;
                    self.open(index, Instant::now());
                }
                self.judge(&answer);
            }
            Turn::Broken(reason) => self.broken(index, &reason),
        }
        self.ask(index);
    }

    /// A connection is of no use any more: its request has failed, and another one takes its place.
    fn broken(&mut self, index: usize, reason: &str) {
        let now = Instant::now();
        let connection = &mut self.slots[index].connection;
        let was_ready = connection.is_ready();
        let exchange = connection.exchange.take();
        self.idle.retain(|idle| *idle != index);
        if let Some(exchange) = exchange {
            let task = exchange.task;
            self.tally.error(task.operation, 0, reason, || exchange.request.line());
            self.counters.count(0, false);
            self.workload.done(task, false);
            self.last_answer = now;
        }
        if was_ready {
            self.tally.reopened += 1;
            self.open(index, now);
        } else {
            self.failed(index, now, reason.to_owned());
        }
    }

    fn open(&mut self, index: usize, now: Instant) {
        let slot = &mut self.slots[index];
        slot.generation = slot.generation.wrapping_add(1);
        (slot.since, slot.registered) = (now, EventFlags::empty());
        if let Err(error) = slot.connection.open(&self.endpoint) {
            self.failed(index, now, format!("cannot connect: {error}"));
            return;
        }
        self.ask(index);
    }

    fn failed(&mut self, index: usize, now: Instant, reason: String) {
        let slot = &mut self.slots[index];
        slot.connection.close();
        slot.since = now;
        self.failing.get_or_insert((now, reason));
    }

    /// Tells the kernel what the connection waits for, where that has changed.
    fn ask(&mut self, index: usize) {
        let slot = &mut self.slots[index];
        let Some(transport) = &slot.connection.transport else { return };
        let mut wanted = EventFlags::IN;
        wanted.set(EventFlags::OUT, slot.connection.wants_write());
        if wanted == slot.registered {
            return;
        }
        let data = EventData::new_u64(u64::from(slot.generation) << 32 | index as u64);
        let asked = if slot.registered.is_empty() {
            epoll::add(&self.epoll, transport.socket(), data, wanted)
        } else {
            epoll::modify(&self.epoll, transport.socket(), data, wanted)
        };
        slot.registered = wanted;
        if let Err(error) = asked {
            self.lost = Some(format!("epoll: {error}"));
        }
    }

    /// Opens what is not open; those that have just failed wait a little.
    fn reopen(&mut self, now: Instant) {
        for index in 0..self.slots.len() {
            let slot = &self.slots[index];
            let is_new = slot.generation == 0;
            if !slot.connection.is_open() && (is_new || now.saturating_duration_since(slot.since) >= BENCH_REOPEN_PAUSE) {
                self.open(index, now);
            }
        }
    }

    /// Looks for what no event tells: time that has run out, and a server that is gone.
    fn sweep(&mut self, now: Instant) {
        for index in 0..self.slots.len() {
            let slot = &self.slots[index];
            let since = match &slot.connection.exchange {
                // The intended time may lie far back when an open loop is behind.
                Some(exchange) => exchange.progress,
                None if slot.connection.is_open() && !slot.connection.is_ready() => slot.since,
                None => continue,
            };
            if now.saturating_duration_since(since) >= self.settings.timeout {
                self.broken(index, "timeout");
            }
        }
        self.reopen(now);
        if let Some((since, reason)) = &self.failing
            && now.duration_since(*since) >= BENCH_GONE_AFTER
            && !self.slots.iter().any(|slot| slot.connection.is_ready())
        {
            self.lost = Some(format!("the server at {} is gone: {reason}", self.endpoint.url));
        }
    }

    /// Whether an answer is what it should be, and what it adds to the figures.
    fn judge(&mut self, answer: &Answer) {
        let exchange = &answer.exchange;
        let task = exchange.task;
        let verdict = self.verdict(answer);
        self.last_answer = answer.end;
        self.workload.done(task, verdict.is_ok());
        let bytes = if task.operation == Operation::Put { self.space.payload.size() } else { answer.received() };
        self.counters.count(bytes, verdict.is_ok());
        match verdict {
            Ok(()) => {
                let keys = if let Interest::Keys(count) = &answer.exchange.interest { count.keys } else { 0 };
                let (first_byte, total) = (answer.first_byte - exchange.intended, answer.end - exchange.intended);
                self.tally.success(task.operation, Success { first_byte, total, bytes, keys });
            }
            Err((code, detail)) => {
                let example = || format!("{}: {}{detail}", exchange.request.line(), answer.head.status);
                self.tally.error(task.operation, answer.head.status, &code, example);
            }
        }
    }

    fn verdict(&mut self, answer: &Answer) -> Result<(), (String, String)> {
        let (status, task) = (answer.head.status, answer.exchange.task);
        let is_good = match task.operation {
            Operation::Get => status == if answer.exchange.request.is_open { 206 } else { 200 },
            // Somebody else may have been faster, or the mix has deleted it.
            Operation::Delete if self.work == Work::CleanUp => matches!(status, 200..300 | 404),
            _ => matches!(status, 200..300),
        };
        if !is_good {
            let Interest::Error(document) = &answer.exchange.interest else {
                return Err((String::new(), " is not what was asked for".to_owned()));
            };
            let of = |name: &str| element(document, name).unwrap_or_default().to_owned();
            let (code, message) = (of("Code"), of("Message"));
            let detail = if code.is_empty() { String::new() } else { format!(" {code}: {message}") };
            return Err((code, detail));
        }
        if let Some(expected) = answer.exchange.expected.filter(|expected| *expected != answer.received()) {
            return Err(("WrongLength".to_owned(), format!(" with {} bytes instead of {expected}", answer.received())));
        }
        if self.settings.verify && matches!(task.operation, Operation::Get | Operation::Put) {
            return self.verify(answer);
        }
        Ok(())
    }

    /// Compares the ETag with what this object's was before: as listed, as answered to its upload, or as read first.
    fn verify(&mut self, answer: &Answer) -> Result<(), (String, String)> {
        let task = answer.exchange.task;
        let wrong = |detail: &str| Err(("WrongETag".to_owned(), detail.to_owned()));
        let Some(etag) = answer.head.etag else { return wrong(" without an ETag") };
        let place = usize::try_from(task.number).unwrap_or(usize::MAX);
        if place >= self.etags.len() {
            self.etags.resize(place.saturating_add(1), 0);
        }
        let object = task.number * self.threads + self.number;
        let known = Some(self.etags[place]).filter(|etag| *etag != 0).or_else(|| self.keys.etag(object));
        self.etags[place] = etag;
        match known {
            Some(known) if known != etag && task.operation == Operation::Get => wrong(" with another ETag than before"),
            _ => Ok(()),
        }
    }
}

/// Signed requests, kept for as long as they may be replayed.
#[derive(Default)]
struct Requests {
    /// By operation and number.
    kept: [Vec<Option<Rc<Request>>>; Operation::ALL.len()],
    size: usize,
}

impl Requests {
    /// The request for `task`: the one that was sent before, where that is young enough.
    fn find(&mut self, task: Task, make: impl FnOnce() -> Result<Request, BenchError>) -> Result<Rc<Request>, BenchError> {
        let kept = &mut self.kept[task.operation.index()];
        let Some(place) = usize::try_from(task.number).ok().filter(|_| task.repeats) else { return make().map(Rc::new) };
        if let Some(Some(request)) = kept.get(place)
            && request.signed_at.elapsed() < BENCH_SIGNATURE_LIFE
        {
            return Ok(Rc::clone(request));
        }
        let request = Rc::new(make()?);
        let memory = request.memory();
        if let Some(Some(old)) = kept.get_mut(place) {
            self.size = (self.size + memory).saturating_sub(old.memory());
            *old = Rc::clone(&request);
        } else if self.size + memory <= BENCH_REQUESTS_SIZE_MAX {
            if place >= kept.len() {
                kept.resize(place + 1, None);
            }
            kept[place] = Some(Rc::clone(&request));
            self.size += memory;
        }
        Ok(request)
    }
}

/// How long it takes at most until all connections of a run stand, before it goes on with those that do.
pub const CONNECT_DURATION: Duration = Duration::from_secs(10);
