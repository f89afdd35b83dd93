//! `fleet-telemetry serve`: configuration, logging, runtime, then the application.

use std::path::Path;
use std::process::ExitCode;

use super::findings::Findings;
use super::{EXIT_CONFIG, complain};
use crate::app;
use crate::config::{self, Config, Env, Warning};
use crate::logging;
use crate::preflight;
use crate::workers;

pub(super) fn run(file: &Path) -> ExitCode {
    let (config, warnings) = match config::load(file, &Env::of_process()) {
        Ok(loaded) => loaded,
        Err(error) => {
            complain(&Findings::of(&error).report());
            return ExitCode::from(EXIT_CONFIG);
        }
    };
    // Dropped last, so that what is said on the way out is written.
    let _last_words = match logging::init(&config.log) {
        Ok(last_words) => last_words,
        Err(error) => {
            complain(&format!("error: {error}\n"));
            return ExitCode::FAILURE;
        }
    };
    warnings.iter().for_each(log);
    let judgement = preflight::judge(&config);
    judgement.warnings.iter().for_each(|warning| tracing::warn!(%warning, "config_warning"));
    if !judgement.errors.is_empty() {
        judgement.errors.iter().for_each(|error| tracing::error!(%error, "server_failed"));
        return ExitCode::from(EXIT_CONFIG);
    }
    start(config)
}

fn log(warning: &Warning) {
    match warning {
        // The reference server's name and level.
        Warning::InvalidLevel { .. } => tracing::error!(error = %warning, "invalid_level"),
        other => tracing::warn!(warning = %other, "config_warning"),
    }
}

fn start(config: Config) -> ExitCode {
    let runtime = match workers::start(&config.workers) {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "runtime_not_started");
            return ExitCode::FAILURE;
        }
    };
    let ended = runtime.block_on(app::run(config));
    // The application has drained what it could; a blocking thread must not hold the exit up.
    runtime.shutdown_background();
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "server_failed");
            ExitCode::from(error.exit_code())
        }
    }
}
