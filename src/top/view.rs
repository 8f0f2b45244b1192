//! What happened between two scrapes, as lines of text.

use super::Scrape;
use super::page::{Page, Wanted};

/// Operations that are shown, the busiest first.
const OPERATIONS_MAX: usize = 8;

/// One line.
pub(super) enum Line {
    Heading(String),
    Text(String),
}

impl Line {
    pub(super) fn text(&self) -> &str {
        match self {
            Self::Heading(text) | Self::Text(text) => text,
        }
    }
}

/// The picture.
pub(super) fn lines(before: &Scrape, now: &Scrape) -> Vec<Line> {
    let seconds = now.at.duration_since(before.at).as_secs_f64().max(1e-6);
    let change = Change { before: &before.page, now: &now.page, seconds };
    let mut lines = vec![Line::Text(title(&now.page)), Line::Text(String::new())];
    lines.extend(cores(&change));
    lines.push(Line::Text(String::new()));
    lines.extend(operations(&change));
    lines.push(Line::Text(String::new()));
    lines.push(Line::Text(barrier(&change)));
    lines.push(Line::Text(caches(&change)));
    lines
}

fn title(now: &Page) -> String {
    let version = now.label("sluice_build_info", "version");
    let mode = now.label("sluice_durability_info", "mode");
    let mode = if mode == "relaxed" { "RELAXED" } else { mode };
    let filesystem = now.label("sluice_durability_info", "filesystem");
    let memory = now.sum("process_resident_memory_bytes", &[]) / MIB;
    let failed = if now.sum("sluice_takes_changes", &[]) == 0.0 { "  THE VOLUME FAILED: NO CHANGES ARE TAKEN" } else { "" };
    let panics = match now.sum("sluice_panics_total", &[]) {
        0.0 => String::new(),
        count => format!("  {count} PANICS"),
    };
    format!("sluice {version}  {filesystem}, {mode}  {memory:.0} MiB resident{failed}{panics}")
}

/// One row for each core, and their sum.
fn cores(change: &Change<'_>) -> Vec<Line> {
    let names = change.now.values("sluice_received_bytes_total", "core");
    let heading = format!(
        "{:>5} {:>6} {:>6} {:>10} {:>8} {:>9} {:>9} {:>7} {:>9} {:>6} {:>9}",
        "core", "busy", "queued", "requests/s", "errors/s", "in MiB/s", "out MiB/s", "conns", "blocks", "lanes", "helpers"
    );
    let mut lines = vec![Line::Heading(heading)];
    lines.extend(names.iter().map(|core| Line::Text(core_row(change, core, &[("core", core)], 1))));
    if names.len() > 1 {
        lines.push(Line::Text(core_row(change, "all", &[], names.len())));
    }
    lines
}

fn core_row(change: &Change<'_>, name: &str, wanted: Wanted<'_>, cores: usize) -> String {
    let now = |family: &str| change.now.sum(family, wanted);
    let rate = |family: &str| change.rate(family, wanted);
    let share = |family: &str| format!("{:.0}%", 100.0 * rate(family) / cores as f64);
    let lanes = change.mean("sluice_md5_step_streams", wanted);
    format!(
        "{name:>5} {:>6} {:>6} {:>10.0} {:>8.0} {:>9.1} {:>9.1} {:>7} {:>9} {:>6} {:>9}",
        share("sluice_core_busy_seconds_total"),
        share("sluice_core_runnable_seconds_total"),
        rate("sluice_requests_total"),
        rate("sluice_request_errors_total"),
        rate("sluice_received_bytes_total") / MIB,
        rate("sluice_sent_bytes_total") / MIB,
        now("sluice_connections_open"),
        format!("{}/{}", now("sluice_blocks_in_use"), now("sluice_blocks")),
        lanes.map_or_else(|| "-".to_owned(), |lanes| format!("{lanes:.1}")),
        now("sluice_helper_queue"),
    )
}

/// The busiest operations: all cores together, then each.
fn operations(change: &Change<'_>) -> Vec<Line> {
    let heading = format!(
        "{:<26} {:>5} {:>10} {:>9} {:>9} {:>9} {:>9}",
        "operation", "core", "requests/s", "p50", "p99", "first p50", "first p99"
    );
    let mut busiest: Vec<(f64, &str)> = change
        .now
        .values("sluice_requests_total", "operation")
        .into_iter()
        .map(|operation| (change.rate("sluice_requests_total", &[("operation", operation)]), operation))
        .filter(|(rate, _)| *rate > 0.0)
        .collect();
    busiest.sort_by(|one, other| other.0.total_cmp(&one.0));
    let mut lines = vec![Line::Heading(heading)];
    let cores = change.now.values("sluice_received_bytes_total", "core");
    for (_, operation) in busiest.into_iter().take(OPERATIONS_MAX) {
        lines.push(Line::Text(operation_row(change, operation, "all", &[("operation", operation)])));
        for core in cores.iter().filter(|_| cores.len() > 1) {
            let wanted = [("operation", operation), ("core", core)];
            if change.rate("sluice_requests_total", &wanted) > 0.0 {
                lines.push(Line::Text(operation_row(change, "", core, &wanted)));
            }
        }
    }
    if lines.len() == 1 {
        lines.push(Line::Text("no requests".to_owned()));
    }
    lines
}

fn operation_row(change: &Change<'_>, name: &str, core: &str, wanted: Wanted<'_>) -> String {
    let at = |family: &str, share: f64| change.quantile(family, wanted, share).map_or_else(|| "-".to_owned(), time);
    format!(
        "{name:<26} {core:>5} {:>10.0} {:>9} {:>9} {:>9} {:>9}",
        change.rate("sluice_requests_total", wanted),
        at("sluice_request_seconds", 0.5),
        at("sluice_request_seconds", 0.99),
        at("sluice_request_first_byte_seconds", 0.5),
        at("sluice_request_first_byte_seconds", 0.99),
    )
}

fn barrier(change: &Change<'_>) -> String {
    let at = |family: &str, share: f64| change.quantile(family, &[], share).map_or_else(|| "-".to_owned(), time);
    let Some(batch) = change.mean("sluice_barrier_changes", &[]) else { return "barrier    none".to_owned() };
    format!(
        "barrier    {:.0}/s of {batch:.1} changes each; sync p50 {} p99 {}; wait p50 {} p99 {}",
        change.rate("sluice_barrier_changes_count", &[]),
        at("sluice_barrier_sync_seconds", 0.5),
        at("sluice_barrier_sync_seconds", 0.99),
        at("sluice_barrier_wait_seconds", 0.5),
        at("sluice_barrier_wait_seconds", 0.99),
    )
}

fn caches(change: &Change<'_>) -> String {
    let share = |family: &str, label: &str, value: &str| {
        let all = change.rate(family, &[]);
        if all > 0.0 { format!("{:.0}%", 100.0 * change.rate(family, &[(label, value)]) / all) } else { "-".to_owned() }
    };
    format!(
        "cached     opens {}, bytes read {}, directories listed {}",
        share("sluice_opens_total", "how", "cached"),
        share("sluice_read_bytes_total", "from", "page_cache"),
        share("sluice_listing_snapshots_total", "from", "cache"),
    )
}

const MIB: f64 = 1024.0 * 1024.0;

/// Two scrapes.
struct Change<'a> {
    before: &'a Page,
    now: &'a Page,
    seconds: f64,
}

impl Change<'_> {
    /// How much a counter grew. One that is less than it was began anew, with its server.
    fn growth(&self, name: &str, wanted: Wanted<'_>) -> f64 {
        let (before, now) = (self.before.sum(name, wanted), self.now.sum(name, wanted));
        if now < before { now } else { now - before }
    }

    fn rate(&self, name: &str, wanted: Wanted<'_>) -> f64 {
        self.growth(name, wanted) / self.seconds
    }

    /// The mean of what a histogram counted; `None` when that was nothing.
    fn mean(&self, name: &str, wanted: Wanted<'_>) -> Option<f64> {
        let count = self.growth(&format!("{name}_count"), wanted);
        (count > 0.0).then(|| self.growth(&format!("{name}_sum"), wanted) / count)
    }

    /// The value below which a share of a histogram lies, evenly spread within its bucket; of the last bucket its lower bound.
    fn quantile(&self, name: &str, wanted: Wanted<'_>, share: f64) -> Option<f64> {
        let (before, now) = (self.before.buckets(name, wanted), self.now.buckets(name, wanted));
        let is_new = before.len() != now.len() || before.iter().zip(&now).any(|(before, now)| now.1 < before.1);
        let grown = |index: usize| if is_new { now[index].1 } else { now[index].1 - before[index].1 };
        let all = (0..now.len()).map(grown).next_back().filter(|all| *all > 0.0)?;
        let rank = share * all;
        let (mut lower, mut below) = (0.0, 0.0);
        for (index, (bound, _)) in now.iter().enumerate() {
            let count = grown(index);
            if count >= rank && count > below {
                let part = (rank - below) / (count - below);
                return Some(if bound.is_finite() { lower + (bound - lower) * part } else { lower });
            }
            (lower, below) = (*bound, count);
        }
        None
    }
}

/// Three digits and a unit.
fn time(seconds: f64) -> String {
    let (value, unit) = match seconds {
        ..1e-3 => (seconds * 1e6, "µs"),
        ..1.0 => (seconds * 1e3, "ms"),
        _ => (seconds, "s"),
    };
    match value {
        ..10.0 => format!("{value:.2} {unit}"),
        ..100.0 => format!("{value:.1} {unit}"),
        _ => format!("{value:.0} {unit}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    fn change(before: &str, now: &str, judge: impl FnOnce(&Change<'_>)) {
        judge(&Change { before: &Page::parse(before), now: &Page::parse(now), seconds: 2.0 });
    }

    #[test]
    fn rates_are_growth_by_time_and_survive_a_restart() {
        change("a 10\n", "a 30\n", |change| assert_eq!(change.rate("a", &[]), 10.0));
        change("a 1000\n", "a 30\n", |change| assert_eq!(change.rate("a", &[]), 15.0));
        change("", "a 30\n", |change| assert_eq!(change.rate("a", &[]), 15.0));
    }

    #[test]
    fn quantiles_are_of_what_came_in_between() {
        let histogram = |counts: [u32; 4]| {
            let bounds = ["1", "2", "4", "+Inf"];
            bounds.iter().zip(counts).map(|(le, count)| format!("h_bucket{{le=\"{le}\"}} {count}\n")).collect::<String>()
        };
        // Before, everything was fast; in between came 10 from 2 to 4, evenly spread, so that half of them are below 3.
        change(&histogram([100, 100, 100, 100]), &histogram([100, 100, 110, 110]), |change| {
            assert_eq!(change.quantile("h", &[], 0.5), Some(3.0));
            assert_eq!(change.quantile("h", &[], 1.0), Some(4.0));
        });
        change("", &histogram([10, 20, 20, 20]), |change| assert_eq!(change.quantile("h", &[], 0.75), Some(1.5)));
        change("", &histogram([0, 0, 0, 5]), |change| assert_eq!(change.quantile("h", &[], 0.5), Some(4.0)));
        change(&histogram([1, 1, 1, 1]), &histogram([1, 1, 1, 1]), |change| assert_eq!(change.quantile("h", &[], 0.5), None));
    }

    #[test]
    fn times_have_three_digits() {
        let times = [4.096e-6, 0.0000421, 0.000999, 0.00123, 0.25, 1.0, 68.7].map(time);
        assert_eq!(times, ["4.10 µs", "42.1 µs", "999 µs", "1.23 ms", "250 ms", "1.00 s", "68.7 s"]);
    }

    #[test]
    fn every_core_has_a_row_and_the_busiest_operation_is_first() {
        let page = |requests: [u32; 2]| {
            let [gets, puts] = requests;
            Page::parse(&format!(
                "sluice_build_info{{version=\"1.2.3\"}} 1\nsluice_takes_changes 1\nsluice_received_bytes_total{{core=\"0\"}} 0\n\
                 sluice_received_bytes_total{{core=\"3\"}} {}\nsluice_requests_total{{core=\"3\",operation=\"GetObject\"}} {gets}\n\
                 sluice_requests_total{{core=\"0\",operation=\"PutObject\"}} {puts}\n",
                gets * 1024 * 1024
            ))
        };
        let at = Instant::now();
        let (before, now) = (Scrape { page: page([0, 0]), at }, Scrape { page: page([10, 20]), at: at + Duration::from_secs(1) });
        let lines = lines(&before, &now);
        let text: Vec<&str> = lines.iter().map(Line::text).collect();
        assert!(text[0].starts_with("sluice 1.2.3"));
        let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let row = |name: &str| words(text.iter().find(|line| line.trim_start().starts_with(name)).unwrap());
        assert_eq!(row("0 ")[3..6], ["20", "0", "0.0"]);
        assert_eq!(row("3 ")[3..6], ["10", "0", "10.0"]);
        assert_eq!(row("all ")[3..6], ["30", "0", "10.0"]);
        let place = |name: &str| text.iter().position(|line| line.starts_with(name)).unwrap();
        assert!(place("PutObject") < place("GetObject"));
    }
}
