//! Decimal numbers that are checked before they are worked out: the former never takes long.

use std::borrow::Cow;

use super::{clamped, without_underscores};

/// A decimal number as `strconv.ParseFloat` takes it.
pub(super) struct Decimal<'t> {
    digits: Cow<'t, str>,
}

impl<'t> Decimal<'t> {
    pub(super) fn read(token: &'t str) -> Option<Self> {
        Some(Self { digits: without_underscores(token, |byte| byte.is_ascii_digit())? })
    }

    /// The power of ten of its first digit that is not zero; the least there is for zero. `None` when it is no number.
    pub(super) fn order(&self) -> Option<i64> {
        order(self.digits.strip_prefix(['+', '-']).unwrap_or(&self.digits))
    }

    /// `None` when it is no number, or too great for 64 bits.
    pub(super) fn value(&self) -> Option<f64> {
        self.digits.parse().ok().filter(|number: &f64| number.is_finite())
    }

    /// One, or less.
    pub(super) fn sign(&self) -> f64 {
        if self.digits.starts_with('-') { -1.0 } else { 1.0 }
    }
}

/// Also checks that all parts of the number are there.
fn order(unsigned: &str) -> Option<i64> {
    let (mantissa, exponent) = unsigned.split_once(['e', 'E']).unwrap_or((unsigned, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    // A token may also be the start of `nan` or `inf`, or have a binary exponent of the wrong case.
    let has_other = [whole, fraction].iter().any(|digits| !digits.bytes().all(|byte| byte.is_ascii_digit()));
    if has_other || (whole.is_empty() && fraction.is_empty()) {
        return None;
    }
    let exponent = clamped(exponent)?;
    let first = |digits: &str| digits.bytes().position(|digit| digit != b'0').map(|at| at as i64);
    let order = match (first(whole), first(fraction)) {
        (Some(at), _) => whole.len() as i64 - 1 - at,
        (None, Some(at)) => -1 - at,
        (None, None) => return Some(i64::MIN),
    };
    Some(order + exponent)
}
