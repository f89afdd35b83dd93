//! Locations as vehicles with old firmware send them: `(37.412374 N, 122.145867 W)`.
//!
//! Accepts exactly what the reference server does, which scans the text with Go's `fmt.Sscanf` and the format
//! `(%f %1s, %f %1s)`.

use super::number;
use crate::work;

/// Coordinates; north and east are positive. Any number that the text had, even an infinite one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Degrees {
    pub(crate) latitude: f64,
    pub(crate) longitude: f64,
}

impl Degrees {
    /// With so many decimals; `None` when these are not the coordinates of any place.
    pub(crate) fn rounded(self, decimals: u8) -> Option<Self> {
        let factor = 10_f64.powi(decimals.into());
        let round = |degrees: f64| {
            let rounded = (degrees * factor).round() / factor;
            (degrees.abs() <= FULL_TURN && rounded.is_finite()).then_some(rounded)
        };
        Some(Self { latitude: round(self.latitude)?, longitude: round(self.longitude)? })
    }
}

const FULL_TURN: f64 = 360.0;

/// The location in a text; what follows the closing parenthesis does not matter.
pub(crate) fn parse(text: &str) -> Option<Degrees> {
    read(text, number::scan).map(|(degrees, _)| degrees)
}

/// The same with numbers that are right only once they are rounded; takes no more than a constant per byte.
pub(crate) fn parse_to_round(text: &str) -> Option<Degrees> {
    read(text, number::scan_degrees).map(|(degrees, _)| degrees)
}

/// How long the location is that a text starts with. Takes no more than a constant per byte. A location with a
/// number just beyond 64 bits is one here.
pub(crate) fn length(text: &str) -> Option<usize> {
    let (_, rest) = read(text, |text| Some((0.0, number::skip(text)?)))?;
    Some(text.len() - rest.len())
}

fn read(text: &str, number: fn(&str) -> Option<(f64, &str)>) -> Option<(Degrees, &str)> {
    let text = text.strip_prefix('(')?;
    let (latitude, text) = coordinate(text, number, 'N', 'S')?;
    let text = spaces(text.strip_prefix(',')?)?;
    let (longitude, text) = coordinate(text, number, 'E', 'W')?;
    Some((Degrees { latitude, longitude }, text.strip_prefix(')')?))
}

/// A number, spaces, and a letter that says on which side it is.
fn coordinate(
    text: &str,
    number: fn(&str) -> Option<(f64, &str)>,
    positive: char,
    negative: char,
) -> Option<(f64, &str)> {
    let (number, text) = number(trimmed(text))?;
    let text = spaces(text)?;
    match text.strip_prefix(positive) {
        Some(text) => Some((number, text)),
        None => Some((-number, text.strip_prefix(negative)?)),
    }
}

/// What follows the spaces that `text` starts with; at least one.
fn spaces(text: &str) -> Option<&str> {
    text.starts_with(is_space).then(|| trimmed(text))
}

fn trimmed(text: &str) -> &str {
    let trimmed = text.trim_start_matches(is_space);
    work::took(1 + text.len() - trimmed.len());
    trimmed
}

/// Go's spaces are Unicode's. A newline must be matched by one in the format, which has none.
fn is_space(c: char) -> bool {
    c.is_whitespace() && c != '\n'
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Option<(f64, f64)> {
        assert_eq!(parse(text).is_some(), length(text).is_some(), "{text}");
        parse(text).map(|degrees| (degrees.latitude, degrees.longitude))
    }

    #[test]
    fn each_letter_sets_a_sign() {
        assert_eq!(at("(37.412374 N, 122.145867 W)"), Some((37.412374, -122.145867)));
        assert_eq!(at("(37.412374 S, 122.145867 E)"), Some((-37.412374, 122.145867)));
        assert_eq!(at("(-1 S, -2 W)"), Some((1.0, 2.0)));
    }

    #[test]
    fn spaces_may_be_more_and_text_may_follow() {
        assert_eq!(at("(  5  N,  \u{a0}6\t E) tail"), Some((5.0, 6.0)));
        assert_eq!(at("(5 N,\r6 E)"), Some((5.0, 6.0)));
    }

    #[test]
    fn any_number_that_go_scans_is_a_coordinate() {
        assert_eq!(at("(0x1p4 N, 1_0.5e0_1 E)"), Some((16.0, 105.0)));
        assert_eq!(at("(inf N, +INF W)"), Some((f64::INFINITY, f64::NEG_INFINITY)));
        assert!(parse("(nan S, 2 E)").is_some_and(|degrees| degrees.latitude.is_nan()));
    }

    #[test]
    fn rounding_leaves_so_many_decimals() {
        let at = |decimals| Degrees { latitude: 37.412_374, longitude: -122.145_867 }.rounded(decimals);
        assert_eq!(at(2), Some(Degrees { latitude: 37.41, longitude: -122.15 }));
        assert_eq!(at(0), Some(Degrees { latitude: 37.0, longitude: -122.0 }));
        for odd in [f64::NAN, f64::INFINITY, f64::MAX, 1e15] {
            assert_eq!(Degrees { latitude: odd, longitude: 0.0 }.rounded(2), None);
        }
    }

    #[test]
    fn zero_south_is_negative_zero() {
        assert_eq!(parse("(0 S, 0 E)").unwrap().latitude.to_bits(), (-0.0_f64).to_bits());
    }

    #[test]
    fn other_text_is_no_location() {
        for text in [
            "",
            "()",
            "x",
            "37.4 N, 122.1 W",
            " (37.4 N, 122.1 W)",
            "(37.4 X, 122.1 W)",
            "(37.4 N, 122.1 N)",
            "(37.4 N,122.1 W)",
            "(37.4N, 122.1 W)",
            "(37.4 N , 122.1 W)",
            "(37.4 n, 122.1 w)",
            "(37.4 N, 122.1 W",
            "(37.4 N, 122.1 W )",
            "(37.4 N, 122.1)",
            "(1e999 N, 2 E)",
            "(37,4 N, 2 E)",
            "(37.4\nN, 2 E)",
            "(37.4 \r\nN, 2 E)",
            "( N,  E)",
            "(1 NE, 2 E)",
            "(1 N, \n2 E)",
        ] {
            assert_eq!(at(text), None, "{text:?}");
        }
    }
}
