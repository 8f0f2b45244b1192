//! Where does a key live? Key ↔ path beneath the bucket's directory: published, reversible, and the identity for every key
//! that is an ordinary path.
//!
//! A key is split at `/`. Each component becomes a file name:
//!
//! | component | name |
//! |---|---|
//! | ordinary: 1 to 255 bytes, not `.` or `..`, not beginning with `.sluice` | itself |
//! | empty, as between the slashes of `a//b` | `.sluice%e` |
//! | `.` | `.sluice%d` |
//! | `..` | `.sluice%dd` |
//! | begins with `.sluice`, up to 246 bytes | `.sluice%r` and the component |
//! | longer | directories `.sluice%+` and 200 bytes of it each, then `.sluice%=` and the last 1 to 200 |
//!
//! The last name is a file, with two exceptions:
//!
//! | key | place |
//! |---|---|
//! | `a`, where `a` is also a directory because `a/b` exists | `a/.sluice%o` |
//! | `dir/` (ends with a slash) | a record on the directory `dir`; its body, if it has one, is `dir/.sluice%b` |
//!
//! `.sluice%h` is a directory of ours in a bucket (`home`), and no key's.
//!
//! So `.sluice%e` is never a file: a key that ends with an empty component is a directory object. Only canonical names
//! decode: one that `locate` would not write is no object, and neither is a name that is not UTF-8 or a path whose key would
//! be longer than 1,024 bytes. Pieces of a long component are cut without regard to characters; the whole must be UTF-8.

use crate::base::bucket_name;
use crate::limits::{KEY_SIZE_MAX, NAME_SIZE_MAX};

/// What every name of ours begins with; also the directory of ours itself.
pub const RESERVED: &[u8] = b".sluice";
/// Inside a directory: the object with the directory's own name.
pub const OBJECT_OF_DIRECTORY: &[u8] = b".sluice%o";
/// Inside a directory: the body of the object whose key is the directory's name and a slash.
pub const BODY_OF_DIRECTORY: &[u8] = b".sluice%b";

const EMPTY: &[u8] = b".sluice%e";
const DOT: &[u8] = b".sluice%d";
const DOT_DOT: &[u8] = b".sluice%dd";
const ESCAPED: &[u8] = b".sluice%r";
const PIECE: &[u8] = b".sluice%+";
const LAST_PIECE: &[u8] = b".sluice%=";
/// Bytes of a component in one directory of its long form.
pub const PIECE_SIZE: usize = 200;
const ESCAPED_SIZE_MAX: usize = NAME_SIZE_MAX - ESCAPED.len();

const _: () = assert!(PIECE_SIZE + PIECE.len() <= NAME_SIZE_MAX);

/// Why bytes are not a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyError {
    Empty,
    /// More than 1,024 bytes.
    TooLong,
    NotUtf8,
    /// S3 takes NUL in a key; no file name can, and an escape for it is not worth the trap it sets for C programs.
    Nul,
}

/// Where the object of a key lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    /// Beneath the bucket's directory, joined with `/`; may be longer than PATH_MAX.
    pub path: Vec<u8>,
    /// The key ends with `/`: `path` is the directory that carries the record.
    pub is_directory_object: bool,
}

impl Location {
    /// The path of the directory that has the last name; empty for the bucket's own.
    pub fn parent(&self) -> &[u8] {
        self.path.iter().rposition(|&byte| byte == b'/').map_or(&[], |slash| &self.path[..slash])
    }

    /// The last name.
    pub fn name(&self) -> &[u8] {
        self.path.rsplit(|&byte| byte == b'/').next().unwrap_or_default()
    }

    /// Where the object lives when `path` is also a directory.
    pub fn object_inside(&self) -> Vec<u8> {
        [&self.path, &b"/"[..], OBJECT_OF_DIRECTORY].concat()
    }

    /// Where the body of a directory object lives.
    pub fn body_inside(&self) -> Vec<u8> {
        [&self.path, &b"/"[..], BODY_OF_DIRECTORY].concat()
    }
}

/// The place of `key`.
pub fn locate(key: &[u8]) -> Result<Location, KeyError> {
    check(key)?;
    let (body, is_directory_object) = match key.strip_suffix(b"/") {
        Some(body) => (body, true),
        None => (key, false),
    };
    Ok(Location { path: path_of(body), is_directory_object })
}

/// Whether `key` can be one.
pub fn check(key: &[u8]) -> Result<(), KeyError> {
    if key.is_empty() {
        return Err(KeyError::Empty);
    }
    if key.len() > KEY_SIZE_MAX {
        return Err(KeyError::TooLong);
    }
    if key.contains(&0) {
        return Err(KeyError::Nul);
    }
    std::str::from_utf8(key).map(drop).map_err(|_| KeyError::NotUtf8)
}

/// The key whose place `path` is; `None` where `locate` puts no key. `is_directory` says that `path` is a directory with a
/// record.
pub fn key_of(path: &[u8], is_directory: bool) -> Option<Vec<u8>> {
    let mut key = Vec::with_capacity(path.len() + 1);
    let mut names = path.split(|&byte| byte == b'/').peekable();
    let mut depth = 0;
    let mut long = Vec::new();
    while let Some(name) = names.next() {
        let is_last = names.peek().is_none();
        match decode_name(name) {
            Entry::ObjectOfDirectory | Entry::BodyOfDirectory if !is_last || depth == 0 || is_directory || !long.is_empty() => {
                return None;
            }
            Entry::ObjectOfDirectory => return finish(key),
            Entry::BodyOfDirectory => {
                key.push(b'/');
                return finish_directory(key);
            }
            Entry::PiecePrefix(_) if is_last => return None,
            Entry::PiecePrefix(piece) => {
                long.extend_from_slice(piece);
                continue;
            }
            Entry::Component(_) if !long.is_empty() => return None,
            Entry::PieceLast(piece) => {
                long.extend_from_slice(piece);
                if !is_long(&long) {
                    return None;
                }
                push_component(&mut key, depth, &long);
                long.clear();
            }
            Entry::Component(component) => push_component(&mut key, depth, component),
            Entry::NotOurs => return None,
        }
        depth += 1;
    }
    if is_directory {
        key.push(b'/');
        return finish_directory(key);
    }
    finish(key)
}

/// What one name in a directory stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry<'a> {
    /// A whole component of a key.
    Component(&'a [u8]),
    /// A directory: 200 bytes of a long component, more follow inside.
    PiecePrefix(&'a [u8]),
    /// The end of a long component; canonical only when `is_long` holds for the whole.
    PieceLast(&'a [u8]),
    /// The object with the surrounding directory's name.
    ObjectOfDirectory,
    /// The body of the surrounding directory's object.
    BodyOfDirectory,
    /// No object's: `.sluice` itself, not canonical, or not UTF-8.
    NotOurs,
}

/// What `name` stands for in a bucket's tree.
pub fn decode_name(name: &[u8]) -> Entry<'_> {
    if !name.starts_with(RESERVED) {
        let is_ordinary = !needs_escape(name) && !name.contains(&0) && std::str::from_utf8(name).is_ok();
        return if is_ordinary { Entry::Component(name) } else { Entry::NotOurs };
    }
    match name {
        EMPTY => return Entry::Component(b""),
        DOT => return Entry::Component(b"."),
        DOT_DOT => return Entry::Component(b".."),
        OBJECT_OF_DIRECTORY => return Entry::ObjectOfDirectory,
        BODY_OF_DIRECTORY => return Entry::BodyOfDirectory,
        _ => {}
    }
    if let Some(component) = name.strip_prefix(ESCAPED) {
        let is_canonical = component.starts_with(RESERVED)
            && component.len() <= ESCAPED_SIZE_MAX
            && !component.contains(&0)
            && std::str::from_utf8(component).is_ok();
        return if is_canonical { Entry::Component(component) } else { Entry::NotOurs };
    }
    match (name.strip_prefix(PIECE), name.strip_prefix(LAST_PIECE)) {
        (Some(piece), _) if piece.len() == PIECE_SIZE => Entry::PiecePrefix(piece),
        (_, Some(piece)) if (1..=PIECE_SIZE).contains(&piece.len()) => Entry::PieceLast(piece),
        _ => Entry::NotOurs,
    }
}

/// The path of components joined with `/`, as a key or its part before the last slash: not checked as a key.
pub fn path_of(components: &[u8]) -> Vec<u8> {
    let mut path = Vec::with_capacity(components.len() + 16);
    write_path(&mut path, components);
    path
}

/// Appends what `path_of` gives.
pub fn write_path(path: &mut Vec<u8>, components: &[u8]) {
    for (index, component) in components.split(|&byte| byte == b'/').enumerate() {
        if index > 0 {
            path.push(b'/');
        }
        push_names(path, component);
    }
}

/// Appends the name of one component, or the several of its long form joined with `/`.
pub fn push_names(path: &mut Vec<u8>, component: &[u8]) {
    if !needs_escape(component) {
        path.extend_from_slice(component);
        return;
    }
    match component {
        b"" => path.extend_from_slice(EMPTY),
        b"." => path.extend_from_slice(DOT),
        b".." => path.extend_from_slice(DOT_DOT),
        _ if !is_long(component) => {
            path.extend_from_slice(ESCAPED);
            path.extend_from_slice(component);
        }
        _ => {
            let mut rest = component;
            while rest.len() > PIECE_SIZE {
                let (piece, tail) = rest.split_at(PIECE_SIZE);
                push_piece(path, piece);
                path.push(b'/');
                rest = tail;
            }
            push_last_piece(path, rest);
        }
    }
}

/// Appends the name of the directory of a long component's piece.
pub fn push_piece(path: &mut Vec<u8>, piece: &[u8]) {
    path.extend_from_slice(PIECE);
    path.extend_from_slice(piece);
}

/// Appends the name of a long component's last piece.
pub fn push_last_piece(path: &mut Vec<u8>, piece: &[u8]) {
    path.extend_from_slice(LAST_PIECE);
    path.extend_from_slice(piece);
}

/// Whether a component takes the long form.
pub fn is_long(component: &[u8]) -> bool {
    component.len() > NAME_SIZE_MAX || (component.starts_with(RESERVED) && component.len() > ESCAPED_SIZE_MAX)
}

/// Whether a directory of this name is a bucket: one rule with the verbs, so that what is listed can be opened.
pub fn is_bucket_name(name: &[u8]) -> bool {
    std::str::from_utf8(name).is_ok_and(bucket_name::is_legal)
}

fn needs_escape(component: &[u8]) -> bool {
    matches!(component, b"" | b"." | b"..") || component.starts_with(RESERVED) || component.len() > NAME_SIZE_MAX
}

fn push_component(key: &mut Vec<u8>, depth: usize, component: &[u8]) {
    if depth > 0 {
        key.push(b'/');
    }
    key.extend_from_slice(component);
}

fn finish(key: Vec<u8>) -> Option<Vec<u8>> {
    (check(&key).is_ok() && !key.ends_with(b"/")).then_some(key)
}

fn finish_directory(key: Vec<u8>) -> Option<Vec<u8>> {
    check(&key).is_ok().then_some(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn path(key: &str) -> String {
        String::from_utf8(locate(key.as_bytes()).unwrap().path).unwrap()
    }

    #[test]
    fn the_published_table() {
        assert_eq!(path("2026/cat.jpg"), "2026/cat.jpg");
        assert_eq!(path("a//b"), "a/.sluice%e/b");
        assert_eq!(path("./../a"), ".sluice%d/.sluice%dd/a");
        assert_eq!(path("/"), ".sluice%e");
        assert_eq!(path("dir/"), "dir");
        assert!(locate(b"dir/").unwrap().is_directory_object);
        assert_eq!(path(".sluice"), ".sluice%r.sluice");
        assert_eq!(path(".sluice%o"), ".sluice%r.sluice%o");
        assert_eq!(path(&"x".repeat(255)), "x".repeat(255));
        let (piece, rest) = ("y".repeat(200), "y".repeat(56));
        assert_eq!(path(&"y".repeat(256)), format!(".sluice%+{piece}/.sluice%={rest}"));
        assert_eq!(path(&"y".repeat(400)), format!(".sluice%+{piece}/.sluice%={piece}"));
        let place = locate(b"a/b").unwrap();
        assert_eq!((place.parent(), place.name()), (&b"a"[..], &b"b"[..]));
        assert_eq!(place.object_inside(), b"a/b/.sluice%o");
        assert_eq!(locate(b"a").unwrap().parent(), b"");
        assert_eq!(key_of(b"a/b/.sluice%o", false).unwrap(), b"a/b");
        assert_eq!(key_of(b"dir/.sluice%b", false).unwrap(), b"dir/");
    }

    #[test]
    fn what_is_no_key_and_what_is_no_object() {
        assert_eq!(locate(b""), Err(KeyError::Empty));
        assert_eq!(locate(b"a\0"), Err(KeyError::Nul));
        assert_eq!(locate(b"a\xff"), Err(KeyError::NotUtf8));
        assert_eq!(locate(&[b'a'; 1025]), Err(KeyError::TooLong));
        assert!(locate(&[b'a'; 1024]).is_ok());
        let short_long_form = [&b".sluice%+"[..], &[b'a'; 200], b"/.sluice%=b"].concat();
        let names: [&[u8]; 16] = [
            b".sluice",
            b".sluicex",
            b".sluice%",
            b".sluice%rfoo",
            b".sluice%x",
            b".sluice%=abc",
            b".sluice%+abc",
            b"a/.sluice%e",
            b".sluice%o",
            b".sluice%b",
            b"\xff",
            b"a/\x80/b",
            &short_long_form,
            b"a//b",
            b"a/../b",
            b"",
        ];
        for name in names {
            assert_eq!(key_of(name, false), None, "{}", name.escape_ascii());
        }
        assert_eq!(key_of(&[b"d/".repeat(600), b"f".to_vec()].concat(), false), None, "over-long");
    }

    #[test]
    fn bucket_names() {
        for good in ["abc", "a.b-c.1", "0ab", "1.2.3", &"a".repeat(63)] {
            assert!(is_bucket_name(good.as_bytes()), "{good}");
        }
        let bad = [
            "ab",
            "Abc",
            "a_b",
            "-ab",
            "ab-",
            ".ab",
            "ab.",
            "a..b",
            "a-.b",
            "a.-b",
            "192.168.5.4",
            "xn--abc",
            "sthree-a",
            "a-s3alias",
            "a--ol-s3",
            "a.mrap",
            "a--x-s3",
            "a--table-s3",
            ".sluice",
            "",
        ];
        for name in bad.into_iter().map(str::to_owned).chain(["a".repeat(64)]) {
            assert!(!is_bucket_name(name.as_bytes()), "{name}");
        }
    }

    /// Components where the escape has something to do.
    pub fn component() -> impl Strategy<Value = String> {
        prop_oneof![
            4 => "[a-c.%-]{1,3}",
            2 => Just(String::new()),
            1 => Just(".".to_owned()),
            1 => Just("..".to_owned()),
            2 => "\\.sluice(%[a-z+=]{0,2})?[a-z]{0,3}",
            1 => (195usize..300).prop_map(|length| "l".repeat(length)),
            1 => (90usize..140).prop_map(|length| "ü".repeat(length)),
            1 => (225usize..260).prop_map(|length| format!(".sluice{}", "r".repeat(length))),
            1 => (0usize..3).prop_map(|count| "p".repeat(200 * count)),
            1 => "\\PC{0,6}",
        ]
    }

    fn any_key() -> impl Strategy<Value = String> {
        proptest::collection::vec(component(), 1..6)
            .prop_map(|components| components.join("/"))
            .prop_filter("a key", |key| check(key.as_bytes()).is_ok())
    }

    proptest! {
        #[test]
        fn key_to_path_to_key_is_the_identity(key in any_key()) {
            let place = locate(key.as_bytes()).unwrap();
            prop_assert_eq!(key_of(&place.path, place.is_directory_object), Some(key.clone().into_bytes()));
            for name in place.path.split(|&byte| byte == b'/') {
                prop_assert!(!name.is_empty() && name.len() <= NAME_SIZE_MAX && name != b"." && name != b"..");
                prop_assert!(name != RESERVED && name != OBJECT_OF_DIRECTORY && name != BODY_OF_DIRECTORY);
            }
            let inside = if place.is_directory_object { place.body_inside() } else { place.object_inside() };
            prop_assert_eq!(key_of(&inside, false), Some(key.into_bytes()));
        }

        #[test]
        fn only_what_locate_writes_decodes(names in proptest::collection::vec(
            prop_oneof![component().prop_map(String::into_bytes),
                        "\\.sluice%[bdeor+=]{1,2}[a-z.]{0,8}".prop_map(String::into_bytes),
                        (198usize..202).prop_map(|length| [&b".sluice%+"[..], &vec![b'q'; length]].concat()),
                        (40usize..60).prop_map(|length| [&b".sluice%="[..], &vec![b'q'; length]].concat()),
                        proptest::collection::vec(any::<u8>(), 1..4)], 1..5),
            is_directory in any::<bool>())
        {
            let path = names.join(&b'/');
            if let Some(key) = key_of(&path, is_directory) {
                let place = locate(&key).unwrap();
                let possible = if place.is_directory_object { place.body_inside() } else { place.object_inside() };
                prop_assert!(place.path == path || possible == path);
            }
        }

        #[test]
        fn distinct_keys_have_distinct_places(one in any_key(), other in any_key()) {
            let (here, there) = (locate(one.as_bytes()).unwrap(), locate(other.as_bytes()).unwrap());
            prop_assert_eq!(one == other, here == there);
        }
    }
}
