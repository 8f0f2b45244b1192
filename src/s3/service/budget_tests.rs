//! Requests for `perf/budgets` to count instructions and allocations of: so many of one kind over the simulated network, on one
//! thread and without helpers, so that a count depends on nothing but the code. Not a test that `cargo test` runs: the
//! script starts it under callgrind twice and takes the difference, in which the set-up cancels out. What the test itself does for
//! each request is next to nothing: both runs sign the same number, and answers are compared by their length and their first line.

use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use super::death_tests::{Form, Request, settings};
use super::{Core, serve_exchange};
use crate::config::Durability;
use crate::io::run_alone;
use crate::io::sim::{Death, Wire};
use crate::limits::HUGE_PAGE_SIZE;
use crate::mem::{Arena, Room};
use crate::net::{self, After, Exchange};

const SIZE: usize = 4096;
const LISTED: usize = 1000;

const GOOD: &[u8] = b"HTTP/1.1 200 ";

/// Request number `n` of a kind, as it travels. SigV4's name order wants `list-type` before `max-keys`.
fn request(kind: &str, n: usize) -> Vec<u8> {
    let request = match kind {
        "get-4k" => Request::new("GET", "", b"", Form::Signed).at("/bucket/dir/key"),
        "head" => Request::new("HEAD", "", b"", Form::Signed).at("/bucket/dir/key"),
        "put-4k" => Request::new("PUT", "", &[0x55; SIZE], Form::Unsigned).at(&format!("/bucket/new/{n:05}")),
        "list-1000" => Request::new("GET", "list-type=2&max-keys=1000", b"", Form::Signed).at("/listed"),
        other => panic!("no requests of the kind {other:?}"),
    };
    request.sign().0
}

/// Serves `requests`, each in a segment of its own, on one connection.
async fn serve(core: &Rc<Core>, requests: Vec<Vec<u8>>, waste: usize) -> Vec<u8> {
    let sizes: Vec<usize> = requests.iter().map(Vec::len).collect();
    let wire = Wire::new(requests.concat(), usize::MAX, Death::Fin, usize::MAX);
    wire.segments(sizes);
    let core = core.clone();
    let service = Rc::new(async move |exchange: &mut Exchange| -> After {
        // What the script must notice when it is asked for.
        for size in 1..=waste {
            std::hint::black_box(Vec::<u8>::with_capacity(size));
        }
        serve_exchange(&core, exchange).await
    });
    net::simulate(wire.end(), service).await;
    wire.to_client.take()
}

fn environment(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is set by perf/budgets"))
}

#[test]
#[ignore = "run by perf/budgets, under callgrind"]
fn serve_for_counting() {
    let (kind, directory) = (environment("BUDGET_KIND"), PathBuf::from(environment("BUDGET_DIRECTORY")));
    let number = |name: &str| environment(name).parse::<usize>().unwrap();
    let (count, signed, waste) = (number("BUDGET_COUNT"), number("BUDGET_SIGNED"), number("BUDGET_WASTE"));
    // Without a barrier: which calls one takes depends on the filesystem below, and this counts our own instructions.
    let settings = Arc::new(settings(&directory, Durability::Relaxed));
    run_alone(|| async move {
        let core = Rc::new(Core::new(
            settings.clone(),
            Arena::new(2 * HUGE_PAGE_SIZE).unwrap(),
            Room::new(settings.memory.clone(), 1),
            1,
            8,
        ));
        if !directory.join("listed").exists() {
            return prepare(&core).await;
        }
        let mut requests: Vec<Vec<u8>> = (0..signed).map(|n| request(&kind, n)).collect();
        requests.truncate(count);
        let answers = serve(&core, requests, waste).await;
        let text = String::from_utf8_lossy(&answers[..answers.len().min(2000)]);
        assert!(answers.len().is_multiple_of(count), "{count} answers of different lengths: {text}");
        assert!(answers.chunks_exact(answers.len() / count).all(|answer| answer.starts_with(GOOD)), "{text}");
    })
    .unwrap();
}

/// The objects that are read and listed.
async fn prepare(core: &Rc<Core>) {
    let put = |path: String| Request::new("PUT", "", &[0x33; SIZE], Form::Unsigned).at(&path).sign().0;
    for name in ["bucket", "listed"] {
        crate::store::buckets::create(core.volume().bucket(name), core.volume().uploads()).unwrap();
    }
    let mut requests = vec![put("/bucket/dir/key".to_owned())];
    requests.extend((0..LISTED).map(|n| put(format!("/listed/{n:06}"))));
    let count = requests.len();
    let answers = serve(core, requests, 0).await;
    assert_eq!(answers.windows(GOOD.len()).filter(|window| *window == GOOD).count(), count);
}
