//! The search as it was first written: one pattern, asked for one match after another. It says the same, and may
//! take the square of the text's length for it, which is why only the tests use it.

use std::ops::Range;
use std::sync::LazyLock;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use regex::Regex;

use super::forms;
use crate::protobuf::location;

/// The coordinates in a text, in order.
fn found(text: &str) -> Vec<Range<usize>> {
    let mut all = Vec::new();
    let mut from = 0;
    while from < text.len() && super::may_have_any(text.as_bytes()) {
        let next = if from == 0 && WHOLE.is_match(text) {
            Some(0..text.len())
        } else {
            let both = [parenthesised(text, from), pattern(text, from)];
            both.into_iter().flatten().min_by_key(|found| found.start)
        };
        let Some(next) = next else { break };
        from = next.end;
        all.push(next);
    }
    all
}

fn parenthesised(text: &str, from: usize) -> Option<Range<usize>> {
    let mut opens = text[from..].match_indices('(').map(|(at, _)| from + at);
    let start = opens.find(|at| location::length(&text[*at..]).is_some())?;
    let end = text[start..].find(')').expect("a location ends with a parenthesis");
    Some(start..start + end + 1)
}

fn pattern(text: &str, mut from: usize) -> Option<Range<usize>> {
    loop {
        let found = ANYWHERE.find_at(text, from)?;
        let before = &text[..found.start()];
        if !before.strip_suffix('.').unwrap_or(before).ends_with(|c: char| c.is_ascii_digit()) {
            return Some(found.range());
        }
        from = found.start() + text[found.start()..].chars().next().map_or(1, char::len_utf8);
    }
}

fn is_member(name: &str, text: &str) -> bool {
    let member = format!("{name}={text}");
    MEMBER.find_iter(&member).any(|found| found.range().contains(&name.len()))
}

static WHOLE: LazyLock<Regex> = LazyLock::new(|| compile(&format!("^{}", forms::nothing_but_a_pair())));

static ANYWHERE: LazyLock<Regex> = LazyLock::new(|| {
    compile(&forms::anywhere().iter().flatten().map(forms::Form::whole).collect::<Vec<_>>().join("|"))
});

static MEMBER: LazyLock<Regex> = LazyLock::new(|| compile(&forms::members().map(|form| form.whole()).join("|")));

fn compile(pattern: &str) -> Regex {
    Regex::new(pattern).unwrap()
}

/// Pieces of every form, of what nearly is one, and of what separates them.
const PIECES: [&str; 76] = [
    "0",
    "1",
    "5",
    "7",
    "9",
    "12",
    "37",
    "99",
    "122",
    "180",
    "181",
    "1234",
    "37.4",
    "37.41",
    "37.4123",
    "-122.14",
    "122,1458",
    ".",
    ",",
    ";",
    ":",
    "/",
    "|",
    "+",
    "-",
    "\u{2212}",
    "=",
    "_",
    " ",
    "  ",
    "\t",
    "\n",
    "(",
    ")",
    "[",
    "]",
    "<",
    ">",
    "'",
    "\"",
    "\\",
    "\u{2032}",
    "\u{2019}",
    "\u{2033}",
    "\u{201d}",
    "°",
    "º",
    "\u{2da}",
    "deg",
    "Deg",
    "degrees",
    "N",
    "S",
    "E",
    "W",
    "n",
    "e",
    "x",
    "é",
    "\u{1f697}",
    "lat",
    "Lat",
    "LON",
    "lng",
    "long",
    "latitude",
    "Longitude",
    "geo:",
    "GEO:1,1",
    "849VCV6X",
    "X8",
    "+X8",
    "3724.742,N",
    "12208.7,W",
    "(37.4 N, 122.1 W)",
    "(inf N, nan E)",
];

fn text() -> impl Strategy<Value = String> {
    vec(select(&PIECES[..]), 0..14).prop_map(|pieces| pieces.concat())
}

/// The same few pieces again and again.
fn repeating() -> impl Strategy<Value = String> {
    (vec(select(&PIECES[..]), 1..6), 1..5_usize, text())
        .prop_map(|(pieces, times, tail)| [pieces.concat().repeat(times), tail].concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(CASES))]

    #[test]
    fn one_pass_finds_what_one_search_after_another_does(text in prop_oneof![text(), repeating()]) {
        prop_assert_eq!(super::Search::new(&text).collect::<Vec<_>>(), found(&text), "{:?}", text);
        prop_assert_eq!(super::are_in(&text), !found(&text).is_empty(), "{:?}", text);
    }

    #[test]
    fn a_name_and_a_number_apart_are_what_they_are_together(name in text(), number in text()) {
        prop_assert_eq!(super::are_member(&name, &number), is_member(&name, &number), "{:?} {:?}", name, number);
    }
}

/// `PROPTEST_CASES` is for all properties alike; this one is worth more.
const CASES: u32 = 20_000;
