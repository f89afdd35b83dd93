//! Topic names, whose levels may come from a vehicle.

use std::borrow::Cow;
use std::fmt::Write as _;

use xxhash_rust::xxh3::xxh3_64;

/// Bytes of a level at most, escaped. A topic has 65,535 at most, and brokers often less.
const MOST: usize = 512;
/// What stands at the end of a level that was cut: a tilde and a hash of the whole, so that two of them stay two.
const CUT: usize = 1 + 16;

/// `text` as one level of a topic. What separates levels, what subscribers match many with, and what brokers close a
/// connection for (control characters, code points that are no characters) is percent-encoded, and so is `%`, so that
/// no two texts become one. Longer ones than [`MOST`] are cut.
pub(super) fn level(text: &str) -> Cow<'_, str> {
    let escaped = match text.contains(is_special) {
        false => Cow::Borrowed(text),
        true => Cow::Owned(escaped(text)),
    };
    if escaped.len() <= MOST {
        return escaped;
    }
    let mut end = MOST - CUT;
    // Neither within a character nor within an escape.
    while !escaped.is_char_boundary(end) || escaped[..end].ends_with('%') || is_within_escape(&escaped[..end]) {
        end -= 1;
    }
    Cow::Owned(format!("{}~{:016x}", &escaped[..end], xxh3_64(text.as_bytes())))
}

fn is_special(c: char) -> bool {
    let is_no_character = u32::from(c) & 0xfffe == 0xfffe || ('\u{fdd0}'..='\u{fdef}').contains(&c);
    matches!(c, '/' | '+' | '#' | '%') || c.is_control() || is_no_character
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_special(c) {
            let mut bytes = [0; 4];
            for byte in c.encode_utf8(&mut bytes).bytes() {
                write!(out, "%{byte:02X}").expect("writing to a string does not fail");
            }
        } else {
            out.push(c);
        }
    }
    out
}

/// Whether `text` ends with a percent sign and one digit: every percent sign in it starts an escape.
fn is_within_escape(text: &str) -> bool {
    text.len().checked_sub(2).is_some_and(|at| text.as_bytes()[at] == b'%')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ordinary_names_stay_as_they_are() {
        for name in ["", "UI_a002", "5YJ3E1EA1KF000001", "with spaces, \"quotes\" and ü", "$x", "a.b-c_d"] {
            assert_eq!(level(name), name);
        }
    }

    #[test]
    fn what_would_change_or_break_a_topic_is_escaped() {
        for (name, expected) in [
            ("a/b#c", "a%2Fb%23c"),
            ("+", "%2B"),
            ("100%", "100%25"),
            ("\0\n\u{7f}\u{9b}", "%00%0A%7F%C2%9B"),
            ("\u{ffff}\u{fdd0}\u{1fffe}", "%EF%BF%BF%EF%B7%90%F0%9F%BF%BE"),
        ] {
            assert_eq!(level(name), expected);
        }
    }

    #[test]
    fn long_names_are_cut_and_stay_apart() {
        let (a, b) = (level(&"x".repeat(600)).into_owned(), level(&"x".repeat(601)).into_owned());
        assert_eq!(a.len(), MOST);
        assert!(a != b && a[..MOST - CUT] == b[..MOST - CUT], "{a} {b}");
        assert_eq!(level(&"x".repeat(MOST)), "x".repeat(MOST));
    }

    proptest! {
        #[test]
        fn any_text_is_one_level_that_any_broker_takes(text in ".{0,300}", shift in 0..3_usize) {
            let text = format!("{}{text}", "/".repeat(shift + 100));
            let level = level(&text);
            prop_assert!(level.len() <= MOST);
            let is_good = |c: char| c == '%' || !is_special(c);
            prop_assert!(level.chars().all(is_good), "{}", level);
            let (level, _) = level.split_once('~').filter(|_| level.len() > MOST - CUT - 4).unwrap_or((&level, ""));
            for escape in level.split('%').skip(1) {
                prop_assert!(escape.len() >= 2 && escape.as_bytes()[..2].iter().all(u8::is_ascii_hexdigit), "{}", level);
            }
        }
    }
}
