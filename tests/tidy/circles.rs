//! Whether the files of a folder know each other in a circle: by the paths that they name.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::{File, files_below, is_word};

/// How a path of ours begins.
const STARTS: [&str; 3] = ["crate::", "super::", "self::"];

/// The files of a folder, and the folders in it, know each other in one direction. `mod.rs` is the door, not one of them.
pub fn check(root: &Path, test_files: &BTreeSet<String>, complaints: &mut Vec<String>) {
    let mut known: BTreeMap<String, BTreeMap<String, BTreeSet<String>>> = BTreeMap::new();
    for path in files_below(&root.join("src"), "rs") {
        let name = path.strip_prefix(root).expect("below the root").to_string_lossy().into_owned();
        let module = module_of(&name);
        if test_files.contains(&name) || module.is_empty() {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
        let file = File::new(&name, &text);
        let code: String = file.code.lines().take(file.tests_from).fold(String::new(), |text, line| text + line + "\n");
        for depth in 1..module.len() + usize::from(name.ends_with("/mod.rs")) {
            let Some(member) = module.get(depth) else { continue };
            let (folder, of_member) = (module[..depth].join("::"), known.entry(module[..depth].join("::")).or_default());
            let others = of_member.entry(member.clone()).or_default();
            for path in paths_in(&code, &module, &STARTS) {
                if path.len() > depth && path[..depth].join("::") == folder && path[depth] != *member {
                    others.insert(path[depth].clone());
                }
            }
        }
    }
    for (folder, members) in &known {
        let circle = in_circles(members);
        if !circle.is_empty() {
            let names: Vec<&str> = circle.iter().map(String::as_str).collect();
            complaints.push(format!("{folder}: know each other in a circle: {}", names.join(", ")));
        }
    }
}

/// `a::b` of `src/a/b.rs` and `src/a/b/mod.rs`, in its steps.
pub fn module_of(name: &str) -> Vec<String> {
    let below = name.strip_prefix("src/").unwrap_or(name);
    let stem = below.strip_suffix("/mod.rs").or(below.strip_suffix(".rs")).unwrap_or(below);
    if matches!(stem, "lib" | "main") { Vec::new() } else { stem.split('/').map(str::to_owned).collect() }
}

/// All paths of ours that the code of `module` names, from the crate's root: those that begin with one of `starts`.
pub fn paths_in(code: &str, module: &[String], starts: &[&str]) -> BTreeSet<Vec<String>> {
    let mut found = BTreeSet::new();
    let above = &module[..module.len().saturating_sub(1)];
    for (start, base) in [("crate::", &module[..0]), ("super::", above), ("self::", module)] {
        if !starts.contains(&start) {
            continue;
        }
        for (at, _) in code.match_indices(start) {
            if code[..at].ends_with(|c: char| is_word(c) || matches!(c, ':' | '$')) {
                continue;
            }
            let (mut rest, mut base) = (&code[at + start.len()..], base);
            while let Some(further) = rest.strip_prefix("super::") {
                (rest, base) = (further, &base[..base.len().saturating_sub(1)]);
            }
            expand(base.to_vec(), rest, &mut found);
        }
    }
    found
}

/// `a::{b, c::d}` behind `base`, as paths; it ends where the path ends.
fn expand(mut base: Vec<String>, mut rest: &str, found: &mut BTreeSet<Vec<String>>) {
    loop {
        rest = rest.trim_start();
        if let Some(group) = rest.strip_prefix('{') {
            return split_group(group).into_iter().for_each(|part| expand(base.clone(), part, found));
        }
        let step: String = rest.chars().take_while(|c| is_word(*c)).collect();
        rest = &rest[step.len()..];
        if !step.is_empty() && step != "self" {
            base.push(step);
        }
        match rest.strip_prefix("::") {
            Some(further) => rest = further,
            None => break,
        }
    }
    found.insert(base);
}

/// The parts of a group, whose opening brace is gone.
fn split_group(group: &str) -> Vec<&str> {
    let (mut parts, mut depth, mut start) = (Vec::new(), 0, 0);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => {
                parts.push(&group[start..at]);
                break;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&group[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.retain(|part| !part.trim().is_empty());
    parts
}

/// Those from which a way leads back to themselves.
fn in_circles(members: &BTreeMap<String, BTreeSet<String>>) -> BTreeSet<String> {
    let leads_back = |from: &String| {
        let (mut seen, mut next) = (BTreeSet::new(), vec![from]);
        while let Some(one) = next.pop() {
            for other in members.get(one).into_iter().flatten().filter(|other| members.contains_key(*other)) {
                if other == from {
                    return true;
                }
                if seen.insert(other) {
                    next.push(other);
                }
            }
        }
        false
    };
    members.keys().filter(|name| leads_back(name)).cloned().collect()
}

#[test]
fn circles_are_found() {
    let module: Vec<String> = ["s3", "verbs", "get"].map(str::to_owned).to_vec();
    let code =
        "use super::put::{self, a};\nuse crate::{io, s3::{plan::body, ask}};\nfn f() { super::super::x::g(); self::h() }\n";
    let paths: Vec<String> = paths_in(code, &module, &STARTS).iter().map(|path| path.join("::")).collect();
    let expected = ["io", "s3::ask", "s3::plan::body", "s3::verbs::get::h", "s3::verbs::put", "s3::verbs::put::a", "s3::x::g"];
    assert_eq!(paths, expected);
    let members = |pairs: &[(&str, &[&str])]| {
        pairs.iter().map(|(name, others)| (name.to_string(), others.iter().map(|other| other.to_string()).collect())).collect()
    };
    assert!(in_circles(&members(&[("a", &["b"]), ("b", &["c"]), ("c", &[])])).is_empty());
    let circle = in_circles(&members(&[("a", &["b"]), ("b", &["c", "x"]), ("c", &["b"]), ("d", &["a"])]));
    assert_eq!(circle.into_iter().collect::<Vec<_>>(), ["b", "c"]);
}
