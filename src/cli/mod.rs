//! What was typed? The `sluice` command: its subcommands, its help, its exit codes.
//!
//! May import every room below, and `server`, which it starts. Holds no logic of its own: an option is understood in `config`, a
//! reason to stop has its exit code in `server`.

mod bench;
mod key;
mod serve;
mod top;
mod tune;

use std::process::ExitCode;

use clap::{Arg, Command, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::config::environment_name;

/// Name, version and commit, as `--version` prints them and the start message begins.
pub const VERSION_LINE: &str = concat!("sluice ", env!("CARGO_PKG_VERSION"), " (", env!("BUILD_COMMIT"), ")");
const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("BUILD_COMMIT"), ")");

/// Serves the directories and files of a POSIX filesystem as S3 buckets and objects.
#[derive(Parser)]
#[command(name = "sluice", version = VERSION, propagate_version = true, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Verb,
}

#[derive(Subcommand)]
enum Verb {
    // Boxed: it has an option for every setting.
    Serve(Box<serve::Arguments>),
    Bench(Box<bench::Arguments>),
    Key(key::Arguments),
    Top(top::Arguments),
    Tune(tune::Arguments),
}

/// Runs the command line of this process. Exit codes: 0, 1 at run time, 2 for a wrong command line, 78 for a wrong configuration.
pub fn main() -> ExitCode {
    let parsed = command().try_get_matches().and_then(|matches| Arguments::from_arg_matches(&matches));
    match parsed {
        Ok(Arguments { command: Verb::Serve(arguments) }) => serve::run(&arguments),
        Ok(Arguments { command: Verb::Bench(arguments) }) => bench::run(*arguments),
        Ok(Arguments { command: Verb::Key(arguments) }) => key::run(&arguments),
        Ok(Arguments { command: Verb::Top(arguments) }) => top::run(&arguments),
        Ok(Arguments { command: Verb::Tune(arguments) }) => tune::run(&arguments),
        // Clap writes it to the right stream, and has the right code: 0 for --help, 2 for usage.
        Err(error) => error.exit(),
    }
}

/// The command with each option's environment variable in its help. Clap's own `env` would also read them, and could then not
/// tell a wrong variable (78) from a wrong flag (2).
fn command() -> Command {
    Arguments::command().mut_subcommand("serve", |serve| serve.mut_args(with_environment_name))
}

fn with_environment_name(argument: Arg) -> Arg {
    let name = environment_name(argument.get_id().as_str());
    let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
    argument.help(format!("{help} [env: {name}]"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_is_well_formed() {
        command().debug_assert();
    }

    #[test]
    fn help_has_every_option_with_its_variable() {
        let mut command = command();
        let serve = command.find_subcommand_mut("serve").expect("serve");
        let help = serve.render_long_help().to_string();
        let options: Vec<_> = serve.get_arguments().filter(|argument| argument.get_id() != "help").cloned().collect();
        assert!(options.len() > 20);
        for option in options {
            let id = option.get_id().as_str();
            if matches!(id, "version") {
                continue;
            }
            assert!(help.contains(&format!("[env: {}]", environment_name(id))), "{id}\n{help}");
            if let Some(long) = option.get_long() {
                assert!(help.contains(&format!("--{long}")), "{long}");
                assert_eq!(long, id.replace('_', "-"), "one name, three spellings");
            }
        }
    }

    /// Cargo gives the variables of a build to what it runs as well, and the README starts the server by `cargo run`.
    #[test]
    fn what_cargo_run_adds_is_not_taken_for_an_option() {
        let added: Vec<_> = include_str!("../../build.rs").split("cargo::rustc-env=").skip(1).collect();
        assert!(!added.is_empty() && added.iter().all(|variable| !variable.starts_with("SLUICE_")), "{added:?}");
    }
}
