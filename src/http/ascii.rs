//! How do other characters than ASCII travel in a field? RFC 9110 section 5.5 knows no encoding for them, and clients that read fields
//! as text (arrow's `object_store`, whatever is built on Rust's `http`) take none but ASCII.

use std::borrow::Cow;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::parse::is_token;

/// Characters of an encoded word at most, and what of them is no text (RFC 2047 section 2).
const WORD_SIZE_MAX: usize = 75;
const WORD_START: &str = "=?UTF-8?B?";
const WORD_END: &str = "?=";
/// Bytes of text in a word, in groups of three that are four characters of Base64.
const WORD_TEXT_MAX: usize = (WORD_SIZE_MAX - WORD_START.len() - WORD_END.len()) / 4 * 3;

/// What is UTF-8 as encoded words (RFC 2047), which is how S3 gives metadata back
/// (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/UsingMetadata.html#UserMetadata>); ASCII, and what is no UTF-8, as it is.
pub fn in_ascii(value: &[u8]) -> Cow<'_, [u8]> {
    match foreign_text(value) {
        Some(text) => Cow::Owned(encoded_words(text).into_bytes()),
        None => Cow::Borrowed(value),
    }
}

/// The same for `type; name=value`: only the values are encoded, as RFC 8187 has it. An encoded word for the whole would leave a
/// browser neither `attachment` nor the name of the file.
pub fn parameters_in_ascii(value: &[u8]) -> Cow<'_, [u8]> {
    match foreign_text(value) {
        Some(text) => Cow::Owned(encoded_parameters(text).unwrap_or_else(|| encoded_words(text)).into_bytes()),
        None => Cow::Borrowed(value),
    }
}

fn foreign_text(value: &[u8]) -> Option<&str> {
    if value.is_ascii() { None } else { std::str::from_utf8(value).ok() }
}

/// No character is cut in two (RFC 2047 section 5, rule 3); the space between two words is none of the text (section 6.2).
fn encoded_words(text: &str) -> String {
    let mut words = String::with_capacity(2 * text.len() + WORD_SIZE_MAX);
    let mut rest = text;
    while !rest.is_empty() {
        let ends = rest.char_indices().map(|(at, character)| at + character.len_utf8());
        let size = ends.take_while(|end| *end <= WORD_TEXT_MAX).last().unwrap_or(rest.len());
        let (word, after) = rest.split_at(size);
        if !words.is_empty() {
            words.push(' ');
        }
        words.push_str(WORD_START);
        BASE64_STANDARD.encode_string(word, &mut words);
        words.push_str(WORD_END);
        rest = after;
    }
    words
}

/// `None` where the text is not of that form.
fn encoded_parameters(text: &str) -> Option<String> {
    let (kind, mut rest) = text.split_at(text.find(';').unwrap_or(text.len()));
    let mut encoded = Some(kind.trim()).filter(|kind| kind.is_ascii())?.to_owned();
    let mut parameters = Vec::new();
    while let Some(after) = rest.strip_prefix(';') {
        let (parameter, behind) = read_parameter(after)?;
        parameters.extend(parameter);
        rest = behind;
    }
    let has_own =
        |name: &str| parameters.iter().any(|other| other.name.strip_suffix('*').is_some_and(|it| it.eq_ignore_ascii_case(name)));
    for Parameter { name, raw, value } in &parameters {
        // One that its sender encoded himself is his choice.
        if raw.is_ascii() {
            encoded.extend(["; ", name, "=", raw]);
        } else if !has_own(name) {
            encoded.extend(["; ", name, "*=UTF-8''"]);
            encode_value(&mut encoded, value);
        }
    }
    Some(encoded)
}

struct Parameter<'a> {
    name: &'a str,
    /// As it stands there.
    raw: &'a str,
    /// Without quotes.
    value: String,
}

/// Reads `name=value` or `name="value"`, of which there may be nothing, and answers what follows.
fn read_parameter(text: &str) -> Option<(Option<Parameter<'_>>, &str)> {
    let text = text.trim_start();
    if text.is_empty() || text.starts_with(';') {
        return Some((None, text));
    }
    let (name, after) = text.split_once('=')?;
    let (name, after) = (name.trim_end(), after.trim_start());
    if name.is_empty() || !name.bytes().all(is_token) {
        return None;
    }
    let (value, size) = match after.strip_prefix('"') {
        Some(quoted) => unquote(quoted)?,
        None => {
            let size = after.find(';').unwrap_or(after.len());
            (after[..size].trim_end().to_owned(), size)
        }
    };
    let (raw, behind) = after.split_at(size);
    let behind = behind.trim_start();
    let is_end = behind.is_empty() || behind.starts_with(';');
    is_end.then_some((Some(Parameter { name, raw: raw.trim_end(), value }), behind))
}

/// What stands before the closing quote (RFC 9110 section 5.6.4), and the size of it with both quotes.
fn unquote(quoted: &str) -> Option<(String, usize)> {
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, at + 2)),
            '\\' => value.push(characters.next()?.1),
            _ => value.push(character),
        }
    }
    None
}

/// All but `attr-char` of RFC 8187 section 3.2.1 is percent-encoded.
fn encode_value(out: &mut String, value: &str) {
    for byte in value.bytes() {
        match byte {
            b'*' | b'\'' | b'%' => out.push_str(&format!("%{byte:02X}")),
            _ if is_token(byte) => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A reader of RFC 2047, as far as our words go.
    fn read_words(text: &str) -> String {
        let words = text.split(' ').map(|word| {
            assert!(word.len() <= WORD_SIZE_MAX, "{word}");
            let inner = word.strip_prefix(WORD_START).and_then(|rest| rest.strip_suffix(WORD_END)).expect("an encoded word");
            String::from_utf8(BASE64_STANDARD.decode(inner).expect("Base64")).expect("whole characters")
        });
        words.collect()
    }

    fn text(value: Cow<'_, [u8]>) -> String {
        String::from_utf8(value.into_owned()).expect("UTF-8")
    }

    #[test]
    fn ascii_and_what_is_no_text_stay() {
        for value in ["", "plain", "=?UTF-8?B?w7w=?=", "=?ISO-8859-1?Q?=FC?=", "a \"b\" \\ c"] {
            assert_eq!(in_ascii(value.as_bytes()), value.as_bytes());
            assert_eq!(parameters_in_ascii(value.as_bytes()), value.as_bytes());
        }
        for value in [&b"\xfc"[..], b"gr\xfc\xdfe", b"\xc3", b"\xed\xa0\x80", b"\xff\xfe"] {
            assert_eq!((in_ascii(value), parameters_in_ascii(value)), (value.into(), value.into()));
        }
    }

    #[test]
    fn one_word_or_several() {
        assert_eq!(text(in_ascii("\u{fc}".as_bytes())), "=?UTF-8?B?w7w=?=");
        assert_eq!(text(in_ascii("\u{c4}M\u{c4}Z\u{d5}\u{d1} S3".as_bytes())), "=?UTF-8?B?w4RNw4Raw5XDkSBTMw==?=");
        // 45 bytes are one word of 72 characters; the 23rd umlaut would be cut in two.
        let long = text(in_ascii("\u{fc}".repeat(45).as_bytes()));
        assert_eq!(long.split(' ').map(str::len).collect::<Vec<_>>(), [72, 72, 16]);
    }

    #[test]
    fn parameters() {
        for (sent, expected) in [
            ("attachment; filename=\"\u{fc}.txt\"", "attachment; filename*=UTF-8''%C3%BC.txt"),
            ("inline;filename=\u{65e5}\u{672c}.txt", "inline; filename*=UTF-8''%E6%97%A5%E6%9C%AC.txt"),
            (
                "attachment; filename=\"a \\\"\u{fc}\\\" b;c.txt\" ; size=5",
                "attachment; filename*=UTF-8''a%20%22%C3%BC%22%20b%3Bc.txt; size=5",
            ),
            ("attachment; filename=\"\u{fc}.txt\"; filename*=UTF-8''%C3%BC.txt", "attachment; filename*=UTF-8''%C3%BC.txt"),
            (
                "attachment; filename=\"a.txt\"; title=\"100% \u{fc}*'\"",
                "attachment; filename=\"a.txt\"; title*=UTF-8''100%25%20%C3%BC%2A%27",
            ),
            ("text/plain; ; name=\u{fc};", "text/plain; name*=UTF-8''%C3%BC"),
        ] {
            assert_eq!(text(parameters_in_ascii(sent.as_bytes())), expected);
        }
        for sent in [
            "\u{fc}",
            "\u{fc}; a=b",
            "attachment; \u{fc}",
            "attachment; filename=\"\u{fc}",
            "attachment; \u{fc}=a",
            "a; b=\"c\"\u{fc}",
        ] {
            assert_eq!(read_words(&text(parameters_in_ascii(sent.as_bytes()))), sent);
        }
    }

    proptest! {
        #[test]
        fn words_are_read_back(sent in "\\PC{1,300}") {
            let encoded = text(in_ascii(sent.as_bytes()));
            prop_assert!(encoded.is_ascii());
            prop_assert_eq!(if sent.is_ascii() { encoded } else { read_words(&encoded) }, sent);
        }

        #[test]
        fn no_text_panics_and_all_of_it_is_ascii(sent in "[ab;=*\"\\\\ \u{fc}\u{65e5}]{0,30}") {
            prop_assert!(parameters_in_ascii(sent.as_bytes()).is_ascii());
        }
    }
}
