//! What the kernel allows: files over HTTP by the barest loops, a blocking thread for each connection, all on one core. Requests
//! are answered with the next file, whatever they ask. `perf/compare` builds it and gives it the clients that the servers get.
//!
//!     raw sendfile|pread|direct --listen 127.0.0.1:8000 FILE…     until it is killed
//!     raw sendfile|pread|direct [--seconds 3] FILE…               against four receivers of its own that drop what they get
//!
//! The second prints one line of JSON: bytes, seconds, CPU seconds of either side.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{Error, Read, Result, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use io_uring::{IoUring, opcode, types};
use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::net::RecvFlags;
use rustix::thread::{CpuSet, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};
use sluice::limits::BLOCK_SIZE;
use sluice::mem::{Arena, Block};

/// Bytes of one sendfile(2): two megabytes leave the socket's buffer no reason to run dry.
const SENDFILE_STEP: usize = 2 << 20;
/// Bytes read ahead of a socket: what fio has in flight with four reads of 1 MiB.
const AHEAD: usize = 4 << 20;
const HEAD_SIZE_MAX: usize = 16 << 10;
const RECEIVERS: usize = 4;
const SERVER_CORE: usize = 0;
const CLIENT_CORE: usize = 1;

#[derive(Parser)]
struct Options {
    way: Way,
    #[arg(long)]
    listen: Option<SocketAddr>,
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    #[arg(required = true)]
    files: Vec<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Way {
    /// sendfile(2) from the page cache.
    Sendfile,
    /// pread(2) of a block from the page cache, and send(2).
    Pread,
    /// O_DIRECT reads into huge pages through io_uring, several ahead, and send(2).
    Direct,
}

fn main() -> Result<()> {
    let options = Options::parse();
    let listener = TcpListener::bind(options.listen.unwrap_or(SocketAddr::from(([127, 0, 0, 1], 0))))?;
    let address = listener.local_addr()?;
    let (way, files) = (options.way, options.files);
    let server = std::thread::spawn(move || serve(&listener, way, &files));
    if options.listen.is_some() {
        return server.join().map_err(|_| Error::other("the server panicked"))?;
    }
    let (begin, before) = (Instant::now(), cpu(ClockId::ProcessCPUTime));
    let until = begin + Duration::from_secs_f64(options.seconds);
    let receivers: Vec<_> = (0..RECEIVERS).map(|_| std::thread::spawn(move || receive(address, until))).collect();
    let (mut bytes, mut receiver_cpu) = (0, Duration::ZERO);
    for receiver in receivers {
        let (received, spent) = receiver.join().map_err(|_| Error::other("a receiver panicked"))??;
        bytes += received;
        receiver_cpu += spent;
    }
    let seconds = begin.elapsed().as_secs_f64();
    // Of the whole process, because io_uring may have read on a kernel thread of its own.
    let spent = (cpu(ClockId::ProcessCPUTime) - before).saturating_sub(receiver_cpu).as_secs_f64();
    let receiver_cpu = receiver_cpu.as_secs_f64();
    println!("{{\"bytes\": {bytes}, \"seconds\": {seconds:.6}, \"cpu_s\": {spent:.6}, \"receiver_cpu_s\": {receiver_cpu:.6}}}");
    Ok(())
}

// The server.

fn serve(listener: &TcpListener, way: Way, paths: &[PathBuf]) -> Result<()> {
    // Threads inherit it.
    pin(SERVER_CORE)?;
    std::thread::scope(|scope| {
        for (number, socket) in listener.incoming().enumerate() {
            let socket = socket?;
            // A client that went away in the middle of a body ends only its own connection.
            scope.spawn(move || connection(socket, way, paths, number));
        }
        Ok(())
    })
}

fn connection(mut socket: TcpStream, way: Way, paths: &[PathBuf], first: usize) -> Result<()> {
    let flags = if matches!(way, Way::Direct) { libc::O_DIRECT } else { 0 };
    let one = |path: &PathBuf| {
        let file = std::fs::OpenOptions::new().read(true).custom_flags(flags).open(path)?;
        let size = file.metadata()?.len();
        Ok((file, size))
    };
    let files: Vec<(File, u64)> = paths.iter().map(one).collect::<Result<_>>()?;
    socket.set_nodelay(true)?;
    let mut reader = Direct::new()?;
    for (file, size) in files.iter().cycle().skip(first % files.len()) {
        if !read_head(&mut socket)? {
            break;
        }
        write!(socket, "HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n")?;
        match way {
            Way::Sendfile => by_sendfile(file, *size, &socket)?,
            Way::Pread => by_pread(file, *size, &mut socket)?,
            Way::Direct => reader.send(file, *size, &mut socket)?,
        }
    }
    Ok(())
}

/// Whether a request came, before the end of the connection.
fn read_head(socket: &mut TcpStream) -> Result<bool> {
    let (mut head, mut length) = ([0; HEAD_SIZE_MAX], 0);
    while !head[..length].ends_with(b"\r\n\r\n") {
        let count = socket.read(&mut head[length..])?;
        if count == 0 {
            return Ok(false);
        }
        length += count;
    }
    Ok(true)
}

fn by_sendfile(file: &File, size: u64, socket: &TcpStream) -> Result<()> {
    socket.set_nonblocking(true)?;
    let mut offset = 0;
    while offset < size {
        match rustix::fs::sendfile(socket, file, Some(&mut offset), SENDFILE_STEP) {
            Ok(_) | Err(Errno::AGAIN) => {}
            Err(error) => return Err(error.into()),
        }
        // As a server does: what does not fit now waits until a third of the socket's buffer is free.
        rustix::event::poll(&mut [PollFd::new(socket, PollFlags::OUT)], None)?;
    }
    socket.set_nonblocking(false)
}

fn by_pread(file: &File, size: u64, socket: &mut TcpStream) -> Result<()> {
    let (mut block, mut offset) = (vec![0; BLOCK_SIZE], 0);
    while offset < size {
        let count = file.read_at(&mut block, offset)?;
        socket.write_all(&block[..count])?;
        offset += count as u64;
    }
    Ok(())
}

/// Reads stay ahead of the socket; each block leaves when its turn has come.
struct Direct {
    ring: IoUring,
    arena: Arena,
    ahead: VecDeque<Reading>,
}

/// A read under way, or done and waiting for its turn.
struct Reading {
    block: Block,
    number: u64,
    result: Option<i32>,
}

impl Direct {
    fn new() -> Result<Self> {
        let ring = IoUring::builder().setup_single_issuer().setup_defer_taskrun().build(64)?;
        Ok(Self { ring, arena: Arena::new(AHEAD)?, ahead: VecDeque::new() })
    }

    fn send(&mut self, file: &File, size: u64, socket: &mut TcpStream) -> Result<()> {
        let (mut next, blocks) = (0, size.div_ceil(BLOCK_SIZE as u64));
        loop {
            while next < blocks {
                let Some(block) = self.arena.try_take() else { break };
                self.submit(file, block, next)?;
                next += 1;
            }
            let Some(first) = self.ahead.front() else { return Ok(()) };
            let (first, is_read) = (first.number, first.result.is_some());
            self.ring.submit_and_wait(usize::from(!is_read))?;
            for entry in self.ring.completion() {
                self.ahead[(entry.user_data() - first) as usize].result = Some(entry.result());
            }
            if let Some(Reading { block, result: Some(result), .. }) = self.ahead.pop_front_if(|reading| reading.result.is_some())
            {
                let count = usize::try_from(result).map_err(|_| Error::from_raw_os_error(-result))?;
                socket.write_all(&block.bytes()[..count])?;
            }
        }
    }

    #[allow(unsafe_code)]
    fn submit(&mut self, file: &File, block: Block, number: u64) -> Result<()> {
        let read = opcode::Read::new(types::Fd(file.as_raw_fd()), block.as_ptr().cast_mut(), BLOCK_SIZE as u32);
        let entry = read.offset((number * BLOCK_SIZE as u64) as _).build().user_data(number);
        self.ahead.push_back(Reading { block, number, result: None });
        // SAFETY: the block stays in `ahead`, and the file open, until the completion of this read was seen; blocks do not move.
        // The ring comes before the arena in `Direct`, so that it ends first.
        unsafe { self.ring.submission().push(&entry) }.map_err(Error::other)
    }
}

// The receivers.

/// Bytes that arrived, and what they cost on this side.
fn receive(address: SocketAddr, until: Instant) -> Result<(u64, Duration)> {
    pin(CLIENT_CORE)?;
    let mut socket = TcpStream::connect(address)?;
    let (mut dropped, mut received) = (vec![0; 1 << 20], 0);
    while Instant::now() < until {
        socket.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
        let mut left = read_length(&mut socket)?;
        received += left;
        while left > 0 {
            let most = dropped.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let (_, count) = rustix::net::recv(&socket, &mut dropped[..most], RecvFlags::TRUNC)?;
            if count == 0 {
                return Err(Error::other("the body ended early"));
            }
            left -= count as u64;
        }
    }
    Ok((received, cpu(ClockId::ThreadCPUTime)))
}

/// Reads exactly the head of an answer, for which it peeks; the length that it says.
fn read_length(socket: &mut TcpStream) -> Result<u64> {
    let mut head = [0; 256];
    loop {
        let count = socket.peek(&mut head)?;
        let Some(end) = head[..count].windows(4).position(|end| end == b"\r\n\r\n") else { continue };
        socket.read_exact(&mut head[..end + 4])?;
        let text = std::str::from_utf8(&head[..end]).map_err(Error::other)?;
        let length = text.rsplit(' ').next().unwrap_or_default();
        return length.parse().map_err(Error::other);
    }
}

fn pin(core: usize) -> Result<()> {
    let mut cores = CpuSet::new();
    cores.set(core);
    Ok(sched_setaffinity(None, &cores)?)
}

fn cpu(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
