//! `sluice serve`: gathers the layers of the configuration and hands the result to the server.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use super::VERSION_LINE;
use crate::base::secret::Secret;
use crate::config::{Config, ConfigError, ConfigFile, Layers, Options, RootEnvironment};
use crate::limits;
use crate::server::{self, Fatal};

/// Serve a directory over S3.
#[derive(Args)]
#[command(
    after_help = "A flag wins over its environment variable, that over the file, that over the default. The file is TOML, its keys are \
                  the flags' names with underscores (buffer_memory = \"64MiB\"). In the environment a list is separated by commas.\n\n\
                  Root keys: SLUICE_ROOT_ACCESS_KEY and SLUICE_ROOT_SECRET_KEY, or files named by the options above. Without them a pair \
                  is generated once and kept in the configuration directory; the start message says where.\n\n\
                  SIGTERM finishes requests in flight and ends, a second one ends at once, SIGHUP reloads certificates and \
                  configuration. Exit codes: 0, 1 at run time, 2 for a wrong command line, 78 for a wrong configuration."
)]
pub struct Arguments {
    /// TOML file with further options.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    options: Options,
}

/// Serves until told to stop.
pub fn run(arguments: &Arguments) -> ExitCode {
    let load = || load(arguments);
    let config = match load() {
        Ok(config) => config,
        Err(error) => {
            let fatal = Fatal::from(error);
            // There is no log yet, and nothing to be done when standard error is closed.
            let _ = writeln!(std::io::stderr(), "sluice: {fatal}");
            return ExitCode::from(fatal.exit_code());
        }
    };
    match server::run(config, &load, VERSION_LINE) {
        Ok(()) => ExitCode::SUCCESS,
        // The log has said why.
        Err(fatal) => ExitCode::from(fatal.exit_code()),
    }
}

/// The configuration as flags, environment and file say it now.
fn load(arguments: &Arguments) -> Result<Config, ConfigError> {
    let variable = |name: &str| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned());
    let from_environment = || variable("SLUICE_CONFIG").filter(|path| !path.is_empty()).map(PathBuf::from);
    let file = arguments.config.clone().or_else(from_environment);
    let layers = Layers {
        flags: arguments.options.clone(),
        environment: Options::from_environment(&variable),
        file: file.map(read_file).transpose()?,
        root: RootEnvironment {
            access_key: variable("SLUICE_ROOT_ACCESS_KEY").map(Secret::new),
            secret_key: variable("SLUICE_ROOT_SECRET_KEY").map(Secret::new),
        },
        environment_names: std::env::vars_os()
            .filter_map(|(name, _)| name.into_string().ok())
            .filter(|name| name.starts_with("SLUICE_"))
            .collect(),
    };
    layers.resolve()
}

fn read_file(path: PathBuf) -> Result<ConfigFile, ConfigError> {
    let problem = |problem: String| ConfigError::File { path: path.clone(), problem };
    let text = read_text(&path).map_err(|error| problem(format!("{error}; check the path and its permissions")))?;
    let options = Options::from_toml(&text).map_err(problem)?;
    Ok(ConfigFile { path, options })
}

fn read_text(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    let read = File::open(path)?.take(limits::CONFIG_FILE_SIZE_MAX + 1).read_to_string(&mut text)?;
    if read as u64 > limits::CONFIG_FILE_SIZE_MAX {
        return Err(std::io::Error::other("it is larger than 1 MiB, which is no configuration of ours"));
    }
    Ok(text)
}
