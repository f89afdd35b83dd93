//! Builds each stage once, runs, drains.

use crate::config::Config;

/// Why the server ended.
#[derive(Debug, thiserror::Error)]
pub enum AppError {}

impl AppError {
    /// The process' exit code.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match *self {}
    }
}

/// Placeholder: ends at once.
///
/// # Errors
/// None.
pub async fn run(_config: Config) -> Result<(), AppError> {
    Ok(())
}
