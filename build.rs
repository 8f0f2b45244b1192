//! Puts the commit into the binary. Without git, or from a tarball, it is `BUILD_COMMIT` of the build's environment or `unknown`.

use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=BUILD_COMMIT");
    let given = std::env::var("BUILD_COMMIT").ok().filter(|commit| !commit.is_empty());
    let commit = given.or_else(commit_of_checkout).unwrap_or_else(|| "unknown".to_owned());
    // Not `SLUICE_…`: `cargo run` hands it on to the server, which takes that for a misspelt option.
    println!("cargo::rustc-env=BUILD_COMMIT={commit}");
}

fn commit_of_checkout() -> Option<String> {
    // A tarball unpacked inside somebody else's repository must not name that one's commit.
    let root = PathBuf::from(git(&["rev-parse", "--show-toplevel"])?);
    let ours = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR")?);
    if root.canonicalize().ok()? != ours.canonicalize().ok()? {
        return None;
    }
    // HEAD changes with the branch; a commit on the branch changes its log of HEAD, or where there is none, the ref itself.
    for name in ["HEAD", "logs/HEAD", "packed-refs"] {
        watch(&git(&["rev-parse", "--git-path", name])?);
    }
    if let Some(branch) = git(&["symbolic-ref", "-q", "HEAD"]) {
        watch(&git(&["rev-parse", "--git-path", &branch])?);
    }
    git(&["rev-parse", "HEAD"])
}

/// A path that does not exist would make Cargo run this script at every build.
fn watch(path: &str) {
    if Path::new(path).exists() {
        println!("cargo::rerun-if-changed={path}");
    }
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let text = text.trim();
    (output.status.success() && !text.is_empty()).then(|| text.to_owned())
}
