//! What the kernel allows: files into a TCP connection on loopback by the barest loops, against a receiver that drops what it
//! gets (MSG_TRUNC). Prints one line of JSON: bytes, seconds, CPU seconds of either side. `perf/compare` builds and runs it.
//!
//!     raw sendfile|pread|direct [--seconds 3] [--core 0] [--receiver-core 1] FILE…

use std::collections::VecDeque;
use std::fs::File;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
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
/// Bytes read ahead of the socket: what fio has in flight with four reads of 1 MiB.
const AHEAD: usize = 4 << 20;

#[derive(Parser)]
struct Options {
    way: Way,
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    #[arg(long, default_value_t = 0)]
    core: usize,
    #[arg(long, default_value_t = 1)]
    receiver_core: usize,
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

fn main() -> std::io::Result<()> {
    let options = Options::parse();
    pin(options.core)?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let receiver = std::thread::spawn(move || receive(&listener, options.receiver_core));
    let mut socket = TcpStream::connect(address)?;
    let (begin, before) = (Instant::now(), cpu(ClockId::ProcessCPUTime));
    let until = begin + Duration::from_secs_f64(options.seconds);
    let bytes = match options.way {
        Way::Sendfile => by_sendfile(&open(&options.files, 0)?, &socket, until)?,
        Way::Pread => by_pread(&open(&options.files, 0)?, &mut socket, until)?,
        Way::Direct => by_direct(&open(&options.files, libc::O_DIRECT)?, &mut socket, until)?,
    };
    let seconds = begin.elapsed().as_secs_f64();
    drop(socket);
    let (received, receiver_cpu) = receiver.join().map_err(|_| std::io::Error::other("the receiver panicked"))??;
    assert_eq!(received, bytes, "what was sent is what arrived");
    // Of the whole process, because io_uring may have read on a kernel thread of its own.
    let spent = (cpu(ClockId::ProcessCPUTime) - before).saturating_sub(receiver_cpu).as_secs_f64();
    let (files, receiver_cpu) = (options.files.len(), receiver_cpu.as_secs_f64());
    println!(
        "{{\"files\": {files}, \"bytes\": {bytes}, \"seconds\": {seconds:.6}, \"cpu_s\": {spent:.6}, \"receiver_cpu_s\": {receiver_cpu:.6}}}"
    );
    Ok(())
}

/// Bytes that arrived, and what they cost on this side.
fn receive(listener: &TcpListener, core: usize) -> std::io::Result<(u64, Duration)> {
    pin(core)?;
    let (socket, _) = listener.accept()?;
    let (mut dropped, mut received) = (vec![0; 1 << 20], 0);
    loop {
        let (_, count) = rustix::net::recv(&socket, dropped.as_mut_slice(), RecvFlags::TRUNC)?;
        if count == 0 {
            return Ok((received, cpu(ClockId::ThreadCPUTime)));
        }
        received += count as u64;
    }
}

fn by_sendfile(files: &[(File, u64)], socket: &TcpStream, until: Instant) -> std::io::Result<u64> {
    socket.set_nonblocking(true)?;
    let mut sent = 0;
    for (file, size) in files.iter().cycle() {
        let mut offset = 0;
        while offset < *size {
            if Instant::now() >= until {
                return Ok(sent);
            }
            match rustix::fs::sendfile(socket, file, Some(&mut offset), SENDFILE_STEP) {
                Ok(count) => sent += count as u64,
                Err(Errno::AGAIN) => {}
                Err(error) => return Err(error.into()),
            }
            // As a server does: what does not fit now waits until a third of the socket's buffer is free.
            wait_for_room(socket)?;
        }
    }
    Ok(sent)
}

fn by_pread(files: &[(File, u64)], socket: &mut TcpStream, until: Instant) -> std::io::Result<u64> {
    let (mut block, mut sent) = (vec![0; BLOCK_SIZE], 0);
    for (file, size) in files.iter().cycle() {
        let mut offset = 0;
        while offset < *size {
            if Instant::now() >= until {
                return Ok(sent);
            }
            let count = file.read_at(&mut block, offset)?;
            socket.write_all(&block[..count])?;
            offset += count as u64;
            sent += count as u64;
        }
    }
    Ok(sent)
}

fn wait_for_room(socket: &TcpStream) -> std::io::Result<()> {
    rustix::event::poll(&mut [PollFd::new(socket, PollFlags::OUT)], None)?;
    Ok(())
}

/// Reads stay ahead of the socket; each block leaves when its turn has come.
fn by_direct(files: &[(File, u64)], socket: &mut TcpStream, until: Instant) -> std::io::Result<u64> {
    let mut ring = IoUring::builder().setup_single_issuer().setup_defer_taskrun().build(64)?;
    let arena = Arena::new(AHEAD)?;
    let mut pieces =
        files.iter().cycle().flat_map(|(file, size)| (0..*size / BLOCK_SIZE as u64).map(move |n| (file, n * BLOCK_SIZE as u64)));
    let (mut ahead, mut next, mut sent) = (VecDeque::<Reading>::new(), 0, 0);
    loop {
        let is_over = Instant::now() >= until;
        while let (false, Some(block)) = (is_over, arena.try_take()) {
            let (file, offset) = pieces.next().ok_or_else(|| std::io::Error::other("no file of a block or more"))?;
            submit(&mut ring, file, offset, &block, next)?;
            ahead.push_back(Reading { number: next, block, result: None });
            next += 1;
        }
        let Some(first) = ahead.front().map(|reading| reading.number) else { return Ok(sent) };
        ring.submit_and_wait(usize::from(ahead[0].result.is_none()))?;
        for entry in ring.completion() {
            ahead[(entry.user_data() - first) as usize].result = Some(entry.result());
        }
        if let Some(Reading { block, result: Some(result), .. }) = ahead.pop_front_if(|reading| reading.result.is_some()) {
            let count = usize::try_from(result).map_err(|_| std::io::Error::from_raw_os_error(-result))?;
            socket.write_all(&block.bytes()[..count])?;
            sent += count as u64;
        }
    }
}

/// A read under way, or done and waiting for its turn.
struct Reading {
    number: u64,
    block: Block,
    result: Option<i32>,
}

#[allow(unsafe_code)]
fn submit(ring: &mut IoUring, file: &File, offset: u64, block: &Block, number: u64) -> std::io::Result<()> {
    let read = opcode::Read::new(types::Fd(file.as_raw_fd()), block.as_ptr().cast_mut(), BLOCK_SIZE as u32);
    let entry = read.offset(offset as _).build().user_data(number);
    // SAFETY: the block stays in `ahead`, and the file open, until the completion of this read was seen; blocks do not move.
    unsafe { ring.submission().push(&entry) }.map_err(std::io::Error::other)
}

fn open(paths: &[PathBuf], flags: i32) -> std::io::Result<Vec<(File, u64)>> {
    let one = |path: &PathBuf| {
        let file = std::fs::OpenOptions::new().read(true).custom_flags(flags).open(path)?;
        let size = file.metadata()?.len();
        Ok((file, size))
    };
    paths.iter().map(one).collect()
}

fn pin(core: usize) -> std::io::Result<()> {
    let mut cores = CpuSet::new();
    cores.set(core);
    Ok(sched_setaffinity(None, &cores)?)
}

fn cpu(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
