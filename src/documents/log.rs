//! What has changed? `generation`, an append-only log of lines: number, incarnation of the document, CRC-32C of the line, the document's
//! name. Each change stands there twice, before its document gets its name and afterwards, so that whoever has read one of the two lines
//! when it reads the document has seen it, or will be told again.
//!
//! Numbers go up by one. Where they do not, and where the log is not what it was (cut, replaced, gone), nothing is known of what changed,
//! and everything has to be looked at: `Watch`.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::io::Errno;

use super::format::crc_of;
use super::publish::{errno, folder_of, sync, temporary_of, write_private};
use crate::limits::{GENERATION_LINE_SIZE_MAX, GENERATION_LOG_SIZE_MAX};

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry<'a> {
    number: u64,
    incarnation: u64,
    name: &'a str,
}

impl<'a> Entry<'a> {
    fn encode(&self) -> Vec<u8> {
        let Self { number, incarnation, name } = self;
        let crc = crc_of(format!("{number} {incarnation:016x} {name}").as_bytes());
        format!("{number} {incarnation:016x} {crc} {name}\n").into_bytes()
    }

    /// Of a line without its end. `None`: torn, or not of ours.
    fn decode(line: &'a [u8]) -> Option<Self> {
        let text = std::str::from_utf8(line).ok()?;
        let mut fields = text.splitn(4, ' ');
        let (number, incarnation, _crc, name) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
        let entry = Self { number: number.parse().ok()?, incarnation: u64::from_str_radix(incarnation, 16).ok()?, name };
        (entry.encode().strip_suffix(b"\n") == Some(line)).then_some(entry)
    }
}

/// Writes down that the document `name` changes. The caller holds the lock of writers.
pub(super) fn append(log: &Path, name: &str, incarnation: u64) -> Result<(), Errno> {
    let mut file = open_to_append(log)?;
    let size = file.seek(SeekFrom::End(0)).map_err(|error| errno(&error))?;
    let tail = read_tail(&mut file, size)?;
    let lines = || tail.split(|byte| *byte == b'\n');
    let number = lines().filter_map(Entry::decode).next_back().map_or(0, |last| last.number).wrapping_add(1);
    let line = Entry { number, incarnation, name }.encode();
    if line.len() > GENERATION_LINE_SIZE_MAX {
        return Err(Errno::NAMETOOLONG);
    }
    if size > GENERATION_LOG_SIZE_MAX {
        return begin_anew(log, &line);
    }
    // A line that a crash has torn is ended first: it is none, and the next one is.
    let torn: &[u8] = if tail.is_empty() || tail.ends_with(b"\n") { b"" } else { b"\n" };
    file.write_all(&[torn, &line].concat()).and_then(|()| file.sync_all()).map_err(|error| errno(&error))?;
    if size == 0 { sync(folder_of(log)) } else { Ok(()) }
}

fn open_to_append(log: &Path) -> Result<File, Errno> {
    let flags = rustix::fs::OFlags::NOFOLLOW.bits() as i32;
    let opened = OpenOptions::new().read(true).append(true).create(true).mode(0o600).custom_flags(flags).open(log);
    opened.map_err(|error| errno(&error))
}

/// The last lines, of which the first may be cut.
fn read_tail(file: &mut File, size: u64) -> Result<Vec<u8>, Errno> {
    let from = size.saturating_sub(4 * GENERATION_LINE_SIZE_MAX as u64);
    read_from(file, from, 4 * GENERATION_LINE_SIZE_MAX as u64)
}

fn read_from(file: &mut File, from: u64, size_max: u64) -> Result<Vec<u8>, Errno> {
    let mut bytes = Vec::new();
    let read = file.seek(SeekFrom::Start(from)).and_then(|_| file.take(size_max).read_to_end(&mut bytes));
    read.map(|_| bytes).map_err(|error| errno(&error))
}

/// Another log in its place, in which the numbers go on: whoever reads it sees that it is another.
fn begin_anew(log: &Path, line: &[u8]) -> Result<(), Errno> {
    let temporary = temporary_of(log)?;
    let renamed = write_private(&temporary, line)
        .and_then(|()| std::fs::rename(&temporary, log).map_err(|error| errno(&error)))
        .inspect_err(|_| _ = std::fs::remove_file(&temporary));
    renamed.and_then(|()| sync(folder_of(log)))
}

/// What somebody who looks at the log again and again is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Nothing has changed.
    Nothing,
    /// These documents may have.
    Names(Vec<String>),
    /// Any may have.
    Everything,
}

/// One who looks. It opens and reads the log; neither inotify nor the times of files tell of other hosts' changes.
#[derive(Debug, Default)]
pub struct Watch {
    last: Option<Line>,
}

/// The last line that was seen. While it stands where it stood, the log has only grown.
#[derive(Debug)]
struct Line {
    start: u64,
    bytes: Vec<u8>,
    /// 0: it was none of ours.
    number: u64,
}

impl Watch {
    /// What has changed since the look before.
    pub(super) fn look(&mut self, log: &Path) -> Result<Seen, Errno> {
        let mut file = match File::open(log) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(if self.last.take().is_some() { Seen::Everything } else { Seen::Nothing });
            }
            Err(error) => return Err(errno(&error)),
        };
        if let Some(last) = &mut self.last {
            let bytes = read_from(&mut file, last.start, 2 * GENERATION_LOG_SIZE_MAX)?;
            if let Some(names) = bytes.strip_prefix(&*last.bytes).and_then(|further| last.follow(further)) {
                return Ok(if names.is_empty() { Seen::Nothing } else { Seen::Names(names) });
            }
        }
        let bytes = read_from(&mut file, 0, 2 * GENERATION_LOG_SIZE_MAX)?;
        let was_any = self.last.is_some();
        self.last = Line::last_of(&bytes);
        Ok(if was_any || self.last.is_some() { Seen::Everything } else { Seen::Nothing })
    }
}

impl Line {
    fn last_of(bytes: &[u8]) -> Option<Self> {
        let end = bytes.iter().rposition(|byte| *byte == b'\n')?;
        let start = bytes[..end].iter().rposition(|byte| *byte == b'\n').map_or(0, |before| before + 1);
        let number = Entry::decode(&bytes[start..end]).map_or(0, |entry| entry.number);
        Some(Self { start: start as u64, bytes: bytes[start..=end].to_vec(), number })
    }

    /// The names in the lines behind this one, of which the last is this one afterwards. `None`: a gap, or what is no line.
    fn follow(&mut self, further: &[u8]) -> Option<Vec<String>> {
        let mut names = Vec::new();
        for line in further.split_inclusive(|byte| *byte == b'\n') {
            // It is still being written.
            let Some(text) = line.strip_suffix(b"\n") else { break };
            let entry = Entry::decode(text).filter(|entry| entry.number == self.number.wrapping_add(1))?;
            let start = self.start + self.bytes.len() as u64;
            *self = Self { start, bytes: line.to_vec(), number: entry.number };
            if !names.iter().any(|name| name == entry.name) {
                names.push(entry.name.to_owned());
            }
        }
        Some(names)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fixture() -> (tempfile::TempDir, std::path::PathBuf, Watch) {
        let top = tempfile::tempdir().unwrap();
        let log = top.path().join("generation");
        (top, log, Watch::default())
    }

    fn names(names: &[&str]) -> Seen {
        Seen::Names(names.iter().map(|name| (*name).to_owned()).collect())
    }

    #[test]
    fn a_watch_is_told_what_was_appended_once() {
        let (_top, log, mut watch) = fixture();
        assert_eq!(watch.look(&log), Ok(Seen::Nothing));
        append(&log, "a", 1).unwrap();
        assert_eq!(watch.look(&log), Ok(Seen::Everything), "who has seen nothing yet");
        assert_eq!(watch.look(&log), Ok(Seen::Nothing));
        for name in ["b", "c", "b"] {
            append(&log, name, 2).unwrap();
        }
        assert_eq!(watch.look(&log), Ok(names(&["b", "c"])));
        assert_eq!(watch.look(&log), Ok(Seen::Nothing));
        let text = std::fs::read_to_string(&log).unwrap();
        let numbers: Vec<&str> = text.lines().map(|line| line.split(' ').next().unwrap()).collect();
        assert_eq!(numbers, ["1", "2", "3", "4"]);
    }

    #[test]
    fn a_log_that_is_another_makes_everything_be_looked_at() {
        let lines = |numbers: &[u64]| -> Vec<u8> {
            numbers.iter().flat_map(|number| Entry { number: *number, incarnation: 1, name: "a" }.encode()).collect()
        };
        for (after, what) in [
            (lines(&[1]), "a shrink"),
            (Vec::new(), "nothing"),
            (lines(&[1, 2, 4]), "a gap"),
            (lines(&[1, 2, 2]), "a number twice"),
            (lines(&[1, 2, 1]), "a restart"),
            (lines(&[7, 8, 9, 10]), "other numbers"),
            ([lines(&[1, 2]), b"garbage\n".to_vec()].concat(), "no line"),
            ([lines(&[1, 2]), vec![0; 40], b"\n".to_vec()].concat(), "zeros"),
        ] {
            let (_top, log, mut watch) = fixture();
            std::fs::write(&log, lines(&[1, 2])).unwrap();
            assert_eq!(watch.look(&log), Ok(Seen::Everything));
            std::fs::write(&log, after).unwrap();
            assert_eq!(watch.look(&log), Ok(Seen::Everything), "{what}");
            assert_eq!(watch.look(&log), Ok(Seen::Nothing), "{what}: told once");
        }
        let (_top, log, mut watch) = fixture();
        std::fs::write(&log, lines(&[1])).unwrap();
        assert_eq!(watch.look(&log), Ok(Seen::Everything));
        std::fs::remove_file(&log).unwrap();
        assert_eq!(watch.look(&log), Ok(Seen::Everything));
        assert_eq!(watch.look(&log), Ok(Seen::Nothing));
    }

    /// At every byte at which a crash can have cut it.
    #[test]
    fn a_torn_line_is_none_and_the_next_one_is() {
        let whole = Entry { number: 2, incarnation: 1, name: "b" }.encode();
        for cut in 1..whole.len() {
            let (_top, log, mut watch) = fixture();
            append(&log, "a", 1).unwrap();
            assert_eq!(watch.look(&log), Ok(Seen::Everything));
            let before = std::fs::read(&log).unwrap();
            std::fs::write(&log, [&before, &whole[..cut]].concat()).unwrap();
            assert_eq!(watch.look(&log), Ok(Seen::Nothing), "it may still be written");
            append(&log, "c", 3).unwrap();
            assert_ne!(watch.look(&log), Ok(Seen::Nothing), "cut at {cut}");
            append(&log, "d", 4).unwrap();
            assert_eq!(watch.look(&log), Ok(names(&["d"])), "cut at {cut}");
        }
    }

    #[test]
    fn a_long_log_begins_anew_and_its_numbers_go_on() {
        let (_top, log, mut watch) = fixture();
        let line = |number| Entry { number, incarnation: 1, name: "a" }.encode();
        let long: Vec<u8> = (1..).map(line).take(GENERATION_LOG_SIZE_MAX as usize / line(1).len() + 2).flatten().collect();
        let last = long.iter().filter(|byte| **byte == b'\n').count() as u64;
        std::fs::write(&log, &long).unwrap();
        assert_eq!(watch.look(&log), Ok(Seen::Everything));
        append(&log, "b", 2).unwrap();
        let text = std::fs::read_to_string(&log).unwrap();
        assert_eq!(text.as_bytes(), Entry { number: last + 1, incarnation: 2, name: "b" }.encode());
        assert_eq!(watch.look(&log), Ok(Seen::Everything));
        append(&log, "c", 3).unwrap();
        assert_eq!(watch.look(&log), Ok(names(&["c"])));
    }
}
