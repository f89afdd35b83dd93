//! What the configuration counts as coordinates.

use regex::Regex;

use crate::work;

/// The text with `mask` in place of what a configured pattern matches; `None` when it matches nothing.
///
/// To find one match a pattern may look ahead to the end of the text, whatever its form. So that a text with many
/// costs no more than a constant per byte, what follows the last that is looked for is masked with it.
pub(super) fn masked(pattern: &Regex, text: &str, mask: &str) -> Option<String> {
    let mut masked = None;
    let mut done = 0;
    for (before, found) in pattern.find_iter(text).take(MAX_MATCHES).enumerate() {
        work::took(found.end() - done);
        let masked = masked.get_or_insert_with(|| String::with_capacity(text.len() + mask.len()));
        masked.push_str(&text[done..found.start()]);
        masked.push_str(mask);
        done = if before + 1 == MAX_MATCHES { text.len() } else { found.end() };
    }
    masked.as_mut()?.push_str(&text[done..]);
    masked
}

/// Of one pattern in one text.
const MAX_MATCHES: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    fn masked(pattern: &str, text: &str) -> Option<String> {
        super::masked(&Regex::new(pattern).unwrap(), text, "#")
    }

    #[test]
    fn each_match_is_masked_and_nothing_else() {
        assert_eq!(masked("x", "a"), None);
        assert_eq!(masked("x", "a x, xx a").as_deref(), Some("a #, ## a"));
        assert_eq!(masked("depot [0-9]+", "to depot 17").as_deref(), Some("to #"));
    }

    #[test]
    fn a_text_full_of_matches_is_masked_to_its_end() {
        // Looks ahead to the end of the text for each of them.
        let full = |count: usize| masked("x.*z|x", &"x ".repeat(count));
        assert_eq!(full(99), Some("# ".repeat(99)));
        assert_eq!(full(5_000), Some(["# ".repeat(99), "#".into()].concat()));
    }
}
