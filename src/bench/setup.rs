//! A whole run: what has to be there is put there, the load is measured, and what was put is taken away again.

use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::BenchError;
use super::control::Control;
use super::crew::Crew;
use super::endpoint::Endpoint;
use super::keys::{self, Keys};
use super::payload::Payload;
use super::phase::{Outcome, Phase};
use super::process;
use super::report::{Report, ServerCost};
use super::settings::{OBJECTS_DEFAULT, Operation, Settings, Source};
use super::worker::{Blueprint, CONNECT_DURATION};
use super::workload::{Work, Workload};
use crate::limits::{BENCH_CONNECTIONS_MAX, BENCH_OBJECTS_MAX, BENCH_RATE_MAX, BENCH_THREADS_MAX, LIST_PAGE_MAX, PUT_SIZE_MAX};

/// How long an address is tried before the next one.
const FIRST_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Runs what `settings` ask for. `stop` ends the measurement early; `progress` is told a line a second.
pub fn run(settings: Settings, stop: &Arc<AtomicBool>, progress: &dyn Fn(&str)) -> Result<Report, BenchError> {
    check(&settings)?;
    process::usage(&settings.server_pids)?;
    let accepts = |address: &std::net::SocketAddr| TcpStream::connect_timeout(address, FIRST_CONNECT_TIMEOUT).map(drop);
    let endpoint = Arc::new(Endpoint::find(&settings.endpoint, &settings.trust, accepts)?);
    let payload = Arc::new(Payload::new(settings.put_size(), settings.payload)?);
    let mut control = Control::new(&settings, &endpoint, &payload);
    let is_new_bucket = if settings.source == Source::Prepared { control.ensure_bucket()? } else { false };
    let (keys, objects) = find_keys(&settings, &mut control)?;
    let settings = Arc::new(settings);
    let crew = hire(&settings, &endpoint, keys, &payload, objects, stop)?;
    let mut report = measure(&crew, &settings, objects, stop, progress);
    if settings.source == Source::Prepared && !settings.keep {
        let cleared = clear_up(&crew, is_new_bucket, &mut control, progress);
        if let Ok(report) = &mut report {
            report.clean_up = cleared.err();
        }
    }
    report
}

/// What no run can do.
fn check(settings: &Settings) -> Result<(), BenchError> {
    let prepares = settings.source == Source::Prepared;
    let needs_size = settings.range.is_some() && settings.source != Source::Existing && !prepares && settings.size.is_none();
    let writes = matches!(settings.operation, None | Some(Operation::Put | Operation::Delete));
    let problem = match settings {
        _ if writes && !prepares => {
            "keys that were there before are only read: --key-file and --list-existing go with get, head and list"
        }
        _ if needs_size => "--range with --key-file needs --size, the size of the objects",
        Settings { range: Some(_), operation, .. } if *operation != Some(Operation::Get) => "--range goes with get",
        Settings { range: Some(0), .. } => "--range 0: write the bytes of each GET, such as 8MiB",
        Settings { folders: 0, .. } | Settings { objects: Some(0), .. } => "--folders and --objects are at least 1",
        Settings { connections: 0, .. } | Settings { threads: 0, .. } => "--connections and --threads are at least 1",
        Settings { connections, .. } if *connections > BENCH_CONNECTIONS_MAX => "--connections: at most 65536",
        Settings { threads, .. } if *threads > BENCH_THREADS_MAX => "--threads: at most 256",
        Settings { threads, connections, .. } if threads > connections => "--threads: more than there are connections",
        Settings { rate: Some(rate), .. } if *rate == 0 || *rate > BENCH_RATE_MAX => {
            "--rate: from 1 to 100000000 requests a second"
        }
        Settings { objects: Some(objects), .. } if *objects > BENCH_OBJECTS_MAX => "--objects: at most 4194304",
        Settings { size: Some(size), .. } if *size > PUT_SIZE_MAX => "--size: at most 5GiB, as one PUT has",
        Settings { max_keys, .. } if *max_keys == 0 || *max_keys > LIST_PAGE_MAX as u64 => "--max-keys: from 1 to 1000",
        _ => return Ok(()),
    };
    Err(BenchError::Usage(problem.to_owned()))
}

/// The keys, and how many objects are there once prepared.
fn find_keys(settings: &Settings, control: &mut Control) -> Result<(Keys, u64), BenchError> {
    let listed = match &settings.source {
        Source::Prepared => {
            let (prefix, folders, size) = (settings.prefix.clone(), settings.folders, settings.put_size());
            let objects =
                if settings.operation == Some(Operation::Put) { 0 } else { settings.objects.unwrap_or(OBJECTS_DEFAULT) };
            return Ok((Keys::Numbered { prefix, folders, size }, objects));
        }
        Source::KeyFile(path) => keys::read_file(path)?,
        Source::Existing => control.list_all()?,
    };
    let count = listed.len() as u64;
    if count == 0 {
        return Err(BenchError::Usage("there is no object to ask for".to_owned()));
    }
    Ok((Keys::Listed { keys: listed, size: settings.size }, count))
}

/// Starts the threads.
fn hire(
    settings: &Arc<Settings>,
    endpoint: &Arc<Endpoint>,
    keys: Keys,
    payload: &Arc<Payload>,
    objects: u64,
    stop: &Arc<AtomicBool>,
) -> Result<Crew, BenchError> {
    let threads = settings.threads as u64;
    let put_objects = settings.objects.filter(|_| settings.operation == Some(Operation::Put));
    if [Some(objects).filter(|objects| *objects > 0), put_objects].into_iter().flatten().any(|objects| objects < threads) {
        return Err(BenchError::Usage("each thread needs an object of its own: fewer --threads, or more objects".to_owned()));
    }
    let keys = Arc::new(keys);
    let blueprint = |number: u64| {
        // As even as it goes.
        let connections = (settings.connections + settings.threads - 1 - number as usize) / settings.threads;
        let cpu = settings.cores.get(number as usize % settings.cores.len().max(1)).copied();
        Blueprint {
            number,
            threads,
            connections,
            cpu,
            settings: Arc::clone(settings),
            endpoint: Arc::clone(endpoint),
            keys: Arc::clone(&keys),
            payload: Arc::clone(payload),
            workload: Workload::new(objects, put_objects, number, threads),
        }
    };
    Crew::start((0..threads).map(blueprint).collect(), stop)
}

/// Prepares, warms up and measures.
fn measure(
    crew: &Crew,
    settings: &Arc<Settings>,
    objects: u64,
    stop: &Arc<AtomicBool>,
    progress: &dyn Fn(&str),
) -> Result<Report, BenchError> {
    let phase = |name, work, duration| Phase { name, work, duration, rate: None, is_interruptible: true };
    let must = |outcome: Outcome| match (outcome.lost, outcome.tally.errors.first()) {
        (Some(lost), _) => Err(BenchError::Unreachable(lost)),
        (None, Some(error)) => {
            Err(BenchError::Refused(format!("preparing failed {} times, first {}", error.count, error.summary())))
        }
        (None, None) => Ok(()),
    };
    must(crew.run(&phase("connect", Work::Connect, Some(CONNECT_DURATION)), progress)?)?;
    if settings.source == Source::Prepared && objects > 0 {
        must(crew.run(&phase("prepare", Work::Prepare, None), progress)?)?;
    }
    let work = Work::Measure(settings.operation);
    let paced = |name, duration| Phase { rate: settings.rate, ..phase(name, work, Some(duration)) };
    // A warm-up of deletes would delete what is to be measured.
    if !settings.warmup.is_zero() && settings.operation != Some(Operation::Delete) {
        let outcome = crew.run(&paced("warm up", settings.warmup), progress)?;
        if let Some(lost) = outcome.lost {
            return Err(BenchError::Unreachable(lost));
        }
    }
    if stop.load(Ordering::Relaxed) {
        return Err(BenchError::Refused("interrupted before the measurement began".to_owned()));
    }
    let (own_before, before) = (process::own_cpu(), process::usage(&settings.server_pids)?);
    let outcome = crew.run(&paced(settings.operation_name(), settings.duration), progress)?;
    let own = process::own_cpu() - own_before;
    let mut report = Report::new(settings, outcome, own, stop.load(Ordering::Relaxed));
    if !settings.server_pids.is_empty() {
        // A server that has died has left nothing to read; the report says that it is gone.
        report.server = process::usage(&settings.server_pids)
            .ok()
            .map(|after| ServerCost { cpu_seconds: after.cpu_seconds - before.cpu_seconds, peak_bytes: after.peak_bytes });
    }
    Ok(report)
}

/// Deletes what the run has put.
fn clear_up(crew: &Crew, is_new_bucket: bool, control: &mut Control, progress: &dyn Fn(&str)) -> Result<(), String> {
    let phase = Phase { name: "clear up", work: Work::CleanUp, duration: None, rate: None, is_interruptible: false };
    let outcome = crew.run(&phase, progress).map_err(|error| error.to_string())?;
    match (outcome.lost, outcome.tally.errors.first()) {
        (Some(lost), _) => return Err(lost),
        (None, Some(error)) => return Err(format!("{} times {}", error.count, error.summary())),
        (None, None) => {}
    }
    if is_new_bucket { control.delete_bucket().map_err(|error| error.to_string()) } else { Ok(()) }
}
