//! JSON tokens as Go's encoders write them.

use std::fmt::{Display, Write};

use crate::work;

/// An object under construction.
pub(crate) struct Object<'a> {
    out: &'a mut String,
    empty: bool,
}

impl<'a> Object<'a> {
    pub(crate) fn open(out: &'a mut String) -> Self {
        out.push('{');
        Self { out, empty: true }
    }

    /// Begins a member; the caller writes its value to what this returns. [`member`] has the argument: the name as it
    /// is written behind another member.
    #[inline(always)]
    #[allow(clippy::inline_always)] // a constant: copying it is a few instructions where its length is known
    pub(crate) fn member_behind(&mut self, comma_name_colon: &'static str) -> &mut String {
        let start = usize::from(std::mem::replace(&mut self.empty, false));
        self.out.push_str(&comma_name_colon[start..]);
        self.out
    }

    /// The same with a name that is not a literal.
    pub(crate) fn member(&mut self, name: &str) -> &mut String {
        self.member_with(|out| plain_string(out, name))
    }

    /// Begins a member whose name `write_name` writes, quotes and all.
    #[inline]
    pub(crate) fn member_with(&mut self, write_name: impl FnOnce(&mut String)) -> &mut String {
        separate(self.out, &mut self.empty);
        write_name(self.out);
        self.out.push(':');
        self.out
    }

    pub(crate) fn close(self) {
        self.out.push('}');
    }
}

/// Begins a member of an [`Object`], whose name is a literal that needs no escaping; the caller writes its value to
/// what this returns.
macro_rules! member {
    ($object:expr, $name:literal) => {
        $object.member_behind(concat!(",\"", $name, "\":"))
    };
}
pub(crate) use member;

/// A list under construction.
pub(crate) struct List<'a> {
    out: &'a mut String,
    empty: bool,
}

impl<'a> List<'a> {
    pub(crate) fn open(out: &'a mut String) -> Self {
        out.push('[');
        Self { out, empty: true }
    }

    /// Begins an item; the caller writes it to what this returns.
    pub(crate) fn item(&mut self) -> &mut String {
        separate(self.out, &mut self.empty);
        self.out
    }

    pub(crate) fn close(self) {
        self.out.push(']');
    }
}

#[inline]
fn separate(out: &mut String, empty: &mut bool) {
    if !std::mem::replace(empty, false) {
        out.push(',');
    }
}

/// An object of booleans: pairs of a name, which needs no escaping, and a value. Each pair is one constant, because a
/// message of a megabyte can have over a million of them written.
macro_rules! flags {
    ($out:expr, { $first:literal: $is_first:expr, $($name:literal: $is_set:expr),+ $(,)? }) => {{
        let out: &mut String = $out;
        out.push_str(if $is_first { concat!("{\"", $first, "\":true") } else { concat!("{\"", $first, "\":false") });
        $(out.push_str(if $is_set { concat!(",\"", $name, "\":true") } else { concat!(",\"", $name, "\":false") });)+
        out.push('}');
    }};
}
pub(crate) use flags;

/// A string that needs no escaping, such as a name of the schema.
#[inline]
pub(crate) fn plain_string(out: &mut String, text: &str) {
    out.push('"');
    out.push_str(text);
    out.push('"');
}

/// A string with the escapes that JSON demands.
pub(crate) fn string(out: &mut String, text: &str) {
    quoted(out, text, |byte| byte < b' ' || matches!(byte, b'"' | b'\\'));
}

/// A string that is also safe in a log: escapes what Go's encoder escapes for the sake of web pages (`<`, `>`, `&`,
/// line separators), and the control characters that terminals obey.
pub(crate) fn log_safe_string(out: &mut String, text: &str) {
    let special =
        |byte| byte < b' ' || matches!(byte, b'"' | b'\\' | b'<' | b'>' | b'&' | DELETE | C1_LEAD | FORMAT_LEAD);
    quoted(out, text, special);
}

const DELETE: u8 = 0x7f;

/// The first byte in UTF-8 of U+0080 to U+009F (and of others, which pass as they are).
const C1_LEAD: u8 = 0xc2;

/// The first byte in UTF-8 of line separators and of controls of the writing direction (and of others).
const FORMAT_LEAD: u8 = 0xe2;

/// `special` is true for the first byte of every character that may need an escape, and for no byte that
/// continues a character.
fn quoted(out: &mut String, text: &str, special: impl Fn(u8) -> bool) {
    work::took(text.len());
    out.push('"');
    let mut rest = text;
    while let Some(at) = rest.bytes().position(&special) {
        let (plain, tail) = rest.split_at(at);
        let mut characters = tail.chars();
        out.push_str(plain);
        characters.by_ref().take(1).for_each(|character| escape(out, character));
        rest = characters.as_str();
    }
    out.push_str(rest);
    out.push('"');
}

const HEX_DIGITS: &[u8; 16] = b"0123456789abcdef";

/// All that is escaped by number is below U+10000.
fn escape(out: &mut String, character: char) {
    match character {
        '"' => out.push_str("\\\""),
        '\\' => out.push_str("\\\\"),
        '\u{8}' => out.push_str("\\b"),
        '\u{c}' => out.push_str("\\f"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        '\0'..='\u{1f}' | '<' | '>' | '&' | '\u{7f}'..='\u{9f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
            out.push_str("\\u");
            let digit = |shift: u32| HEX_DIGITS[(u32::from(character) >> shift & 0xf) as usize];
            out.extend([12, 8, 4, 0].map(|shift| char::from(digit(shift))));
        }
        other => out.push(other),
    }
}

pub(crate) fn boolean(out: &mut String, value: bool) {
    out.push_str(if value { "true" } else { "false" });
}

pub(crate) fn integer(out: &mut String, value: impl itoa::Integer) {
    out.push_str(itoa::Buffer::new().format(value));
}

/// The shortest digits that give the same `f64` again; not a number and infinities as strings.
pub(crate) fn float64(out: &mut String, value: f64) {
    if !value.is_finite() {
        return non_finite(out, value);
    }
    let exponential = value != 0.0 && !(1e-6..1e21).contains(&value.abs());
    float(out, exponential, ryu::Buffer::new().format_finite(value));
}

/// The shortest digits that give the same `f32` again; not a number and infinities as strings.
pub(crate) fn float32(out: &mut String, value: f32) {
    if !value.is_finite() {
        return non_finite(out, value.into());
    }
    let exponential = value != 0.0 && !(1e-6..1e21).contains(&value.abs());
    float(out, exponential, ryu::Buffer::new().format_finite(value));
}

/// `shortest` is in ryu's notation, whose limits for the exponent form are narrower than Go's. Its digits are Go's,
/// also where two numbers are equally near. The standard library has others then, and takes ten times as long for
/// numbers that are chosen for it.
fn float(out: &mut String, exponential: bool, shortest: &str) {
    match shortest.split_once('e') {
        Some((digits, exponent)) if exponential => {
            let sign = if exponent.starts_with('-') { "" } else { "+" };
            out.extend([digits, "e", sign, exponent]);
        }
        Some((digits, exponent)) => {
            let (sign, digits) = digits.strip_prefix('-').map_or(("", digits), |digits| ("-", digits));
            out.push_str(sign);
            without_exponent(out, digits, exponent.parse().expect("ryu writes a number"));
        }
        None => out.push_str(shortest.strip_suffix(".0").unwrap_or(shortest)),
    }
}

/// One digit stands before the point in `digits`, and so many zeros are missing that none of the others comes after it.
fn without_exponent(out: &mut String, digits: &str, exponent: i32) {
    let (first, others) = digits.split_once('.').unwrap_or((digits, ""));
    let zeros = |count: i32| std::iter::repeat_n('0', usize::try_from(count).unwrap_or(0));
    if exponent < 0 {
        out.push_str("0.");
        out.extend(zeros(-exponent - 1));
        out.extend([first, others]);
    } else {
        out.extend([first, others]);
        out.extend(zeros(exponent - others.len() as i32));
    }
}

fn non_finite(out: &mut String, value: f64) {
    let name = match value {
        f64::INFINITY => "Infinity",
        f64::NEG_INFINITY => "-Infinity",
        _ => "NaN",
    };
    plain_string(out, name);
}

pub(crate) fn display(out: &mut String, value: impl Display) {
    write!(out, "{value}").expect("writing to a string does not fail");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written<T>(write: fn(&mut String, T), value: T) -> String {
        let mut out = String::new();
        write(&mut out, value);
        out
    }

    #[test]
    fn doubles_take_the_exponent_form_where_go_does() {
        for (value, text) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (5.0, "5"),
            (-75.25, "-75.25"),
            (0.1 + 0.2, "0.30000000000000004"),
            (1e-5, "0.00001"),
            (1.5e-6, "0.0000015"),
            (1e-6, "0.000001"),
            (9.999e-7, "9.999e-7"),
            (1.25e-10, "1.25e-10"),
            (5e-324, "5e-324"),
            (1e15, "1000000000000000"),
            (123_456_789_012_345_678_900.0, "123456789012345680000"),
            (1e21, "1e+21"),
            (-1.5e300, "-1.5e+300"),
            (f64::MAX, "1.7976931348623157e+308"),
            (f64::NAN, "\"NaN\""),
            (f64::INFINITY, "\"Infinity\""),
            (f64::NEG_INFINITY, "\"-Infinity\""),
        ] {
            assert_eq!(written(float64, value), text);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        #[test]
        fn numbers_have_as_few_digits_as_give_them_again(bits: u64, digits in 1..1_000_000_u32, power in -12..25_i32) {
            let near = f64::from(digits) * 10_f64.powi(power - 5);
            for double in [f64::from_bits(bits), near] {
                let single = double as f32;
                if double.is_finite() {
                    let plain = double == 0.0 || (1e-6..1e21).contains(&double.abs());
                    let shortest = if plain { double.to_string() } else { format!("{double:e}") };
                    let written = written(float64, double);
                    prop_assert_eq!(written.parse::<f64>().map(f64::to_bits), Ok(double.to_bits()));
                    prop_assert_eq!(written.replace('+', "").len(), shortest.len(), "{} {}", written, shortest);
                }
                if single.is_finite() {
                    let plain = single == 0.0 || (1e-6..1e21).contains(&single.abs());
                    let shortest = if plain { single.to_string() } else { format!("{single:e}") };
                    let written = written(float32, single);
                    prop_assert_eq!(written.parse::<f32>().map(f32::to_bits), Ok(single.to_bits()));
                    prop_assert_eq!(written.replace('+', "").len(), shortest.len(), "{} {}", written, shortest);
                }
            }
        }
    }

    #[test]
    fn floats_have_the_digits_of_their_own_width() {
        for (value, text) in [
            (0.1, "0.1"),
            (16_777_216.0, "16777216"),
            (1e-6, "0.000001"),
            (9e-7, "9e-7"),
            (123_456_790_000_000_000_000.0, "123456790000000000000"),
            (1e21, "1e+21"),
            (f32::MAX, "3.4028235e+38"),
            (f32::NAN, "\"NaN\""),
            (f32::NEG_INFINITY, "\"-Infinity\""),
        ] {
            assert_eq!(written(float32, value), text);
        }
    }

    #[test]
    fn strings_are_escaped_as_little_as_json_allows() {
        let text = "a\"\\\u{8}\u{c}\n\r\t\0\u{1f}\u{7f}<>&\u{2028}€é🚗";
        let escaped = "\"a\\\"\\\\\\b\\f\\n\\r\\t\\u0000\\u001f\u{7f}<>&\u{2028}€é🚗\"";
        assert_eq!(written(string, text), escaped);
    }

    #[test]
    fn strings_for_logs_escape_markup_and_what_terminals_obey() {
        let text = "<b>&\u{2028}\u{2029}\u{202e}\u{2066}\u{7f}\u{9b}\u{a0}\u{2027}€";
        let escaped = concat!(r#""\u003cb\u003e\u0026\u2028\u2029\u202e\u2066\u007f\u009b"#, "\u{a0}\u{2027}€\"");
        assert_eq!(written(log_safe_string, text), escaped);
    }
}
