//! A writer of elements into a byte buffer: no tree, no allocation of its own.

use crate::base::percent;
use crate::base::time::Timestamp;
use crate::xml::NAMESPACE;

/// What every document begins with. An answer that keeps its client waiting sends this first, then spaces, then the rest.
pub const DECLARATION: &[u8] = b"<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n";

/// Appends elements to a buffer. Element names are ours and are written as they are; text is escaped.
pub struct Writer<'o> {
    out: &'o mut Vec<u8>,
}

impl<'o> Writer<'o> {
    /// Writes into `out`, which may already hold a declaration.
    pub fn new(out: &'o mut Vec<u8>) -> Self {
        Self { out }
    }

    /// The declaration and the opened root element in S3's namespace. The caller closes it.
    pub fn document(out: &'o mut Vec<u8>, root: &str) -> Self {
        out.extend_from_slice(DECLARATION);
        let mut writer = Self { out };
        writer.root(root);
        writer
    }

    /// `<name xmlns="…">`
    pub fn root(&mut self, name: &str) {
        self.raw(b"<");
        self.raw(name.as_bytes());
        self.raw(b" xmlns=\"");
        self.raw(NAMESPACE.as_bytes());
        self.raw(b"\">");
    }

    /// `<name>`
    pub fn open(&mut self, name: &str) {
        self.raw(b"<");
        self.raw(name.as_bytes());
        self.raw(b">");
    }

    /// `</name>`
    pub fn close(&mut self, name: &str) {
        self.raw(b"</");
        self.raw(name.as_bytes());
        self.raw(b">");
    }

    /// `<name>text</name>`
    pub fn text(&mut self, name: &str, text: &str) {
        self.open(name);
        escape_into(self.out, text.as_bytes());
        self.close(name);
    }

    /// As `text`, for one that has nothing to be escaped: a name of S3's.
    pub fn word(&mut self, name: &str, word: &str) {
        debug_assert!(word.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')), "{word}");
        self.open(name);
        self.raw(word.as_bytes());
        self.close(name);
    }

    /// Text of the element that is open.
    pub fn characters(&mut self, text: &str) {
        escape_into(self.out, text.as_bytes());
    }

    /// `<ChecksumCRC32>value</ChecksumCRC32>`
    pub fn checksum(&mut self, algorithm: &str, value: &str) {
        self.raw(b"<Checksum");
        self.raw(algorithm.as_bytes());
        self.raw(b">");
        self.characters(value);
        self.raw(b"</Checksum");
        self.raw(algorithm.as_bytes());
        self.raw(b">");
    }

    /// As `text`, and nothing at all for `None`.
    pub fn optional(&mut self, name: &str, text: Option<&str>) {
        if let Some(text) = text {
            self.text(name, text);
        }
    }

    /// A key or a piece of one; percent-encoded when the client asked for `encoding-type=url`. A space is `%20` there and
    /// never `+`, because some clients decode as a URL and some as a form.
    pub fn key(&mut self, name: &str, key: &[u8], url_encoded: bool) {
        self.open(name);
        if url_encoded {
            percent::encode_into(self.out, key, true);
        } else {
            // Keys are UTF-8; were one not, the document must still be.
            match std::str::from_utf8(key) {
                Ok(_) => escape_into(self.out, key),
                Err(_) => escape_into(self.out, String::from_utf8_lossy(key).as_bytes()),
            }
        }
        self.close(name);
    }

    /// Decimal.
    pub fn number(&mut self, name: &str, value: u64) {
        self.open(name);
        let mut digits = [0; 20];
        let mut at = digits.len();
        let mut rest = value;
        loop {
            at -= 1;
            digits[at] = b'0' + (rest % 10) as u8;
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        self.raw(&digits[at..]);
        self.close(name);
    }

    /// `true` or `false`.
    pub fn boolean(&mut self, name: &str, value: bool) {
        self.text(name, if value { "true" } else { "false" });
    }

    /// `2009-10-12T17:50:30.000Z`: whole seconds, as S3 shows them, so that a listing and the `Last-Modified` header of the
    /// same object name the same instant; clients compare the two.
    pub fn time(&mut self, name: &str, time: Timestamp) {
        let civil = time.civil();
        let mut text = *b"0000-00-00T00:00:00.000Z";
        let year = civil.year.clamp(0, 9999) as u32;
        for (at, value) in [(0, year / 100), (2, year % 100), (5, civil.month), (8, civil.day)] {
            two_digits(&mut text, at, value);
        }
        for (at, value) in [(11, civil.hour), (14, civil.minute), (17, civil.second)] {
            two_digits(&mut text, at, value);
        }
        self.open(name);
        self.raw(&text);
        self.close(name);
    }

    /// `<ETag>&quot;…&quot;</ETag>` from an ETag without quotes.
    pub fn etag(&mut self, etag: &str) {
        self.open("ETag");
        self.raw(b"&quot;");
        escape_into(self.out, etag.as_bytes());
        self.raw(b"&quot;");
        self.close("ETag");
    }

    fn raw(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }
}

fn two_digits(text: &mut [u8; 24], at: usize, value: u32) {
    text[at] = b'0' + (value / 10 % 10) as u8;
    text[at + 1] = b'0' + (value % 10) as u8;
}

/// Appends UTF-8 `text` so that a parser reads back exactly it. Control characters become references, also those that XML 1.0
/// cannot carry: S3 does the same and asks clients with such keys to use `encoding-type=url`
/// (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html>).
fn escape_into(out: &mut Vec<u8>, text: &[u8]) {
    let mut from = 0;
    for (at, &byte) in text.iter().enumerate() {
        if !NEEDS_ESCAPE[usize::from(byte)] {
            continue;
        }
        out.extend_from_slice(&text[from..at]);
        from = at + 1;
        match byte {
            b'&' => out.extend_from_slice(b"&amp;"),
            b'<' => out.extend_from_slice(b"&lt;"),
            b'>' => out.extend_from_slice(b"&gt;"),
            b'"' => out.extend_from_slice(b"&quot;"),
            _ => {
                out.extend_from_slice(b"&#x");
                if byte >= 16 {
                    out.push(b'1');
                }
                out.push(b"0123456789ABCDEF"[usize::from(byte & 15)]);
                out.push(b';');
            }
        }
    }
    out.extend_from_slice(&text[from..]);
}

static NEEDS_ESCAPE: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 32 {
        table[byte] = true;
        byte += 1;
    }
    table[b'&' as usize] = true;
    table[b'<' as usize] = true;
    table[b'>' as usize] = true;
    table[b'"' as usize] = true;
    table
};

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn written(write: impl FnOnce(&mut Writer<'_>)) -> String {
        let mut out = Vec::new();
        write(&mut Writer::new(&mut out));
        String::from_utf8(out).expect("a document is UTF-8")
    }

    #[test]
    fn text_is_escaped() {
        assert_eq!(written(|w| w.text("Key", "a&b<c>\"d'é")), "<Key>a&amp;b&lt;c&gt;&quot;d'é</Key>");
        assert_eq!(written(|w| w.text("Key", "\u{1}\t\n\r\u{1f}")), "<Key>&#x1;&#x9;&#xA;&#xD;&#x1F;</Key>");
        assert_eq!(written(|w| w.key("Key", b"\xff<", false)), "<Key>\u{fffd}&lt;</Key>");
        assert_eq!(written(|w| w.key("Key", b"a b/(+)\xff\n", true)), "<Key>a%20b/%28%2B%29%FF%0A</Key>");
        assert_eq!(
            written(|w| w.etag("9b2cf535f27731c974343645a3985328-2")),
            "<ETag>&quot;9b2cf535f27731c974343645a3985328-2&quot;</ETag>"
        );
    }

    #[test]
    fn numbers_and_times() {
        for value in [0, 9, 10, 5_368_709_120, u64::MAX] {
            assert_eq!(written(|w| w.number("Size", value)), format!("<Size>{value}</Size>"));
        }
        let time = Timestamp { seconds: 1_255_369_830, nanoseconds: 999_999_999 };
        assert_eq!(written(|w| w.time("LastModified", time)), "<LastModified>2009-10-12T17:50:30.000Z</LastModified>");
        let before = Timestamp::from_seconds(-1);
        assert_eq!(written(|w| w.time("T", before)), "<T>1969-12-31T23:59:59.000Z</T>");
        for seconds in [i64::MIN / 1_000_000, i64::MAX / 1_000_000] {
            assert_eq!(written(|w| w.time("T", Timestamp::from_seconds(seconds))).len(), "<T>1969-12-31T23:59:59.000Z</T>".len());
        }
    }

    proptest! {
        /// The oracle is quick-xml's own unescaping.
        #[test]
        fn another_parser_reads_the_text_back(text in "[\\x20-\\x7e\\t\\r\\né\u{1f600}]{0,60}") {
            let document = written(|w| w.text("Key", &text));
            let inner = document.strip_prefix("<Key>").and_then(|rest| rest.strip_suffix("</Key>")).unwrap();
            prop_assert!(!inner.contains(['<', '>', '\r']));
            prop_assert_eq!(quick_xml::escape::unescape(inner).unwrap(), text);
        }
    }
}
