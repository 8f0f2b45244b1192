//! Prometheus' text, read: samples by name. Only what `view` asks for is understood; any other line is passed over.

use std::collections::{BTreeMap, HashMap};

/// One scrape.
#[derive(Debug, Default)]
pub(super) struct Page {
    samples: HashMap<String, Vec<Sample>>,
}

#[derive(Debug)]
struct Sample {
    labels: Vec<(String, String)>,
    value: f64,
}

/// A label and the value that it must have.
pub(super) type Wanted<'a> = &'a [(&'a str, &'a str)];

impl Page {
    pub(super) fn parse(text: &str) -> Self {
        let mut page = Self::default();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            if let Some((name, sample)) = parse_line(line) {
                page.samples.entry(name.to_owned()).or_default().push(sample);
            }
        }
        page
    }

    /// Whether a Sluice wrote it.
    pub(super) fn is_ours(&self) -> bool {
        self.samples.contains_key("sluice_build_info")
    }

    /// The sum of the samples that have these labels.
    pub(super) fn sum(&self, name: &str, wanted: Wanted<'_>) -> f64 {
        self.find(name, wanted).map(|sample| sample.value).sum()
    }

    /// Every value of a label, in order: cores by number.
    pub(super) fn values(&self, name: &str, label: &str) -> Vec<&str> {
        let mut values: Vec<&str> = self.find(name, &[]).filter_map(|sample| sample.label(label)).collect();
        values.sort_by_key(|value| (value.parse::<u64>().unwrap_or(u64::MAX), *value));
        values.dedup();
        values
    }

    /// The value of a label in the first sample.
    pub(super) fn label(&self, name: &str, label: &str) -> &str {
        self.find(name, &[]).find_map(|sample| sample.label(label)).unwrap_or("?")
    }

    /// The cumulative counts of a histogram by its bounds, over all samples that have these labels.
    pub(super) fn buckets(&self, name: &str, wanted: Wanted<'_>) -> Vec<(f64, f64)> {
        // Bounds are positive: their bits have the order of their values.
        let mut buckets: BTreeMap<u64, f64> = BTreeMap::new();
        for sample in self.find(&format!("{name}_bucket"), wanted) {
            if let Some(bound) = sample.label("le").and_then(|text| text.parse::<f64>().ok()).filter(|bound| *bound > 0.0) {
                *buckets.entry(bound.to_bits()).or_default() += sample.value;
            }
        }
        buckets.into_iter().map(|(bits, count)| (f64::from_bits(bits), count)).collect()
    }

    fn find<'a>(&'a self, name: &str, wanted: Wanted<'a>) -> impl Iterator<Item = &'a Sample> {
        let has_all = |sample: &&Sample| wanted.iter().all(|(name, value)| sample.label(name) == Some(value));
        self.samples.get(name).into_iter().flatten().filter(has_all)
    }
}

impl Sample {
    fn label(&self, wanted: &str) -> Option<&str> {
        self.labels.iter().find_map(|(name, value)| (name == wanted).then_some(value.as_str()))
    }
}

/// `name{label="value",…} value`
fn parse_line(line: &str) -> Option<(&str, Sample)> {
    let (name, mut rest) = line.split_at(line.find(['{', ' '])?);
    let mut labels = Vec::new();
    if let Some(inner) = rest.strip_prefix('{') {
        rest = inner;
        while !rest.starts_with('}') {
            let (label, after) = rest.split_once("=\"")?;
            let (value, after) = parse_quoted(after)?;
            labels.push((label.to_owned(), value));
            rest = after.strip_prefix(',').unwrap_or(after);
        }
        rest = &rest[1..];
    }
    let value = rest.split_whitespace().next()?.parse().ok()?;
    Some((name, Sample { labels, value }))
}

/// Up to the closing quote, with escapes undone; and what follows it.
fn parse_quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => match chars.next()?.1 {
                'n' => value.push('\n'),
                escaped => value.push(escaped),
            },
            c => value.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_found_by_their_labels() {
        let text = "# HELP a b\n# TYPE a counter\na{core=\"10\",x=\"one\"} 3\na{core=\"2\",x=\"one\"} 4\na{core=\"2\",x=\"two\"} 5 1700000000\nb 1e3\n\n";
        let page = Page::parse(text);
        assert_eq!((page.sum("a", &[]), page.sum("a", &[("core", "2")]), page.sum("b", &[])), (12.0, 9.0, 1000.0));
        assert_eq!((page.sum("a", &[("core", "2"), ("x", "two")]), page.sum("c", &[])), (5.0, 0.0));
        assert_eq!(page.values("a", "core"), ["2", "10"]);
        assert!(!page.is_ours());
    }

    /// The example of the format's documentation.
    #[test]
    fn escapes_are_undone() {
        let page = Page::parse("t{path=\"C:\\\\DIR\\\\FILE.TXT\",error=\"Cannot find \\\"x\\\"\\n, {y}\"} 1.458e9\n");
        assert_eq!(page.label("t", "path"), "C:\\DIR\\FILE.TXT");
        assert_eq!(page.label("t", "error"), "Cannot find \"x\"\n, {y}");
        assert_eq!(page.sum("t", &[]), 1.458e9);
    }

    #[test]
    fn buckets_are_summed_over_cores_and_sorted() {
        let text = "h_bucket{core=\"0\",le=\"+Inf\"} 9\nh_bucket{core=\"0\",le=\"0.5\"} 2\nh_bucket{core=\"1\",le=\"0.5\"} 1\nh_bucket{core=\"0\",le=\"0.25\"} 1\n";
        let page = Page::parse(text);
        assert_eq!(page.buckets("h", &[]), [(0.25, 1.0), (0.5, 3.0), (f64::INFINITY, 9.0)]);
        assert_eq!(page.buckets("h", &[("core", "1")]), [(0.5, 1.0)]);
    }

    #[test]
    fn what_is_no_sample_is_passed_over() {
        for line in
            ["", " ", "a", "a{", "a{b", "a{b=\"", "a{b=\"c\\", "a{b=\"c\"", "a{b=\"c\"} x", "{} 1 2", "<html>", "a{b=\"c\"d"]
        {
            let _ = Page::parse(line);
            assert_eq!(Page::parse(line).sum("a", &[]), 0.0, "{line}");
        }
    }
}
