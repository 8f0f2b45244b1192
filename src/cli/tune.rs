//! `sluice tune`: where to serve, and what else to set on this machine.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use crate::server::{EXIT_RUNTIME, EXIT_USAGE};
use crate::tune::{Clients, How, Machine, Outcome, Report, Served, Setting, Tree, Wish, advise, apply, may_write, place};

/// Shows which cores to serve on and what to set on this machine, each with its reason.
#[derive(Args)]
#[command(
    after_help = "It reads sysfs and procfs, makes one file without a name in DIR to try O_DIRECT, and changes nothing unless told to. \
                        --apply writes what can be written, says what came of each, and ends with 1 when one failed; it holds until the next \
                        boot, so run it before the server starts. `serve --cores auto` places by the same rules."
)]
pub(super) struct Arguments {
    /// The directory to serve: its filesystem and drives count
    #[arg(value_name = "DIR")]
    directory: Option<PathBuf>,
    /// Interface by which clients come; repeats. Without it the one with the default route, or the fastest ones
    #[arg(long, value_name = "IFACE")]
    nic: Vec<String>,
    /// Makes every SMT thread a data core, where otherwise one of each physical core is
    #[arg(long)]
    smt: bool,
    /// Prints one JSON document
    #[arg(long)]
    json: bool,
    /// Writes the settings that root may write
    #[arg(long)]
    apply: bool,
}

/// Looks, prints, and writes when told to.
pub(super) fn run(arguments: &Arguments) -> ExitCode {
    let served = match arguments.directory.as_deref().map(Served::look).transpose() {
        Ok(served) => served,
        Err(error) => return refuse(EXIT_RUNTIME, &error.advice()),
    };
    let tree = Tree::new(Path::new("/"));
    let machine = Machine::read(&tree, served.as_ref().map(|served| &served.mount));
    let wish = Wish { interfaces: arguments.nic.clone(), siblings: arguments.smt, clients: Clients::Remote };
    let placement = match place(&machine, &wish) {
        Ok(placement) if placement.data.is_empty() => return refuse(EXIT_RUNTIME, "no CPU is to be seen: is /sys mounted?"),
        Ok(placement) => placement,
        Err(error) => return refuse(EXIT_USAGE, &error.to_string()),
    };
    let settings = advise(&machine, &placement, served.as_ref());
    let writes: Vec<&Setting> = settings.iter().filter(|setting| matches!(setting.how, How::Write { .. })).collect();
    if arguments.apply && !writes.is_empty() && !may_write() {
        return refuse(EXIT_RUNTIME, &what_root_would_write(&writes));
    }
    let outcomes = arguments.apply.then(|| apply(&tree, &settings));
    let report = Report {
        machine: &machine,
        placement: &placement,
        served: served.as_ref(),
        settings: &settings,
        outcomes: outcomes.as_deref(),
    };
    let text = if arguments.json { report.json().map(|json| json + "\n") } else { Ok(report.to_string()) };
    match text.map_err(std::io::Error::from).and_then(|text| std::io::stdout().lock().write_all(text.as_bytes())) {
        Ok(()) if outcomes.iter().flatten().any(|outcome| matches!(outcome, Outcome::Failed(_))) => ExitCode::from(EXIT_RUNTIME),
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => refuse(EXIT_RUNTIME, &error.to_string()),
    }
}

fn what_root_would_write(writes: &[&Setting]) -> String {
    let mut text =
        String::from("--apply writes into /proc and /sys, which only root may; nothing was written. As root it would write:");
    for setting in writes {
        if let How::Write { file, text: value } = &setting.how {
            text.push_str(&format!("\n  {file}: {} → {value}", setting.current));
        }
    }
    text
}

fn refuse(code: u8, reason: &str) -> ExitCode {
    eprintln!("sluice: {reason}");
    ExitCode::from(code)
}
