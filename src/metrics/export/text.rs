//! The text format of Prometheus, 0.0.4: families of samples. By hand: the numbers lie in cells of our own, and what a client
//! library would add to this page of code is its own cells.
//!
//! <https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format>

use std::fmt::{Display, Write};
use std::time::Duration;

use crate::metrics::record::{Latency, Sizes};

/// The page being written.
#[derive(Default)]
pub(super) struct Page {
    text: String,
}

/// A name and its value.
pub(super) type Label<'a> = (&'a str, &'a dyn Display);

impl Page {
    /// Begins a family of samples that count up.
    pub(super) fn counter(&mut self, name: &str, help: &str) {
        self.family(name, "counter", help);
    }

    /// Begins a family of samples that go up and down.
    pub(super) fn gauge(&mut self, name: &str, help: &str) {
        self.family(name, "gauge", help);
    }

    /// Begins a family of histograms.
    pub(super) fn histogram(&mut self, name: &str, help: &str) {
        self.family(name, "histogram", help);
    }

    /// One sample of the family.
    pub(super) fn sample(&mut self, name: &str, labels: &[Label<'_>], value: impl Display) {
        self.text.push_str(name);
        let mut before = '{';
        for (name, value) in labels {
            self.text.push(before);
            before = ',';
            self.text.push_str(name);
            self.text.push_str("=\"");
            push_escaped(&mut self.text, &value.to_string());
            self.text.push('"');
        }
        if before == ',' {
            self.text.push('}');
        }
        // Writing to a String cannot fail.
        let _ = writeln!(self.text, " {value}");
    }

    /// Seconds as the value of a sample.
    pub(super) fn seconds(&mut self, name: &str, labels: &[Label<'_>], value: Duration) {
        self.sample(name, labels, value.as_secs_f64());
    }

    /// A histogram of times, in seconds.
    pub(super) fn latency(&mut self, name: &str, labels: &[Label<'_>], latency: &Latency) {
        let bound = |ns: u64| Duration::from_nanos(ns).as_secs_f64();
        // The sum first: what is recorded meanwhile may then be in the count alone, by a hair.
        let sum = latency.sum().as_secs_f64();
        self.buckets(name, labels, sum, latency.buckets().map(|(ns, count)| (ns.map(bound), count)));
    }

    /// A histogram of counts.
    pub(super) fn sizes<const N: usize, const BY_DOUBLING: bool>(
        &mut self,
        name: &str,
        labels: &[Label<'_>],
        sizes: &Sizes<N, BY_DOUBLING>,
    ) {
        self.buckets(name, labels, sizes.sum(), sizes.buckets());
    }

    /// The text.
    pub(super) fn finish(self) -> String {
        self.text
    }

    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    /// Buckets count everything up to their bound, so each has what is in those before it.
    fn buckets<B: Display>(
        &mut self,
        name: &str,
        labels: &[Label<'_>],
        sum: impl Display,
        buckets: impl Iterator<Item = (Option<B>, u64)>,
    ) {
        let (bucket, mut total) = (format!("{name}_bucket"), 0);
        for (bound, count) in buckets {
            total += count;
            let bound = bound.map_or_else(|| "+Inf".to_owned(), |bound| bound.to_string());
            self.sample(&bucket, &[labels, &[("le", &bound)]].concat(), total);
        }
        self.sample(&format!("{name}_sum"), labels, sum);
        self.sample(&format!("{name}_count"), labels, total);
    }
}

fn push_escaped(text: &mut String, value: &str) {
    for c in value.chars() {
        match c {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            c => text.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the format's documentation, in our terms.
    #[test]
    fn samples_have_labels_and_escapes() {
        let mut page = Page::default();
        page.counter("http_requests_total", "The total number of HTTP requests.");
        page.sample("http_requests_total", &[("method", &"post"), ("code", &200)], 1027);
        page.sample("msdos_file_access_time_seconds", &[("path", &"C:\\DIR\\FILE.TXT"), ("error", &"not \"x\":\n")], 1.5);
        page.sample("metric_without_labels", &[], 12.47);
        assert_eq!(
            page.finish(),
            "# HELP http_requests_total The total number of HTTP requests.\n# TYPE http_requests_total counter\n\
             http_requests_total{method=\"post\",code=\"200\"} 1027\n\
             msdos_file_access_time_seconds{path=\"C:\\\\DIR\\\\FILE.TXT\",error=\"not \\\"x\\\":\\n\"} 1.5\n\
             metric_without_labels 12.47\n"
        );
    }

    #[test]
    fn buckets_are_cumulative_and_end_with_everything() {
        let latency = Latency::default();
        for ns in [1000, 5000, 5000, 100_000_000_000] {
            latency.record(Duration::from_nanos(ns));
        }
        let mut page = Page::default();
        page.latency("t", &[("core", &0)], &latency);
        let text = page.finish();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[..2], ["t_bucket{core=\"0\",le=\"0.000004096\"} 1", "t_bucket{core=\"0\",le=\"0.000006144\"} 3"]);
        let last = ["t_bucket{core=\"0\",le=\"68.719476736\"} 3", "t_bucket{core=\"0\",le=\"+Inf\"} 4"];
        assert_eq!(lines[lines.len() - 4..lines.len() - 2], last);
        assert_eq!(lines[lines.len() - 2..], ["t_sum{core=\"0\"} 100.000011", "t_count{core=\"0\"} 4"]);
    }
}
