//! How does it look in a terminal? `sluice top`: two scrapes of a server's metrics, and what happened in between, per core.
//!
//! Imports `limits` only: it knows the server by its metrics, as Prometheus does, so that it may run anywhere and show any version
//! whose families have these names. Limits: `METRICS_PAGE_SIZE_MAX` bytes of one scrape, `METRICS_ANSWER_TIMEOUT` for it.

mod fetch;
mod page;
mod screen;
mod view;

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

pub use fetch::{FetchError, Target};
use page::Page;

/// How it is shown.
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    /// One table, and the end.
    pub once: bool,
    /// Between two scrapes.
    pub interval: Duration,
}

/// A scrape and when it was made.
struct Scrape {
    page: Page,
    at: Instant,
}

/// Shows `target` until the user has seen enough. Without a terminal, one table follows the other.
pub fn run(target: &Target, manner: Manner) -> Result<(), FetchError> {
    let mut before = scrape(target)?;
    let mut out = std::io::stdout();
    if !manner.once && out.is_terminal() {
        return screen::run(target, manner.interval, before);
    }
    loop {
        std::thread::sleep(manner.interval);
        let now = scrape(target)?;
        let text = view::lines(&before, &now).into_iter().fold(String::new(), |text, line| text + line.text() + "\n");
        // Whoever read it has gone: enough was seen.
        if out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_err() || manner.once {
            return Ok(());
        }
        let _ = writeln!(out);
        before = now;
    }
}

fn scrape(target: &Target) -> Result<Scrape, FetchError> {
    let text = target.fetch()?;
    let page = Page::parse(&text);
    // Something else may listen there.
    if page.is_ours() { Ok(Scrape { page, at: Instant::now() }) } else { Err(FetchError::Foreign { url: target.to_string() }) }
}
