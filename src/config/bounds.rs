//! Numbers within limits, and their defaults.

use std::fmt::Debug;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::error::{ConfigError, Problems};

impl Problems {
    /// `value` if it lies in `allowed`, which must not exceed the target type; `default` when absent or wrong.
    pub(super) fn number<T: TryFrom<i64>>(
        &mut self,
        key: &str,
        value: Option<i64>,
        allowed: RangeInclusive<i64>,
        default: T,
    ) -> T {
        let Some(value) = value else { return default };
        match T::try_from(value) {
            Ok(number) if allowed.contains(&value) => number,
            _ => {
                self.out_of_range(key, value, format!("{} to {}", allowed.start(), allowed.end()));
                default
            }
        }
    }

    /// As [`Self::number`], for durations.
    pub(super) fn duration(
        &mut self,
        key: &str,
        value: Option<Duration>,
        allowed: RangeInclusive<Duration>,
        default: Duration,
    ) -> Duration {
        match value {
            Some(value) if !allowed.contains(&value) => {
                let limits = format!("{:?} to {:?}", allowed.start(), allowed.end());
                self.out_of_range(key, format_args!("{value:?}"), limits);
                default
            }
            value => value.unwrap_or(default),
        }
    }

    pub(super) fn out_of_range(&mut self, key: &str, value: impl Debug, allowed: impl Into<String>) {
        let (key, value) = (key.to_owned(), format!("{value:?}"));
        self.error(ConfigError::OutOfRange { key, value, allowed: allowed.into() });
    }

    /// `value` is none of `allowed`.
    pub(super) fn not_allowed(&mut self, key: impl Into<String>, value: &str, allowed: impl Into<String>) {
        let value = crate::escape::escape(value.as_bytes(), 100);
        self.error(ConfigError::NotAllowed { key: key.into(), value, allowed: allowed.into() });
    }
}
