//! Which objects? Numbers that stand for keys: those that a run makes up, those of a file, or those that a bucket holds.

use std::borrow::Cow;
use std::io::Read as _;
use std::path::Path;

use super::BenchError;
use super::answer;
use crate::limits::{BENCH_KEY_FILE_SIZE_MAX, BENCH_OBJECTS_MAX, KEY_SIZE_MAX};

/// The keys of a run, by number.
pub enum Keys {
    /// The run's own, of any number.
    Numbered { prefix: String, folders: u64, size: u64 },
    /// What was there before; `size` of each that has none of its own.
    Listed { keys: Vec<ListedKey>, size: Option<u64> },
}

/// An object that was there before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedKey {
    key: Box<str>,
    size: Option<u64>,
    /// `answer::hash` of its ETag.
    etag: Option<u64>,
}

impl Keys {
    /// The key of object `number`.
    pub fn key(&self, number: u64) -> Cow<'_, str> {
        match self {
            Self::Numbered { prefix, folders: 1, .. } => format!("{prefix}{number:08}").into(),
            Self::Numbered { prefix, folders, .. } => format!("{prefix}{:04}/{number:08}", number % folders).into(),
            Self::Listed { .. } => self.listed(number).map_or("", |listed| &listed.key).into(),
        }
    }

    /// Bytes of object `number`, where they are known.
    pub fn size(&self, number: u64) -> Option<u64> {
        match self {
            Self::Numbered { size, .. } => Some(*size),
            Self::Listed { size, .. } => self.listed(number).and_then(|listed| listed.size).or(*size),
        }
    }

    /// The hash of its ETag, where one was listed.
    pub fn etag(&self, number: u64) -> Option<u64> {
        self.listed(number).and_then(|listed| listed.etag)
    }

    fn listed(&self, number: u64) -> Option<&ListedKey> {
        match self {
            Self::Numbered { .. } => None,
            Self::Listed { keys, .. } => keys.get(usize::try_from(number).ok()?),
        }
    }
}

/// The keys of a file, one a line.
pub fn read_file(path: &Path) -> Result<Vec<ListedKey>, BenchError> {
    let unusable = |problem: String| BenchError::Usage(format!("--key-file {}: {problem}", path.display()));
    let file = std::fs::File::open(path).map_err(|error| unusable(error.to_string()))?;
    let mut text = String::new();
    let read = file.take(BENCH_KEY_FILE_SIZE_MAX + 1).read_to_string(&mut text).map_err(|error| unusable(error.to_string()))?;
    if read as u64 > BENCH_KEY_FILE_SIZE_MAX {
        return Err(unusable("it is larger than 1 GiB".to_owned()));
    }
    let lines = text.lines().filter(|line| !line.is_empty());
    let keys: Vec<_> = lines.map(|line| ListedKey { key: line.into(), size: None, etag: None }).collect();
    if keys.len() as u64 > BENCH_OBJECTS_MAX {
        return Err(unusable(format!("it names more than {BENCH_OBJECTS_MAX} keys")));
    }
    match keys.iter().find(|listed| listed.key.len() > KEY_SIZE_MAX) {
        Some(listed) => Err(unusable(format!("a key of {} bytes; S3 has at most {KEY_SIZE_MAX}", listed.key.len()))),
        None => Ok(keys),
    }
}

/// One page of ListObjectsV2.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Page {
    pub keys: Vec<ListedKey>,
    /// The token for the next page, unless this is the last.
    pub next: Option<String>,
}

/// Reads a page; `None` for a document that is none.
pub fn read_page(xml: &[u8]) -> Option<Page> {
    memchr::memmem::find(xml, b"<ListBucketResult")?;
    let mut page = Page::default();
    let mut rest = xml;
    while let Some(from) = memchr::memmem::find(rest, b"<Contents>") {
        let length = memchr::memmem::find(&rest[from..], b"</Contents>")?;
        let entry = &rest[from..from + length];
        let key = quick_xml::escape::unescape(answer::element(entry, "Key")?).ok()?;
        let etag = answer::element(entry, "ETag").and_then(|etag| quick_xml::escape::unescape(etag).ok());
        page.keys.push(ListedKey {
            key: key.as_ref().into(),
            size: answer::element(entry, "Size").and_then(|size| size.parse().ok()),
            etag: etag.map(|etag| answer::hash(etag.as_bytes())),
        });
        rest = &rest[from + length..];
    }
    let token = answer::element(xml, "NextContinuationToken").and_then(|token| quick_xml::escape::unescape(token).ok());
    page.next = token.filter(|token| !token.is_empty()).map(Cow::into_owned);
    Some(page)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn numbered_keys_are_distinct_and_sort_by_number() {
        let flat = Keys::Numbered { prefix: "p/".to_owned(), folders: 1, size: 1 };
        assert_eq!((flat.key(0), flat.key(1234)), ("p/00000000".into(), "p/00001234".into()));
        let spread = Keys::Numbered { prefix: String::new(), folders: 16, size: 1 };
        assert_eq!((spread.key(17), spread.key(1)), ("0001/00000017".into(), "0001/00000001".into()));
    }

    #[test]
    fn a_page_of_the_documentation() {
        let xml = br#"<?xml version="1.0" encoding="UTF-8"?>
<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>bucket</Name><KeyCount>2</KeyCount>
<NextContinuationToken>1ueGcxLPRx1Tr/XYExHnhbYLgveDs2J/wm36Hy4vbOwM=</NextContinuationToken><IsTruncated>true</IsTruncated>
<Contents><Key>happyface &amp; b.jpg</Key><ETag>&quot;70ee1738b6b21e2c8a43f3a5ab0eee71&quot;</ETag><Size>11</Size></Contents>
<Contents><Key>x</Key><Size>0</Size></Contents></ListBucketResult>"#;
        let page = read_page(xml).unwrap();
        let etag = Some(answer::hash(b"\"70ee1738b6b21e2c8a43f3a5ab0eee71\""));
        let expected = [("happyface & b.jpg", Some(11), etag), ("x", Some(0), None)];
        assert_eq!(page.keys, expected.map(|(key, size, etag)| ListedKey { key: key.into(), size, etag }));
        assert_eq!(page.next.as_deref(), Some("1ueGcxLPRx1Tr/XYExHnhbYLgveDs2J/wm36Hy4vbOwM="));
        assert_eq!(read_page(b"<Error><Code>NoSuchBucket</Code></Error>"), None);
        assert_eq!(read_page(b"<ListBucketResult/>"), Some(Page::default()));
    }

    #[test]
    fn a_key_file_has_one_key_a_line() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        write!(file, "a\nb c\r\n\n\u{fc}").unwrap();
        let keys = read_file(file.path()).unwrap();
        assert_eq!(keys.iter().map(|listed| &*listed.key).collect::<Vec<_>>(), ["a", "b c", "\u{fc}"]);
        write!(file, "{}", "x".repeat(1025)).unwrap();
        assert!(read_file(file.path()).unwrap_err().to_string().contains("at most 1024"));
        assert!(read_file(Path::new("/nowhere")).is_err());
    }
}
