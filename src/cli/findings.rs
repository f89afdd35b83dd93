//! Problems, one a line.

use std::fmt::Write;
use std::path::Path;

use serde::Serialize;

use crate::config::LoadError;

/// What was found in one configuration file.
#[derive(Debug, Serialize)]
pub(super) struct Findings {
    pub(super) file: String,
    pub(super) errors: Vec<String>,
    pub(super) warnings: Vec<String>,
    /// The server's, with the days that they last.
    pub(super) certificates: Vec<String>,
}

impl Findings {
    /// Nothing yet.
    pub(super) fn about(file: &Path) -> Self {
        Self { file: file.display().to_string(), errors: Vec::new(), warnings: Vec::new(), certificates: Vec::new() }
    }

    /// Everything that kept a configuration from loading.
    pub(super) fn of(error: &LoadError) -> Self {
        match error {
            LoadError::Invalid { file, problems } => Self {
                errors: problems.errors.iter().map(ToString::to_string).collect(),
                warnings: problems.warnings.iter().map(ToString::to_string).collect(),
                ..Self::about(file)
            },
            LoadError::Unreadable { file, source } => Self { errors: vec![source.to_string()], ..Self::about(file) },
            LoadError::Syntax { file, error } => Self { errors: vec![error.to_string()], ..Self::about(file) },
        }
    }

    pub(super) fn warn(&mut self, text: impl Into<String>) {
        self.warnings.push(text.into());
    }

    /// Warnings first, so that errors are what is seen last.
    pub(super) fn report(&self) -> String {
        let warnings = self.warnings.iter().map(|text| ("warning", text));
        let errors = self.errors.iter().map(|text| ("error", text));
        warnings.chain(errors).fold(String::new(), |mut report, (kind, text)| {
            // Writing to a string cannot fail.
            let _ = writeln!(report, "{kind}: {}: {text}", self.file);
            report
        })
    }
}
