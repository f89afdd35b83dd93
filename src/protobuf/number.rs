//! Numbers as Go's `fmt.Sscanf` reads them with the verb `%f`: decimal and hexadecimal floating point with
//! underscores between digits, a decimal mantissa with a binary exponent, `nan` and `inf`.

mod decimal;

use std::borrow::Cow;

use crate::work;
use decimal::Decimal;

/// Go's quiet NaN; the bits matter because they are encoded.
const NAN: f64 = f64::from_bits(0x7ff8_0000_0000_0001);

/// Reads the number that `text` starts with; also returns what follows it. `None` when Go would report an
/// error, which includes decimal numbers too great for 64 bits.
///
/// For some decimal numbers of thirty bytes this takes 20 µs: not for texts of which a record may have thousands.
pub(super) fn scan(text: &str) -> Option<(f64, &str)> {
    let (number, rest) = token(text)?;
    Some((number.value()?, rest))
}

/// The same for a number of degrees that is to be rounded: what is nothing then may be zero, and what is far more
/// than a full turn infinite. Never takes long.
pub(super) fn scan_degrees(text: &str) -> Option<(f64, &str)> {
    let (number, rest) = token(text)?;
    Some((number.degrees()?, rest))
}

/// What follows the number that `text` starts with. Never takes long. A number a little too great for 64 bits is
/// one here.
pub(super) fn skip(text: &str) -> Option<&str> {
    let (number, rest) = token(text)?;
    number.may_be_finite().then_some(rest)
}

fn token(text: &str) -> Option<(Number<'_>, &str)> {
    let (token, rest) = text.split_at(token_len(text.as_bytes()));
    work::took(1 + 4 * token.len());
    Some((Number::read(token)?, rest))
}

/// How much of `text` Go takes for the number, which need not be a valid one.
fn token_len(text: &[u8]) -> usize {
    let mut token = Token { text, len: 0 };
    if token.accept(b"nN") && token.accept(b"aA") && token.accept(b"nN") {
        return token.len;
    }
    token.accept(b"+-");
    if token.accept(b"iI") && token.accept(b"nN") && token.accept(b"fF") {
        return token.len;
    }
    let is_hex = token.accept(b"0") && token.accept(b"xX");
    let is_digit = |byte: u8| byte.is_ascii_digit() || byte == b'_' || is_hex && byte.is_ascii_hexdigit();
    let exponent: &[u8] = if is_hex { b"pP" } else { b"eEpP" };
    token.accept_all(is_digit);
    if token.accept(b".") {
        token.accept_all(is_digit);
    }
    if token.accept(exponent) {
        token.accept(b"+-");
        token.accept_all(|byte| byte.is_ascii_digit() || byte == b'_');
    }
    token.len
}

struct Token<'a> {
    text: &'a [u8],
    len: usize,
}

impl Token<'_> {
    fn accept(&mut self, any_of: &[u8]) -> bool {
        let accepted = self.text.get(self.len).is_some_and(|byte| any_of.contains(byte));
        self.len += usize::from(accepted);
        accepted
    }

    fn accept_all(&mut self, accepts: impl Fn(u8) -> bool) {
        self.len += self.text[self.len..].iter().take_while(|byte| accepts(**byte)).count();
    }
}

/// A number that has been read and perhaps not worked out.
enum Number<'t> {
    Known(f64),
    Decimal(Decimal<'t>),
    /// Times two to a power.
    Scaled(Decimal<'t>, i64),
}

impl<'t> Number<'t> {
    fn read(token: &'t str) -> Option<Self> {
        let is_hex = token.contains(['x', 'X']);
        match token.split_once('p') {
            Some((mantissa, exponent)) if !is_hex => {
                Some(Self::Scaled(Decimal::read(mantissa)?, exponent.parse().ok()?))
            }
            _ if is_hex => hexadecimal(token).map(Self::Known),
            _ => non_finite(token).map(Self::Known).or_else(|| Decimal::read(token).map(Self::Decimal)),
        }
    }

    fn value(&self) -> Option<f64> {
        match self {
            Self::Known(number) => Some(*number),
            Self::Decimal(decimal) => decimal.value(),
            Self::Scaled(decimal, exponent) => Some(ldexp(decimal.value()?, *exponent)),
        }
    }

    fn degrees(&self) -> Option<f64> {
        let Self::Decimal(decimal) = self else { return self.value() };
        match decimal.order()? {
            ..-30 => Some(0.0_f64.copysign(decimal.sign())),
            4.. => Some(f64::INFINITY.copysign(decimal.sign())),
            _ => self.value(),
        }
    }

    fn may_be_finite(&self) -> bool {
        match self {
            Self::Known(_) => true,
            Self::Decimal(decimal) | Self::Scaled(decimal, _) => {
                decimal.order().is_some_and(|order| order <= f64::MAX_10_EXP.into())
            }
        }
    }
}

fn non_finite(token: &str) -> Option<f64> {
    let unsigned = token.strip_prefix(['+', '-']).unwrap_or(token);
    if unsigned.eq_ignore_ascii_case("inf") {
        return Some(if token.starts_with('-') { f64::NEG_INFINITY } else { f64::INFINITY });
    }
    token.eq_ignore_ascii_case("nan").then_some(NAN)
}

/// `strconv.ParseFloat` for hexadecimal numbers: `0x1.8p3`. The exponent is a must.
fn hexadecimal(token: &str) -> Option<f64> {
    let is_negative = token.starts_with('-');
    let unsigned = token.strip_prefix(['+', '-']).unwrap_or(token);
    // The prefix counts as a digit: an underscore may follow it.
    let digits = without_underscores(unsigned, |byte| byte.is_ascii_hexdigit() || matches!(byte, b'x' | b'X'))?;
    let digits = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X"))?;
    let (mantissa, exponent) = digits.split_once(['p', 'P'])?;
    let mut read = Mantissa::default();
    for byte in mantissa.bytes() {
        read.add(byte);
    }
    if !read.has_digits {
        return None;
    }
    let number = scaled(read.bits, read.exponent.checked_add(clamped(exponent)?)?);
    if number.is_infinite() {
        return None;
    }
    Some(if is_negative { -number } else { number })
}

/// Go allows underscores between digits. `None` when one is elsewhere.
fn without_underscores(token: &str, is_digit: impl Fn(u8) -> bool) -> Option<Cow<'_, str>> {
    if !token.contains('_') {
        return Some(Cow::Borrowed(token));
    }
    let bytes = token.as_bytes();
    let is_between_digits = |at: usize| {
        let after = bytes.get(at + 1).is_some_and(|next| is_digit(*next) && !matches!(next, b'x' | b'X'));
        after && at.checked_sub(1).is_some_and(|before| is_digit(bytes[before]))
    };
    let allowed = (0..bytes.len()).filter(|at| bytes[*at] == b'_').all(is_between_digits);
    allowed.then(|| Cow::Owned(token.replace('_', "")))
}

/// An exponent of two, kept within what can make a difference.
fn clamped(digits: &str) -> Option<i64> {
    const LIMIT: i64 = 100_000_000;
    let (sign, digits) = match digits.as_bytes() {
        [b'-', ..] => (-1, &digits[1..]),
        [b'+', ..] => (1, &digits[1..]),
        _ => (1, digits),
    };
    if digits.is_empty() {
        return None;
    }
    let exponent = digits.bytes().fold(0, |sum, digit| (sum * 10 + i64::from(digit - b'0')).min(LIMIT));
    Some(sign * exponent)
}

/// A hexadecimal mantissa: `bits` times two to the `exponent`.
#[derive(Default)]
struct Mantissa {
    /// The first 16 significant digits; the last bit is also set when any digit after them is not zero.
    bits: u64,
    exponent: i64,
    has_digits: bool,
    after_point: bool,
}

impl Mantissa {
    fn add(&mut self, byte: u8) {
        let Some(digit) = char::from(byte).to_digit(16) else {
            self.after_point = true;
            return;
        };
        self.has_digits = true;
        self.exponent -= 4 * i64::from(self.after_point);
        if self.bits >> 60 == 0 {
            self.bits = self.bits << 4 | u64::from(digit);
        } else {
            self.bits |= u64::from(digit != 0);
            self.exponent += 4;
        }
    }
}

/// `bits` times two to the `exponent`, rounded once, half to even; infinite when too great.
fn scaled(bits: u64, exponent: i64) -> f64 {
    if bits == 0 {
        return 0.0;
    }
    let width = 64 - i64::from(bits.leading_zeros());
    let top = exponent + width - 1;
    if top > 1023 {
        return f64::INFINITY;
    }
    // 53 significant bits, fewer for subnormal numbers; below zero bits nothing is left.
    let precision = if top >= -1022 { 53 } else { 53 + 1022 + top };
    if precision < 0 {
        return 0.0;
    }
    let dropped = width - precision;
    if dropped <= 0 {
        return bits as f64 * power_of_two(exponent);
    }
    let (wide, half) = (u128::from(bits), 1_u128 << (dropped - 1));
    let (kept, rest) = (wide >> dropped, wide & (2 * half - 1));
    let rounded = kept + u128::from(rest > half || (rest == half && kept & 1 == 1));
    rounded as f64 * power_of_two(exponent + dropped)
}

/// Exact for exponents from -1074 to 1023.
fn power_of_two(exponent: i64) -> f64 {
    f64::from_bits(match exponent {
        ..-1022 => 1 << (exponent + 1074),
        _ => ((exponent + 1023) as u64) << 52,
    })
}

/// `math.Ldexp`: `number` times two to the `exponent`. Wraps like Go's for exponents near the limits of `i64`.
fn ldexp(number: f64, exponent: i64) -> f64 {
    if number == 0.0 || !number.is_finite() {
        return number;
    }
    let (normal, shift) = if number.is_subnormal() { (number * power_of_two(52), -52) } else { (number, 0) };
    let biased = (normal.to_bits() >> 52 & 0x7ff) as i64;
    let mut exponent = exponent.wrapping_add(shift).wrapping_add(biased - 1023);
    if exponent < -1075 {
        return 0.0_f64.copysign(number);
    }
    if exponent > 1023 {
        return f64::INFINITY.copysign(number);
    }
    let mut factor = 1.0;
    if exponent < -1022 {
        exponent += 53;
        factor = power_of_two(-53);
    }
    let bits = normal.to_bits() & !(0x7ff << 52) | ((exponent + 1023) as u64) << 52;
    factor * f64::from_bits(bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_decimal_numbers() {
        for (text, expected) in [
            ("5", 5.0),
            ("+.5", 0.5),
            ("-5.", -5.0),
            ("1e3", 1000.0),
            ("1_000.2_5E-0_1", 100.025),
            ("0.1", 0.1),
            ("1e-999", 0.0),
        ] {
            assert_eq!(scan(text), Some((expected, "")), "{text}");
        }
    }

    #[test]
    fn reads_binary_exponents() {
        for (text, expected) in [
            ("0x1p4", 16.0),
            ("0X.8P+1", 1.0),
            ("-0x1_0.8p-1", -8.25),
            ("0x_1p0", 1.0),
            ("1.5p4", 24.0),
            ("-3p-1", -1.5),
            ("0x1p-1074", 5e-324),
            ("0x1p-1075", 0.0),
            ("0x1.8p-1075", 5e-324),
            ("0x1.fffffffffffff8p0", 2.0),
            ("0x1.fffffffffffff7p0", 1.999_999_999_999_999_8),
            ("0x10000000000000800000000001p0", 1.267_650_600_228_229_7e30),
            ("0x0p99999", 0.0),
            ("1p99999", f64::INFINITY),
            ("-1p-99999", 0.0),
        ] {
            assert_eq!(scan(text), Some((expected, "")), "{text}");
        }
    }

    #[test]
    fn leaves_what_follows() {
        assert_eq!(scan("1.5.5"), Some((1.5, ".5")));
        assert_eq!(scan("infinity"), Some((f64::INFINITY, "inity")));
        assert_eq!(scan("1e2p3"), Some((100.0, "p3")));
    }

    #[test]
    fn what_is_skipped_is_what_is_read() {
        for text in ["5", "-.5e3 N", "1_0.2p-5x", "0x1p4,", "inf", "nan)", "1e308", "0e999", "1.e-999", "00000.0", "-0"]
        {
            let read = scan(text).map(|(_, rest)| rest);
            assert_eq!(
                (read.is_some(), skip(text), scan_degrees(text).map(|(_, rest)| rest)),
                (true, read, read),
                "{text}"
            );
        }
    }

    #[test]
    fn numbers_of_degrees_are_exact_where_rounding_shows_it() {
        for text in
            ["37.412374", "-122.14586712345678901234567890", "9999.9", "1e-30", "0.00000000000001", "1.5p3", "inf"]
        {
            assert_eq!(scan_degrees(text), scan(text), "{text}");
        }
        let near = |text| scan_degrees(text).map(|(degrees, _)| degrees.to_bits());
        assert_eq!(near("-1.2345677999999993657578129e-300"), Some((-0.0_f64).to_bits()));
        assert_eq!(near("-0e5"), Some((-0.0_f64).to_bits()));
        assert_eq!(near("-10000"), Some(f64::NEG_INFINITY.to_bits()));
    }

    #[test]
    fn refuses_what_go_refuses() {
        for text in [
            "",
            "x",
            "+",
            ".",
            "e5",
            "1e",
            "1e+",
            "1e999",
            "-1e999",
            "+nan",
            "nin",
            "in",
            "_1",
            "1_",
            "1__0",
            "1_.5",
            "1._5",
            "1e_5",
            "1.5P4",
            "1p",
            "1p1_0",
            "1p99999999999999999999",
            "0x",
            "0x1",
            "0xp1",
            "0x.p1",
            "0x1p",
            "0x1p_1",
            "0x1p1024",
            "0x1_p1",
            "0_x1p1",
        ] {
            assert_eq!((scan(text), skip(text)), (None, None), "{text}");
            let degrees = scan_degrees(text).map(|(degrees, _)| degrees.abs());
            assert!(degrees.is_none_or(f64::is_infinite), "{text}");
        }
    }
}
