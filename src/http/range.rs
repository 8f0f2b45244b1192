//! The Range field, RFC 9110 section 14, as far as S3 takes it: one range of bytes.

/// The part of an object that is to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Range {
    /// All of it: 200. No Range field, or one that is ignored.
    Whole,
    /// From `start` to `end_inclusive`, both inside the object: 206.
    Bytes { start: u64, end_inclusive: u64 },
    /// Nothing of the object: 416.
    Unsatisfiable,
}

/// What `range` selects from `size` bytes.
///
/// A malformed range, another unit, or several ranges are ignored, as RFC 9110 section 14.2 allows and S3 does
/// (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html>: one range a request). The tail of an empty object is
/// all of it, as of any that is shorter than the suffix (section 14.1.2), but a 206 could not name its bytes.
pub fn select(range: Option<&str>, size: u64) -> Range {
    let Some((first, last)) = range.and_then(parse) else {
        return Range::Whole;
    };
    let (start, end) = match (first, last) {
        // RFC 9110 section 14.1.2: a suffix longer than the object is all of it; a suffix of nothing is unsatisfiable.
        (None, Some(0)) => return Range::Unsatisfiable,
        (None, Some(_)) if size == 0 => return Range::Whole,
        (None, Some(suffix)) => (size.saturating_sub(suffix), u64::MAX),
        (Some(start), Some(end)) if end < start => return Range::Whole,
        (Some(start), end) => (start, end.unwrap_or(u64::MAX)),
        (None, None) => return Range::Whole,
    };
    if start >= size {
        return Range::Unsatisfiable;
    }
    Range::Bytes { start, end_inclusive: end.min(size - 1) }
}

/// `bytes=first-last`, either side possibly missing. The unit's name ignores case (RFC 9110 section 14.1).
fn parse(range: &str) -> Option<(Option<u64>, Option<u64>)> {
    let (unit, set) = range.split_once('=')?;
    let (first, last) = set.split_once('-')?;
    if !unit.eq_ignore_ascii_case("bytes") {
        return None;
    }
    Some((position(first)?, position(last)?))
}

/// `Some(None)` for nothing, `None` for anything but digits. A number beyond 64 bits is beyond every object as well.
fn position(digits: &str) -> Option<Option<u64>> {
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some((!digits.is_empty()).then(|| digits.parse().unwrap_or(u64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(start: u64, end_inclusive: u64) -> Range {
        Range::Bytes { start, end_inclusive }
    }

    #[test]
    fn rfc_9110_section_14_1_2() {
        let size = 10_000;
        for (range, expected) in [
            ("bytes=0-499", bytes(0, 499)),
            ("bytes=500-999", bytes(500, 999)),
            ("bytes=-500", bytes(9500, 9999)),
            ("bytes=9500-", bytes(9500, 9999)),
            ("bytes=0-0", bytes(0, 0)),
            ("bytes=-1", bytes(9999, 9999)),
            ("Bytes=0-1", bytes(0, 1)),
            ("bytes=-99999", bytes(0, 9999)),
            ("bytes=0-99999999999999999999999999", bytes(0, 9999)),
            ("bytes=9999-10000", bytes(9999, 9999)),
            ("bytes=10000-", Range::Unsatisfiable),
            ("bytes=10000-10001", Range::Unsatisfiable),
            ("bytes=99999999999999999999999999-", Range::Unsatisfiable),
            ("bytes=18446744073709551615-18446744073709551615", Range::Unsatisfiable),
            ("bytes=-0", Range::Unsatisfiable),
            // Section 14.1.1: last before first is invalid; section 14.2: what is invalid may be ignored.
            ("bytes=5-4", Range::Whole),
            ("bytes=-", Range::Whole),
            ("bytes=", Range::Whole),
            ("bytes", Range::Whole),
            ("", Range::Whole),
            ("bytes=0-1,3-4", Range::Whole),
            ("bytes=0-1,", Range::Whole),
            ("bytes= 0-1", Range::Whole),
            ("bytes=+0-1", Range::Whole),
            ("bytes=0--1", Range::Whole),
            ("bytes=0x0-0x1", Range::Whole),
            ("lines=0-1", Range::Whole),
            ("0-1", Range::Whole),
        ] {
            assert_eq!(select(Some(range), size), expected, "{range}");
        }
        assert_eq!(select(None, size), Range::Whole);
    }

    #[test]
    fn an_empty_object_has_no_ranges_but_a_tail() {
        for range in ["bytes=0-", "bytes=0-0", "bytes=-0", "bytes=40-50"] {
            assert_eq!(select(Some(range), 0), Range::Unsatisfiable, "{range}");
        }
        for range in ["bytes=-1", "bytes=-99999", "bytes=-99999999999999999999999999", "bytes=1-0", "bytes=-1,-2"] {
            assert_eq!(select(Some(range), 0), Range::Whole, "{range}");
        }
        assert_eq!(select(None, 0), Range::Whole);
    }

    #[test]
    fn every_small_range_is_what_counting_says() {
        for size in 0..6_u64 {
            for first in 0..8_u64 {
                for last in first..8 {
                    let chosen: Vec<u64> = (0..size).filter(|at| (first..=last).contains(at)).collect();
                    let expected = match (chosen.first(), chosen.last()) {
                        (Some(&start), Some(&end)) => bytes(start, end),
                        _ => Range::Unsatisfiable,
                    };
                    assert_eq!(select(Some(&format!("bytes={first}-{last}")), size), expected, "{first}-{last} of {size}");
                }
            }
        }
    }
}
