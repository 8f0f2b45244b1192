//! `sluice key`: where a key lives below its bucket, and which key lives at a path.

use std::process::ExitCode;

use crate::base::percent;
use crate::server::{EXIT_RUNTIME, EXIT_USAGE};
use crate::store::names::key;

/// Shows where a key lives below its bucket's directory, or with --path which key lives there.
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The key as it is, not percent-encoded; with --path a path below the bucket's directory
    #[arg(value_name = "KEY")]
    text: String,
    /// Takes a path and prints the key; a path that ends with a slash is a directory's
    #[arg(long)]
    path: bool,
}

/// Prints the other name.
pub(super) fn run(arguments: &Arguments) -> ExitCode {
    let text = arguments.text.as_bytes();
    if arguments.path {
        let (path, is_directory) = match text.strip_suffix(b"/") {
            Some(path) => (path, true),
            None => (text, false),
        };
        return match key::key_of(path, is_directory) {
            Some(found) => print(&found),
            None => refuse(EXIT_RUNTIME, "no key lives at this path: it is not what Sluice would write"),
        };
    }
    match key::locate(text) {
        Ok(location) if location.is_directory_object => print(&[&location.path, &b"/"[..]].concat()),
        Ok(location) => print(&location.path),
        Err(error) => refuse(EXIT_USAGE, &format!("not a key: {error:?}")),
    }
}

fn print(name: &[u8]) -> ExitCode {
    match std::str::from_utf8(name) {
        Ok(name) => println!("{name}"),
        // A piece of a long component may be cut inside a character.
        Err(_) => println!("{}", percent::encode(name, true)),
    }
    ExitCode::SUCCESS
}

fn refuse(code: u8, reason: &str) -> ExitCode {
    eprintln!("sluice: {reason}");
    ExitCode::from(code)
}
