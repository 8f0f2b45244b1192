//! `sluice top`: what each core of a server does, live.

use std::process::ExitCode;
use std::time::Duration;

use crate::config;
use crate::server::EXIT_RUNTIME;
use crate::top::{self, Manner, Target};

/// Shows what each core of a running server does: load, traffic, latencies, connections, blocks, durability.
#[derive(clap::Args)]
#[command(
    after_help = "The server must run with --metrics-listen. In a terminal the picture is redrawn until q is pressed; elsewhere one \
                        table follows the other. Times are from the first byte of a request to the last of its answer; `first` to \
                        the first. `queued` is the time in which the core could have run and another had its CPU, `lanes` how many \
                        uploads were hashed side by side, `helpers` the work that waits for a helper thread."
)]
pub(super) struct Arguments {
    /// Where the server's metrics are: the address of its --metrics-listen
    #[arg(value_name = "URL", default_value = "http://127.0.0.1:9002", value_parser = Target::parse)]
    url: Target,
    /// Measures for one interval, prints one table, and ends
    #[arg(long)]
    once: bool,
    /// Time between two looks, such as 500ms or 5s
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = config::duration)]
    interval: Duration,
}

/// Shows it.
pub(super) fn run(arguments: &Arguments) -> ExitCode {
    let manner = Manner { once: arguments.once, interval: arguments.interval };
    match top::run(&arguments.url, manner) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sluice: {error}");
            ExitCode::from(EXIT_RUNTIME)
        }
    }
}
