//! Makes what a peer sent safe to print.

use std::fmt::Write;

use crate::work;

/// Text that can neither break a line, nor a terminal, nor fill the disk.
///
/// Printable UTF-8 stays. Control characters and those that reorder or hide text become `\n`, `\u{…}`
/// or the like, invalid bytes `\xNN`. The result is cut to at most `max` bytes, followed by `…` if
/// anything is missing.
#[must_use]
pub fn escape(bytes: &[u8], max: usize) -> String {
    let mut out = String::with_capacity(bytes.len().min(max));
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if !push_within(&mut out, max, |piece| push_char(piece, c)) {
                return out;
            }
        }
        for byte in chunk.invalid() {
            if !push_within(&mut out, max, |piece| push_byte(piece, *byte)) {
                return out;
            }
        }
    }
    out
}

/// Appends one whole piece, or `…` when it does not fit.
fn push_within(out: &mut String, max: usize, push: impl FnOnce(&mut String)) -> bool {
    let before = out.len();
    work::took(1);
    push(out);
    if out.len() <= max {
        return true;
    }
    out.truncate(before);
    out.push('…');
    false
}

fn push_char(out: &mut String, c: char) {
    if is_unprintable(c) { out.extend(c.escape_default()) } else { out.push(c) }
}

fn push_byte(out: &mut String, byte: u8) {
    // Writing to a string cannot fail.
    let _ = write!(out, "\\x{byte:02x}");
}

/// Control characters, line separators, and marks that change the direction or hide in the text.
pub(crate) fn is_unprintable(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn keeps_printable_text() {
        assert_eq!(escape("Model Y / µ, \"né\" \\ 車".as_bytes(), 100), "Model Y / µ, \"né\" \\ 車");
    }

    #[test]
    fn escapes_what_could_forge_or_hide_text() {
        assert_eq!(escape(b"a\nb\r\t\x1b[31m\0\xff\xc3", 100), r"a\nb\r\t\u{1b}[31m\u{0}\xff\xc3");
        assert_eq!(escape("\u{202e}\u{85}\u{2028}".as_bytes(), 100), r"\u{202e}\u{85}\u{2028}");
    }

    #[test]
    fn cuts_between_whole_characters() {
        assert_eq!(escape(b"abcdef", 6), "abcdef");
        assert_eq!(escape(b"abcdef", 5), "abcde…");
        assert_eq!(escape("né".as_bytes(), 2), "n…");
        assert_eq!(escape(b"a\n", 2), "a…");
        assert_eq!(escape(b"a", 0), "…");
        assert_eq!(escape(b"", 0), "");
    }

    proptest! {
        #[test]
        fn is_always_short_and_printable(bytes: Vec<u8>, max in 0_usize..64) {
            let text = escape(&bytes, max);
            prop_assert!(text.len() <= max + '…'.len_utf8());
            prop_assert!(!text.chars().any(is_unprintable));
        }
    }
}
