//! Preconditions of reads, RFC 9110 section 13, and of the source of a copy, as S3 evaluates them.

use crate::base::time::Timestamp;

/// The values of the conditional fields, or of their `x-amz-copy-source-if-` twins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Conditions<'a> {
    pub if_match: Option<&'a str>,
    pub if_none_match: Option<&'a str>,
    pub if_modified_since: Option<&'a str>,
    pub if_unmodified_since: Option<&'a str>,
}

impl Conditions<'_> {
    pub fn are_none(&self) -> bool {
        *self == Conditions::default()
    }
}

/// What the conditions make of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Proceed,
    /// 304.
    NotModified,
    /// 412, by the field of this name.
    PreconditionFailed(&'static str),
}

/// GET and HEAD of an object that exists, in the order of RFC 9110 section 13.2.2. It is S3's as well: a true If-Match wins
/// over a false If-Unmodified-Since, a false If-None-Match over a true If-Modified-Since
/// (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html>). What is no date is ignored, and so is an
/// If-Modified-Since that lies ahead of `now` (RFC 2616 section 14.25: it is invalid; S3 holds on to that).
pub fn evaluate_read(conditions: &Conditions<'_>, etag: &str, last_modified_s: i64, now: Timestamp) -> Outcome {
    let date = |text: Option<&str>| Some(Timestamp::parse_http_date(text?.trim(), now)?.seconds);
    match (conditions.if_match, date(conditions.if_unmodified_since)) {
        (Some(list), _) if !etag_matches(list, etag) => return Outcome::PreconditionFailed("If-Match"),
        (None, Some(date_s)) if last_modified_s > date_s => return Outcome::PreconditionFailed("If-Unmodified-Since"),
        _ => {}
    }
    let modified_since = date(conditions.if_modified_since).filter(|date_s| *date_s <= now.seconds);
    let modified = match (conditions.if_none_match, modified_since) {
        (Some(list), _) => !etag_matches_weakly(list, etag),
        (None, Some(date_s)) => last_modified_s > date_s,
        (None, None) => true,
    };
    if modified { Outcome::Proceed } else { Outcome::NotModified }
}

/// CopyObject and UploadPartCopy: the same rules, and what would be 304 is 412
/// (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_CopyObject.html>). S3 ignores the same dates there.
pub fn evaluate_copy_source(conditions: &Conditions<'_>, etag: &str, last_modified_s: i64, now: Timestamp) -> Outcome {
    match evaluate_read(conditions, etag, last_modified_s, now) {
        Outcome::NotModified if conditions.if_none_match.is_some() => Outcome::PreconditionFailed("If-None-Match"),
        Outcome::NotModified => Outcome::PreconditionFailed("If-Modified-Since"),
        outcome => outcome,
    }
}

/// Whether `list` (`*`, or entity tags with or without quotes) holds `etag` by the strong comparison of RFC 9110
/// section 8.8.3.2: a weak tag equals nothing. `etag` is ours, quoted or not.
pub fn etag_matches(list: &str, etag: &str) -> bool {
    is_any(list) || tags(list).any(|tag| !tag.weak && tag.opaque == unquoted(etag))
}

/// The weak comparison, for If-None-Match.
pub fn etag_matches_weakly(list: &str, etag: &str) -> bool {
    is_any(list) || tags(list).any(|tag| tag.opaque == unquoted(etag))
}

/// Whether this is `*` alone or a list without it (RFC 9110 section 13.1.1). Of both together, which two lines of a field make, each
/// half can be what its sender meant.
pub fn is_condition(list: &str) -> bool {
    is_any(list) || !tags(list).any(|tag| !tag.is_quoted && tag.opaque == "*")
}

fn is_any(list: &str) -> bool {
    list.trim() == "*"
}

/// An entity tag of a list, without its quotes.
struct Tag<'a> {
    weak: bool,
    is_quoted: bool,
    opaque: &'a str,
}

/// Reads tag after tag; a comma inside quotes belongs to the tag. S3's clients also send tags without quotes.
fn tags(list: &str) -> impl Iterator<Item = Tag<'_>> {
    let mut rest = list;
    std::iter::from_fn(move || {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        if rest.is_empty() {
            return None;
        }
        let weak = rest.starts_with("W/");
        let text = if weak { &rest[2..] } else { rest };
        let quoted = text.strip_prefix('"').and_then(|inner| inner.split_once('"'));
        let (opaque, tail) = match quoted {
            Some((opaque, tail)) => (opaque, tail),
            None => {
                let (tag, tail) = text.split_once(',').unwrap_or((text, ""));
                (tag.trim(), tail)
            }
        };
        rest = tail;
        Some(Tag { weak, is_quoted: quoted.is_some(), opaque })
    })
}

fn unquoted(etag: &str) -> &str {
    etag.strip_prefix('"').and_then(|inner| inner.strip_suffix('"')).unwrap_or(etag)
}

#[cfg(test)]
mod tests {
    use super::Outcome::{NotModified, PreconditionFailed, Proceed};
    use super::*;

    const ETAG: &str = "\"9a0364b9e99bb480dd25e1f0284c8555\"";
    /// `Sun, 06 Nov 1994 08:49:37 GMT`.
    const MODIFIED_S: i64 = 784_111_777;
    const SAME: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const BEFORE: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
    const AFTER: &str = "Sun, 06 Nov 1994 08:49:38 GMT";
    const NOW: Timestamp = Timestamp::from_seconds(MODIFIED_S + 1);
    const AHEAD: &str = "Sun, 06 Nov 1994 08:49:39 GMT";
    const OTHER: &str = "\"other\"";

    /// If-Match, If-None-Match, If-Modified-Since, If-Unmodified-Since.
    type Row<'a> = (Option<&'a str>, Option<&'a str>, Option<&'a str>, Option<&'a str>, Outcome);

    #[test]
    fn rfc_9110_section_13_2_2() {
        let rows: &[Row<'_>] = &[
            (None, None, None, None, Proceed),
            (Some(ETAG), None, None, None, Proceed),
            (Some("*"), None, None, None, Proceed),
            (Some(OTHER), None, None, None, PreconditionFailed("If-Match")),
            (None, None, None, Some(SAME), Proceed),
            (None, None, None, Some(AFTER), Proceed),
            (None, None, None, Some(BEFORE), PreconditionFailed("If-Unmodified-Since")),
            (None, None, None, Some("yesterday"), Proceed),
            // Step 1 decides, step 2 is not reached: S3's documented pair.
            (Some(ETAG), None, None, Some(BEFORE), Proceed),
            (Some(OTHER), None, None, Some(AFTER), PreconditionFailed("If-Match")),
            (None, Some(ETAG), None, None, NotModified),
            (None, Some("*"), None, None, NotModified),
            (None, Some(OTHER), None, None, Proceed),
            (None, None, Some(SAME), None, NotModified),
            (None, None, Some(AFTER), None, NotModified),
            (None, None, Some(BEFORE), None, Proceed),
            (None, None, Some("0"), None, Proceed),
            (None, None, Some(AHEAD), None, Proceed),
            (None, None, None, Some(AHEAD), Proceed),
            (None, Some(ETAG), Some(AHEAD), None, NotModified),
            // Step 3 decides, step 4 is not reached.
            (None, Some(ETAG), Some(BEFORE), None, NotModified),
            (None, Some(OTHER), Some(AFTER), None, Proceed),
            // Step 1 or 2, then step 3 or 4.
            (Some(ETAG), Some(ETAG), None, None, NotModified),
            (Some(OTHER), Some(ETAG), None, None, PreconditionFailed("If-Match")),
            (Some(ETAG), None, Some(AFTER), None, NotModified),
            (None, Some(ETAG), None, Some(BEFORE), PreconditionFailed("If-Unmodified-Since")),
        ];
        for &(if_match, if_none_match, if_modified_since, if_unmodified_since, expected) in rows {
            let conditions = Conditions { if_match, if_none_match, if_modified_since, if_unmodified_since };
            assert_eq!(evaluate_read(&conditions, ETAG, MODIFIED_S, NOW), expected, "{conditions:?}");
            let copy = match expected {
                NotModified if if_none_match.is_some() => PreconditionFailed("If-None-Match"),
                NotModified => PreconditionFailed("If-Modified-Since"),
                other => other,
            };
            assert_eq!(evaluate_copy_source(&conditions, ETAG, MODIFIED_S, NOW), copy, "{conditions:?}");
        }
    }

    #[test]
    fn lists_of_entity_tags() {
        for (list, expected) in
            [("*", true), (" * ", true), ("\"a\", b", true), ("\"*\", a", true), ("", true), ("*, a", false), ("\"a\",*", false)]
        {
            assert_eq!(is_condition(list), expected, "{list}");
        }
        for (list, strong, weak) in [
            ("\"a\"", true, true),
            ("a", true, true),
            ("W/\"a\"", false, true),
            ("\"b\", \"a\"", true, true),
            ("\"b\",\"a\"", true, true),
            ("b, a ,c", true, true),
            ("W/\"b\", a", true, true),
            (", ,\"a\"", true, true),
            (" * ", true, true),
            ("\"b,a\"", false, false),
            ("\"x\"a", true, true),
            ("\"a", false, false),
            ("\"A\"", false, false),
            ("\"*\"", false, false),
            ("", false, false),
            ("\"\"", false, false),
        ] {
            assert_eq!(etag_matches(list, "\"a\""), strong, "{list}");
            assert_eq!(etag_matches(list, "a"), strong, "{list}");
            assert_eq!(etag_matches_weakly(list, "a"), weak, "{list}");
        }
    }
}
