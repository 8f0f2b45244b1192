//! The house rules that a machine can hold: floors, the unsafe list, sizes, unfinished marks, panics on input, room headers.
//!
//! The rules work on the text of `src/`, with comments and literals blanked, so they need no compiler and cost milliseconds.
//! Each rule is a function from a file to complaints, tested on fixtures below.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

#[path = "tidy/circles.rs"]
mod circles;

/// A room and its floor; a room imports only from lower floors (`src/ARCHITECTURE.md`). `a::b` is a room of its own inside the
/// folder `a`, whose `mod.rs` is no more than the hall between such rooms: it imports nothing, and nobody imports it.
const FLOORS: &[(&str, u8)] = &[
    ("limits", 0),
    ("base", 0),
    ("config", 0),
    ("model", 0),
    ("auth", 1),
    ("body", 1),
    ("digest", 1),
    ("http", 1),
    ("mem", 1),
    ("metrics::record", 1),
    ("policy", 1),
    ("sys", 1),
    ("xml", 1),
    ("catalog", 2),
    ("documents", 2),
    ("io", 2),
    ("net", 2),
    ("s3::ask", 2),
    ("store::error", 2),
    ("store::names", 2),
    ("flow", 3),
    ("store::buckets", 3),
    ("store::disk", 3),
    ("store::listing", 3),
    ("store::objects", 3),
    ("store::uploads", 3),
    ("store::volume", 3),
    ("orders", 3),
    ("s3::plan", 4),
    ("s3::service", 4),
    ("s3::verbs", 4),
    ("bench", 5),
    ("control", 5),
    ("metrics::export", 5),
    ("top", 5),
    ("tune", 5),
    ("cli", 6),
    ("server", 6),
];

/// Imports within one floor, importer first. They point one way, so that no two rooms know each other.
const SAME_FLOOR: &[(&str, &str)] = &[
    ("base", "limits"),
    ("config", "limits"),
    ("config", "base"),
    ("model", "base"),
    ("net", "io"),
    ("flow", "store::objects"),
    ("flow", "store::disk"),
    ("store::error", "store::names"),
    ("store::listing", "store::disk"),
    ("store::objects", "store::disk"),
    ("store::uploads", "store::objects"),
    ("store::uploads", "store::listing"),
    ("store::uploads", "store::disk"),
    ("store::buckets", "store::uploads"),
    ("store::buckets", "store::objects"),
    ("store::buckets", "store::listing"),
    ("store::buckets", "store::disk"),
    ("store::volume", "store::uploads"),
    ("store::volume", "store::objects"),
    ("store::volume", "store::listing"),
    ("store::volume", "store::disk"),
    ("orders", "store::disk"),
    ("s3::verbs", "s3::plan"),
    ("s3::service", "s3::plan"),
    ("s3::service", "s3::verbs"),
    ("body", "http"),
    ("mem", "metrics::record"),
    ("cli", "server"),
];

/// Where `unsafe` may stand: a folder ends with `/`.
/// `perf/raw` is no part of the binary: it submits its reads to a bare ring, without the engine's lease.
const UNSAFE_ALLOWED: &[&str] =
    &["src/mem/", "src/sys/", "src/digest/lanes", "src/digest/sha256_lanes.rs", "src/io/lease.rs", "perf/raw/main.rs"];

/// Rooms that read a client's or a server's bytes: nothing there may panic, so no `unwrap` and no `expect` outside tests.
const PANIC_FREE: &[&str] =
    &["http", "body", "auth", "xml", "policy", "s3::ask", "s3::plan", "s3::verbs", "s3::service", "store::names", "bench"];

/// Files that decode what any POSIX user can write: the same.
const PANIC_FREE_FILES: &[&str] = &[
    "src/store/disk/naming.rs",
    "src/store/disk/staging.rs",
    "src/store/uploads/id.rs",
    "src/store/uploads/log.rs",
    "src/store/uploads/manifest.rs",
    "src/store/uploads/gaps.rs",
];

/// Rooms that only compute: what they need of the outside is an argument. No clock, no file, no socket, no thread.
const PURE: &[&str] =
    &["limits", "base", "auth", "body", "digest", "http", "policy", "xml", "s3::ask", "store::names", "model", "catalog"];

/// What a pure room does not name.
const OUTSIDE: &[&str] = &[
    "Timestamp::now",
    "Instant::now",
    "SystemTime",
    "std::fs",
    "std::net::Tcp",
    "std::net::Udp",
    "std::env",
    "std::process",
    "std::thread",
    "rustix",
    "libc::",
];

/// Lines in those rooms that may: file, a part of the line, why.
const PURE_ALLOWED: &[(&str, &str, &str)] = &[("src/base/time.rs", "SystemTime", "the clock that others are handed the time of")];

/// Lines in the panic-free rooms that may: file, a part of the line, why it cannot fail.
const PANIC_ALLOWED: &[(&str, &str, &str)] = &[
    ("src/auth/keys.rs", "H::new_from_slice(key)", "RFC 2104 section 3: a key of any length"),
    ("src/s3/service/seams.rs", "panic!(\"asked for, in ", "a seam for tests, in no release"),
];

/// Lines of a source file, tests included.
const FILE_LINES_MAX: usize = 800;
/// Lines of a function that fits on a screen; longer ones are named in the output.
const FUNCTION_LINES_AIM: usize = 70;
/// Lines of a function at most.
const FUNCTION_LINES_MAX: usize = 100;

const UNFINISHED: &[&str] = &["todo!", "unimplemented!", "FIXME", "TODO", "XXX", "dbg!"];

#[test]
fn the_house_rules_hold() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut complaints = Vec::new();
    let test_files = out_of_line_tests(root);
    for folder in ["src", "tests", "benches", "fuzz", "perf"] {
        for path in files_below(&root.join(folder), "rs") {
            let name = path.strip_prefix(root).expect("below the root").to_string_lossy().into_owned();
            let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
            let mut file = File::new(&name, &text);
            if test_files.contains(&name) {
                file.tests_from = 0;
            }
            check_file(&file, &mut complaints);
        }
    }
    circles::check(root, &test_files, &mut complaints);
    check_walks(root, &mut complaints);
    check_quantiles(root, &test_files, &mut complaints);
    check_machine_paths(root, &mut complaints);
    let mut report = String::new();
    for complaint in &complaints {
        let _ = writeln!(report, "  {complaint}");
    }
    assert!(complaints.is_empty(), "{} house rules broken:\n{report}", complaints.len());
}

/// The files that a `#[cfg(test)] mod name;` names: tests as a whole.
fn out_of_line_tests(root: &Path) -> std::collections::BTreeSet<String> {
    let mut tests = std::collections::BTreeSet::new();
    for path in files_below(&root.join("src"), "rs") {
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let stem = path.file_stem().unwrap_or_default();
        let folder = match path.parent() {
            Some(parent) if stem == "mod" || stem == "lib" => parent.to_path_buf(),
            _ => path.with_extension(""),
        };
        let lines: Vec<&str> = text.lines().collect();
        for pair in lines.windows(2).filter(|pair| pair[0].trim() == "#[cfg(test)]") {
            // `mod name;`, `pub mod name;`, `pub(in crate::room) mod name;`
            let declared =
                pair[1].trim().rsplit_once("mod ").filter(|(before, _)| before.is_empty() || before.starts_with("pub"));
            if let Some(name) = declared.and_then(|(_, rest)| rest.strip_suffix(';')) {
                let file = folder.join(format!("{name}.rs"));
                tests.insert(file.strip_prefix(root).unwrap_or(&file).to_string_lossy().into_owned());
            }
        }
    }
    tests
}

/// One source file: as written, and with comments and literals blanked (same line numbers).
struct File<'a> {
    name: &'a str,
    lines: Vec<&'a str>,
    code: String,
    /// The line index from which the file is `#[cfg(test)] mod …`, or its length.
    tests_from: usize,
}

impl<'a> File<'a> {
    fn new(name: &'a str, text: &'a str) -> Self {
        let code = blank(text);
        let lines: Vec<&str> = text.lines().collect();
        let code_lines: Vec<&str> = code.lines().collect();
        let is_tests = |i: &usize| {
            let is_module = |next: &&str| next.starts_with("mod ") && next.ends_with('{');
            code_lines[*i].starts_with("#[cfg(test)]") && code_lines.get(i + 1).is_some_and(is_module)
        };
        let whole = name.starts_with("tests/") || name.starts_with("benches/") || name.ends_with("tests.rs");
        let tests_from = if whole { 0 } else { (0..code_lines.len()).find(is_tests).unwrap_or(code_lines.len()) };
        Self { name, lines, code, tests_from }
    }

    /// `src/http/head.rs` and `src/http.rs` are in the room `http`, `src/metrics/record/cells.rs` in `metrics::record`, and
    /// `src/metrics/mod.rs` in the hall `metrics`.
    fn room(&self) -> Option<String> {
        let below = self.name.strip_prefix("src/")?;
        let mut steps = below.split('/').map(|step| step.strip_suffix(".rs").unwrap_or(step));
        let first = steps.next()?;
        match steps.next() {
            Some(second) if second != "mod" && is_hall(first) => Some(format!("{first}::{second}")),
            _ => Some(first.to_owned()),
        }
    }

    fn code_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.code.lines().enumerate()
    }
}

fn check_file(file: &File, complaints: &mut Vec<String>) {
    check_floors(file, complaints);
    check_unsafe(file, complaints);
    check_sizes(file, complaints);
    check_unfinished(file, complaints);
    check_panics(file, complaints);
    check_header(file, complaints);
    check_tests_assert(file, complaints);
    check_pure(file, complaints);
}

fn check_pure(file: &File, complaints: &mut Vec<String>) {
    if !file.room().is_some_and(|room| PURE.contains(&room.as_str())) {
        return;
    }
    for (i, line) in file.code_lines().take(file.tests_from) {
        let allowed = PURE_ALLOWED.iter().any(|(name, part, _)| *name == file.name && line.contains(part));
        if let Some(outside) = OUTSIDE.iter().find(|outside| !allowed && has_word(line, outside)) {
            complaints.push(format!("{}:{}: a pure room names `{outside}`", file.name, i + 1));
        }
    }
}

fn check_floors(file: &File, complaints: &mut Vec<String>) {
    let Some(room) = file.room() else { return };
    if matches!(room.as_str(), "lib" | "main") {
        return;
    }
    // A hall is below every floor: it may import nothing.
    let Some(floor) = floor_of(&room).or(is_hall(&room).then_some(0)) else {
        complaints.push(format!("{}: the room `{room}` has no floor in tests/tidy.rs", file.name));
        return;
    };
    let code: String = file.code.lines().take(file.tests_from).fold(String::new(), |text, line| text + line + "\n");
    let may_import = |imported: &str| {
        imported == room
            || floor_of(imported).is_some_and(|below| below < floor)
            || SAME_FLOOR.contains(&(room.as_str(), imported))
    };
    for (line, imported) in imports(&code) {
        if !may_import(&imported) {
            complaints.push(format!("{}:{}: `{room}` (floor {floor}) imports `{imported}`", file.name, line + 1));
        }
    }
    for imported in rooms_by_super(file, &code) {
        if !may_import(&imported) {
            complaints.push(format!("{}: `{room}` (floor {floor}) imports `{imported}` by `super`", file.name));
        }
    }
}

/// The rooms of the same hall that a file names by the way through it, `super::super::other`.
fn rooms_by_super(file: &File, code: &str) -> BTreeSet<String> {
    let module = circles::module_of(file.name);
    let paths = circles::paths_in(code, &module, &["super::"]);
    let rooms = paths.iter().map(|path| room_of_path(&path.join("::")));
    // Its own hall, as `mod.rs` of a room may name it, is none.
    rooms.filter(|room| floor_of(room).is_some()).collect()
}

fn floor_of(room: &str) -> Option<u8> {
    FLOORS.iter().find(|(name, _)| *name == room).map(|(_, floor)| *floor)
}

/// Whether rooms of different floors lie in the folder `name`.
fn is_hall(name: &str) -> bool {
    FLOORS.iter().any(|(room, _)| room.strip_prefix(name).is_some_and(|rest| rest.starts_with("::")))
}

/// The room at the start of a path: `metrics::record` of `metrics::record::sent`, `http` of `http::parse`.
fn room_of_path(path: &str) -> String {
    let mut steps = path.split("::").map(|step| step.trim().chars().take_while(|c| is_word(*c)).collect::<String>());
    let first = steps.next().unwrap_or_default();
    match steps.next().filter(|second| is_hall(&first) && !second.is_empty()) {
        Some(second) => format!("{first}::{second}"),
        None => first,
    }
}

/// Every room named after `crate::`, also in a group, with its line index.
fn imports(code: &str) -> BTreeSet<(usize, String)> {
    let mut found = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        // `pub(in crate::room)` says who may import, not what is.
        if code[..at].ends_with(is_word) || code[..at].ends_with('$') || code[..at].ends_with("(in ") {
            continue;
        }
        let line = code[..at].matches('\n').count();
        let rest = &code[at + "crate::".len()..];
        if let Some(group) = rest.strip_prefix('{') {
            found.extend(group_heads(group).into_iter().map(|name| (line, name)));
        } else if let Some((hall, group)) = rest.split_once("::{").filter(|(hall, _)| is_hall(hall)) {
            found.extend(group_heads(group).into_iter().map(|room| (line, format!("{hall}::{room}"))));
        } else {
            let name = room_of_path(rest);
            // A macro or a constant at the crate's root is not a room.
            if floor_of(&name).is_some() || name.chars().next().is_some_and(char::is_lowercase) {
                found.insert((line, name));
            }
        }
    }
    found
}

/// `a, b::{c, d}, e}` names the rooms `a`, `b` and `e`; of a hall, the rooms in it that follow.
fn group_heads(group: &str) -> Vec<String> {
    let (mut paths, mut depth, mut path) = (Vec::new(), 0, String::new());
    for c in group.chars() {
        match c {
            '}' if depth == 0 => break,
            ',' if depth == 0 => paths.push(std::mem::take(&mut path)),
            c => {
                depth += i32::from(c == '{') - i32::from(c == '}');
                path.push(c);
            }
        }
    }
    paths.push(path);
    let mut heads = Vec::new();
    for path in paths {
        match path.trim().split_once("::{") {
            Some((hall, inner)) if is_hall(hall) => {
                heads.extend(group_heads(inner).into_iter().map(|room| format!("{hall}::{room}")));
            }
            _ => heads.push(room_of_path(path.trim())),
        }
    }
    heads.retain(|head| !head.is_empty());
    heads
}

fn check_unsafe(file: &File, complaints: &mut Vec<String>) {
    let allowed = UNSAFE_ALLOWED.iter().any(|place| file.name.starts_with(place)) || file.name == "tests/tidy.rs";
    for (i, line) in file.code_lines() {
        if !has_word(line, "unsafe") || line.contains("unsafe_code") || line.contains("unsafe_op_in") {
            continue;
        }
        if !allowed {
            complaints.push(format!("{}:{}: `unsafe` outside the list", file.name, i + 1));
        } else if !line.contains("unsafe fn") && !line.contains("unsafe extern") && !is_explained(&file.lines, i) {
            complaints.push(format!("{}:{}: `unsafe` without a `// SAFETY:` line", file.name, i + 1));
        }
    }
}

/// A `SAFETY:` comment on the line, or above it, or above the statement that the line continues.
fn is_explained(lines: &[&str], at: usize) -> bool {
    const STATEMENT_LINES_MAX: usize = 4;
    if lines[at].contains("SAFETY:") {
        return true;
    }
    let mut code_above = 0;
    for line in lines[..at].iter().rev() {
        let text = line.trim_start();
        if text.starts_with("//") {
            if text.contains("SAFETY:") {
                return true;
            }
        } else if !text.starts_with("#[") {
            code_above += 1;
            let ends = text.ends_with(';') || text.ends_with('}') || text.is_empty();
            if ends || code_above == STATEMENT_LINES_MAX {
                return false;
            }
        }
    }
    false
}

fn check_sizes(file: &File, complaints: &mut Vec<String>) {
    if file.lines.len() > FILE_LINES_MAX {
        complaints.push(format!("{}: {} lines, at most {FILE_LINES_MAX}", file.name, file.lines.len()));
    }
    for function in functions(&file.code) {
        let length = function.last - function.first + 1;
        let place = format!("{}:{}: `{}` has {length} lines", file.name, function.first + 1, function.name);
        if length > FUNCTION_LINES_MAX {
            complaints.push(format!("{place}, at most {FUNCTION_LINES_MAX}"));
        } else if length > FUNCTION_LINES_AIM {
            eprintln!("  {place}, a screen has {FUNCTION_LINES_AIM}");
        }
    }
}

struct Function {
    name: String,
    first: usize,
    last: usize,
    body: String,
}

/// Every `fn` with a body in blanked code, inner ones too.
fn functions(code: &str) -> Vec<Function> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("fn ") {
        if code[..at].ends_with(is_word) {
            continue;
        }
        let name: String = code[at + 3..].chars().take_while(|c| is_word(*c)).collect();
        if name.is_empty() {
            continue;
        }
        let Some(open) = body_start(&code[at..]) else { continue };
        let open = at + open;
        let close = open + matching_brace(&code[open..]);
        let line_of = |position: usize| code[..position].matches('\n').count();
        found.push(Function { name, first: line_of(at), last: line_of(close), body: code[open..close].to_owned() });
    }
    found
}

/// The first `{` of a body; `None` for a declaration, whose `;` comes first. `[u8; 4]` in a signature is not its end.
fn body_start(signature: &str) -> Option<usize> {
    let mut brackets = 0;
    for (i, c) in signature.char_indices() {
        match c {
            '[' | '(' => brackets += 1,
            ']' | ')' => brackets -= 1,
            '{' if brackets == 0 => return Some(i),
            ';' if brackets == 0 => return None,
            _ => {}
        }
    }
    None
}

fn matching_brace(code: &str) -> usize {
    let mut depth = 0;
    for (i, c) in code.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 1 => return i,
            '}' => depth -= 1,
            _ => {}
        }
    }
    code.len()
}

fn check_unfinished(file: &File, complaints: &mut Vec<String>) {
    if file.name == "tests/tidy.rs" {
        return;
    }
    for (i, line) in file.lines.iter().enumerate() {
        if let Some(mark) = UNFINISHED.iter().find(|mark| has_word(line, mark)) {
            complaints.push(format!("{}:{}: `{mark}`: finish it or take it out", file.name, i + 1));
        }
    }
}

fn check_panics(file: &File, complaints: &mut Vec<String>) {
    if !PANIC_FREE_FILES.contains(&file.name) && !file.room().is_some_and(|room| PANIC_FREE.contains(&room.as_str())) {
        return;
    }
    for (i, line) in file.code_lines().take(file.tests_from) {
        let written = file.lines[i];
        let allowed = PANIC_ALLOWED.iter().any(|(name, part, _)| *name == file.name && written.contains(part));
        if !allowed && (line.contains(".unwrap()") || line.contains(".expect(") || line.contains("panic!(")) {
            complaints.push(format!("{}:{}: may panic on a client's bytes: {}", file.name, i + 1, written.trim()));
        }
    }
}

fn check_header(file: &File, complaints: &mut Vec<String>) {
    let opens_room = file.room().is_some_and(|room| file.name == format!("src/{}/mod.rs", room.replace("::", "/")));
    if opens_room && !file.lines.first().is_some_and(|line| line.starts_with("//! ") && !line.contains("(stub)")) {
        complaints.push(format!("{}: a room opens with `//!` and the question it answers", file.name));
    }
}

/// A test that cannot fail proves nothing.
fn check_tests_assert(file: &File, complaints: &mut Vec<String>) {
    let lines: Vec<&str> = file.code.lines().collect();
    for function in functions(&file.code) {
        let attributes = lines[..function.first].iter().rev().take_while(|line| line.trim_start().starts_with("#["));
        let (mut is_test, mut panics) = (false, false);
        for attribute in attributes {
            is_test |= attribute.contains("#[test]");
            panics |= attribute.contains("should_panic");
        }
        let asserts = ["assert", "check", "panic!", "expect"].iter().any(|word| function.body.contains(word));
        if is_test && !panics && !asserts {
            complaints.push(format!("{}:{}: the test `{}` asserts nothing", file.name, function.first + 1, function.name));
        }
    }
}

/// The functions that the map's walks name are where they are said to be: `` `file.rs`: `one`, `other` ``.
fn check_walks(root: &Path, complaints: &mut Vec<String>) {
    let map = std::fs::read_to_string(root.join("src/ARCHITECTURE.md")).expect("the map");
    let walks = map.split_once("## The walks").and_then(|(_, rest)| rest.split_once("\n## ")).map_or("", |(walks, _)| walks);
    let (mut code, mut file, mut count) = (String::new(), "", 0);
    for name in walks.split('`').skip(1).step_by(2) {
        if name.ends_with(".rs") {
            file = name;
            code = std::fs::read_to_string(root.join("src").join(name)).unwrap_or_default();
        } else if name.chars().all(is_word) && !name.is_empty() {
            count += 1;
            if !functions(&blank(&code)).iter().any(|function| function.name == name) {
                complaints.push(format!("src/ARCHITECTURE.md: there is no function `{name}` in src/{file}"));
            }
        }
    }
    if count < 40 {
        complaints.push(format!("src/ARCHITECTURE.md: the walks name {count} functions"));
    }
}

/// Nine of ten functions are read at a glance, nine of ten files in a sitting.
fn check_quantiles(root: &Path, test_files: &BTreeSet<String>, complaints: &mut Vec<String>) {
    let (mut files, mut found) = (Vec::new(), Vec::new());
    for path in files_below(&root.join("src"), "rs") {
        let name = path.strip_prefix(root).expect("below the root").to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
        let file = File::new(&name, &text);
        if file.tests_from > 0 && !test_files.contains(&name) {
            files.push(file.lines.len());
            let own = functions(&file.code).into_iter().filter(|function| function.first < file.tests_from);
            found.extend(own.map(|function| function.last - function.first + 1));
        }
    }
    for (what, mut sizes, most) in [("functions", found, 25), ("files", files, 400)] {
        sizes.sort_unstable();
        let size = sizes[sizes.len() * 9 / 10];
        if size >= most {
            complaints.push(format!("nine of ten {what} have up to {size} lines, less than {most} are wanted"));
        }
    }
}

/// Nothing in the repository may name a place of one machine.
fn check_machine_paths(root: &Path, complaints: &mut Vec<String>) {
    let places = [concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/fa", "rm/")];
    let mut paths = files_below(root, "");
    paths.retain(|path| path.metadata().is_ok_and(|metadata| metadata.len() < 4 << 20));
    for path in paths {
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        for (i, line) in text.lines().enumerate() {
            for place in places.iter().filter(|place| names_place(line, place)) {
                complaints.push(format!("{}:{}: a path of one machine ({place})", path.display(), i + 1));
            }
        }
    }
}

/// The place at the start of a path, not in the middle of one (`/proc/self/root/x`, `target/work/x`).
fn names_place(line: &str, place: &str) -> bool {
    line.match_indices(place)
        .any(|(at, _)| !line[..at].ends_with(|c: char| is_word(c) || matches!(c, '.' | '-' | '}' | '/' | '*')))
}

/// Files below `folder` whose name ends in `.extension` (any, when empty), without build outputs, in a stable order.
fn files_below(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let Ok(entries) = std::fs::read_dir(folder) else { return found };
    for entry in entries.flatten() {
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() && !matches!(name.as_str(), "target" | ".git" | "node_modules" | "shared" | "__pycache__") {
            found.extend(files_below(&path, extension));
        } else if kind.is_file() && name != ".git" && (extension.is_empty() || path.extension().is_some_and(|e| e == extension)) {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// `word` in `line`, not inside a longer name.
fn has_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let goes_on = word.ends_with(is_word) && line[at + word.len()..].starts_with(is_word);
        !goes_on && !line[..at].ends_with(is_word)
    })
}

/// `text` with comments, strings and character literals as blanks, newlines kept.
fn blank(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = literal_length(rest, out.chars().next_back());
        if length == 0 {
            out.push(first);
            rest = &rest[first.len_utf8()..];
        } else {
            out.extend(rest[..length].chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
            rest = &rest[length..];
        }
    }
    out
}

/// Bytes of the comment or literal that `rest` starts with, 0 for code.
fn literal_length(rest: &str, before: Option<char>) -> usize {
    if rest.starts_with("//") {
        return rest.find('\n').unwrap_or(rest.len());
    }
    if rest.starts_with("/*") {
        return rest.find("*/").map_or(rest.len(), |end| end + 2);
    }
    if !before.is_some_and(is_word) {
        let prefix = rest.strip_prefix("br").or_else(|| rest.strip_prefix("cr")).or_else(|| rest.strip_prefix('r'));
        if let Some(raw) = prefix {
            let hashes = raw.bytes().take_while(|b| *b == b'#').count();
            if raw[hashes..].starts_with('"') {
                let end = format!("\"{}", "#".repeat(hashes));
                let from = rest.len() - raw.len() + hashes + 1;
                return rest[from..].find(&end).map_or(rest.len(), |at| from + at + end.len());
            }
        }
    }
    if rest.starts_with('"') {
        return quoted_length(rest, '"');
    }
    // A lifetime has no closing quote after one character or one escape.
    let mut chars = rest.chars();
    match (chars.next(), chars.next(), chars.next()) {
        (Some('\''), Some('\\'), _) => quoted_length(rest, '\''),
        (Some('\''), Some(c), Some('\'')) => 2 + c.len_utf8(),
        _ => 0,
    }
}

fn quoted_length(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (i, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return i + 1,
            _ => {}
        }
    }
    rest.len()
}

mod fixtures {
    use super::*;

    fn complaints_of(name: &str, text: &str) -> Vec<String> {
        let mut complaints = Vec::new();
        check_file(&File::new(name, text), &mut complaints);
        complaints
    }

    #[test]
    fn blanking_keeps_code_and_lines() {
        assert_eq!(blank("a // b\nc"), "a     \nc");
        assert_eq!(blank(r#"f("x\"{") + g"#), r#"f(      ) + g"#);
        assert_eq!(blank("r#\"a\"b\"# + c"), "         + c");
        assert_eq!(blank("fn f<'a>(c: char) { c == '{' }"), "fn f<'a>(c: char) { c ==     }");
        assert_eq!(blank(r"'\'' x"), "     x");
    }

    #[test]
    fn a_room_imports_only_from_lower_floors() {
        assert_eq!(complaints_of("src/http/head.rs", "use crate::limits;\nuse crate::base::{hex, percent};\n"), [""; 0]);
        assert_eq!(complaints_of("src/http/head.rs", "use crate::store::disk::Disk;\n").len(), 1);
        assert_eq!(complaints_of("src/http/head.rs", "fn f() { crate::net::g() }\n").len(), 1);
        assert_eq!(complaints_of("src/store/disk/open.rs", "use crate::{io::{a, flow}, flow::b, sys};\n").len(), 1);
        assert_eq!(complaints_of("src/flow/put.rs", "use crate::store::disk::x;\n"), [""; 0]);
        assert_eq!(complaints_of("src/store/disk/open.rs", "use crate::flow::x;\n").len(), 1);
        assert_eq!(complaints_of("src/store/disk/a.rs", "use super::super::uploads::x;\nuse super::b::{self, c};\n").len(), 1);
        assert_eq!(complaints_of("src/store/uploads/a.rs", "use crate::store::{disk, objects::open};\n"), [""; 0]);
        assert_eq!(complaints_of("src/store/names/a.rs", "use crate::store::disk::Disk;\n").len(), 1);
        assert_eq!(complaints_of("src/attic/x.rs", "fn f() {}\n").len(), 1);
        assert_eq!(complaints_of("src/attic/mod.rs", "//! What?\nfn f() {}\n").len(), 1);
        assert_eq!(
            complaints_of("src/xml/x.rs", "// use crate::s3;\n#[cfg(test)]\nmod tests {\n use crate::s3::x;\n}\n"),
            [""; 0]
        );
    }

    #[test]
    fn rooms_of_one_folder_have_their_own_floors() {
        let (record, export, hall) = ("src/metrics/record/a.rs", "src/metrics/export/mod.rs", "src/metrics/mod.rs");
        assert_eq!(complaints_of("src/net/a.rs", "use crate::metrics::record::{self, Pause};\n"), [""; 0]);
        assert_eq!(complaints_of("src/net/a.rs", "use crate::metrics::export::Exporter;\n").len(), 1);
        assert_eq!(complaints_of("src/net/a.rs", "fn f() { crate::metrics::export::g() }\n").len(), 1);
        assert_eq!(complaints_of("src/net/a.rs", "use crate::{metrics::{record, export::x}, limits};\n").len(), 1);
        assert_eq!(complaints_of("src/net/a.rs", "use crate::{metrics::record, limits};\n"), [""; 0]);
        assert_eq!(complaints_of("src/net/a.rs", "use crate::metrics;\n").len(), 1, "a hall is no room");
        assert_eq!(complaints_of("src/metrics/attic.rs", "fn f() {}\n").len(), 1);
        assert_eq!(complaints_of(record, "use crate::limits;\n"), [""; 0]);
        assert_eq!(complaints_of(record, "use crate::s3::Core;\n").len(), 1);
        assert_eq!(complaints_of(export, "//! How?\nuse crate::{metrics::record, store::disk};\n"), [""; 0]);
        assert_eq!(complaints_of(export, "use crate::store::disk;\n").len(), 1, "without a header");
        assert_eq!(complaints_of(hall, "//! How?\npub mod record;\n"), [""; 0]);
        assert_eq!(complaints_of(hall, "//! How?\nuse crate::limits;\n").len(), 1);
        assert_eq!(complaints_of(hall, "//! How?\nuse crate::metrics::record;\n").len(), 1);
    }

    #[test]
    fn unsafe_stands_in_its_rooms_with_a_reason() {
        let explained = "fn f() {\n    // SAFETY: owned.\n    unsafe { g() }\n}\n";
        assert_eq!(complaints_of("src/sys/a.rs", explained), [""; 0]);
        assert_eq!(complaints_of("src/digest/lanes_avx2.rs", explained), [""; 0]);
        assert_eq!(complaints_of("src/store/disk/a.rs", explained).len(), 1);
        assert_eq!(complaints_of("src/sys/a.rs", "fn f() {\n    h();\n    unsafe { g() }\n}\n").len(), 1);
        assert_eq!(complaints_of("src/sys/a.rs", "// SAFETY: x\nlet a =\n    unsafe { g() };\n"), [""; 0]);
        assert_eq!(complaints_of("src/store/disk/a.rs", "// unsafe\n#![allow(unsafe_code)]\n"), [""; 0]);
    }

    #[test]
    fn pure_rooms_name_nothing_outside() {
        assert_eq!(complaints_of("src/auth/a.rs", "fn f() { Timestamp::now() }\n").len(), 1);
        assert_eq!(complaints_of("src/auth/a.rs", "// Timestamp::now\nfn f(now: Timestamp) {}\n"), [""; 0]);
        assert_eq!(complaints_of("src/s3/ask/a.rs", "use std::fs;\n").len(), 1);
        assert_eq!(complaints_of("src/net/a.rs", "fn f() { Instant::now() }\n"), [""; 0]);
    }

    #[test]
    fn sizes_are_counted() {
        let body = "    x();\n".repeat(FUNCTION_LINES_MAX);
        assert_eq!(complaints_of("src/net/a.rs", &format!("fn f(a: [u8; 4]) {{\n{body}}}\n")).len(), 1);
        assert_eq!(complaints_of("src/net/a.rs", &format!("trait T {{\n    fn f();\n{body}}}\n")), [""; 0]);
        assert_eq!(complaints_of("src/net/a.rs", &"\n".repeat(FILE_LINES_MAX + 1)).len(), 1);
    }

    #[test]
    fn unfinished_and_panicking_code_is_named() {
        assert_eq!(complaints_of("src/io/a.rs", &format!("fn f() {{ {}() }}\n", UNFINISHED[0])).len(), 1);
        assert_eq!(complaints_of("src/io/a.rs", "fn f() { a.unwrap() }\n"), [""; 0]);
        assert_eq!(complaints_of("src/xml/a.rs", "fn f() { a.unwrap() }\n").len(), 1);
        assert_eq!(complaints_of("src/xml/a.rs", "fn f() { a.expect(\"b\") }\n").len(), 1);
        assert_eq!(complaints_of("src/xml/a.rs", "#[cfg(test)]\nmod tests {\n fn f() { a.unwrap() }\n}\n"), [""; 0]);
    }

    #[test]
    fn rooms_have_headers_and_tests_assert() {
        assert_eq!(complaints_of("src/xml/mod.rs", "fn f() {}\n").len(), 1);
        assert_eq!(complaints_of("src/xml/mod.rs", "//! What does it say?\n"), [""; 0]);
        assert_eq!(complaints_of("tests/a.rs", "#[test]\nfn t() { f(); }\n").len(), 1);
        assert_eq!(complaints_of("tests/a.rs", "#[test]\nfn t() { assert!(f()); }\n"), [""; 0]);
        assert_eq!(complaints_of("tests/a.rs", "#[test]\n#[should_panic]\nfn t() { f(); }\n"), [""; 0]);
    }

    #[test]
    fn places_of_one_machine_are_found_at_the_start_of_a_path() {
        assert!(names_place(concat!("cd /wo", "rk/x"), concat!("/wo", "rk/")));
        assert!(!names_place(concat!("target/wo", "rk/x"), concat!("/wo", "rk/")));
    }
}
