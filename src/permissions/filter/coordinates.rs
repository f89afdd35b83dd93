//! Coordinates in text.
//!
//! Looked for only in what vehicles without the permission send, so a false alarm costs little and a miss
//! costs a place: what is found are
//!
//! | form | example |
//! |---|---|
//! | parenthesised, as old firmware sends it | `(37.412374 N, 122.145867 W)` |
//! | decimal pair, in either order | `37.412374,-122.145867`, `37.4124 -122.1459`, `+37.412374-122.145867/` |
//! | with letters or degree signs | `N37.41 W122.14`, `37.41° N, 122.14° W` |
//! | degrees, minutes, seconds | `37°24'44.5"N 122°08'45.1"W`, `37 24 44.5 N, 122 08 45.1 W` |
//! | named members, JSON too | `lat 37.4 lon -122.1`, `{"lat":37,"lng":-122}`, `gps_latitude=37.4` |
//! | `geo:` URI | `geo:37.412374,-122.145867;u=35` |
//! | NMEA | `3724.742,N,12208.752,W` |
//! | plus code | `849VCV6X+X8` |
//!
//! A pair in running text needs two decimals (a kilometre), four when only spaces or a slash separate it; a
//! text that is nothing but a pair needs one. Encoded polylines, base64 and names of places look like any
//! other text and are known only by their field.
//!
//! The work is linear in the length of the text, whatever it says: see `automata`.

mod automata;
mod forms;
#[cfg(test)]
mod oracle;

use std::ops::{ControlFlow, Range};
use std::sync::LazyLock;

use crate::protobuf::location;
use crate::work;
use automata::{Ends, Starts};

/// Makes the automata, which takes some ten milliseconds, so that no vehicle waits for them.
pub(crate) fn prepare() {
    LazyLock::force(&NOTHING_BUT_A_PAIR);
    LazyLock::force(&ANYWHERE);
    LazyLock::force(&MEMBER);
}

/// Whether `text` has coordinates in it.
pub(crate) fn are_in(text: &str) -> bool {
    may_have_any(text.as_bytes())
        && (is_nothing_but_a_pair(text)
            || parenthesised(text, 0).is_some()
            || ANYWHERE.starts(text, |_| ControlFlow::Break(())))
}

/// Whether a member called `name` with the value `text` is a coordinate, though neither is one alone.
pub(crate) fn are_member(name: &str, text: &str) -> bool {
    MEMBER.number.end(text.as_bytes(), 0).is_some() && MEMBER.name.each(name.as_bytes(), |_| ControlFlow::Break(()))
}

/// Appends `text` to `out` with `mask` in place of coordinates; returns whether there were any.
pub(crate) fn mask(text: &str, mask: &str, out: &mut String) -> bool {
    let mut done = 0;
    for found in Search::new(text) {
        out.push_str(&text[done..found.start]);
        out.push_str(mask);
        done = found.end;
    }
    out.push_str(&text[done..]);
    done > 0
}

/// The coordinates in a text, in order; ranges are not empty and do not overlap.
struct Search<'t> {
    text: &'t str,
    done: usize,
    /// The next in parentheses; an empty range before the first, `None` when there are no more.
    parenthesised: Option<Range<usize>>,
    /// Where others start, the last place first.
    starts: Vec<usize>,
}

impl<'t> Search<'t> {
    fn new(text: &'t str) -> Self {
        let mut starts = Vec::new();
        let mut done = text.len();
        if may_have_any(text.as_bytes()) {
            done = 0;
            ANYWHERE.starts(text, |start| {
                starts.push(start);
                ControlFlow::Continue(())
            });
        }
        Self { text, done, parenthesised: Some(0..0), starts }
    }

    /// The next in parentheses. Kept while others come before it, so that no part of a text is searched again.
    fn parenthesised(&mut self, from: usize) -> Option<Range<usize>> {
        if self.parenthesised.as_ref().is_some_and(|next| next.start < from || next.is_empty()) {
            self.parenthesised = parenthesised(self.text, from);
        }
        self.parenthesised.clone()
    }

    /// Where the next of another form starts.
    fn start(&mut self, from: usize) -> Option<usize> {
        while self.starts.pop_if(|start| *start < from).is_some() {}
        self.starts.last().copied()
    }
}

impl Iterator for Search<'_> {
    type Item = Range<usize>;

    fn next(&mut self) -> Option<Range<usize>> {
        let from = self.done;
        if from == self.text.len() {
            return None;
        }
        let found = if from == 0 && is_nothing_but_a_pair(self.text) {
            0..self.text.len()
        } else {
            match (self.parenthesised(from), self.start(from)) {
                (Some(found), start) if start.is_none_or(|start| found.start < start) => found,
                (_, start) => {
                    let start = start?;
                    // What starts ends somewhere. Were it not so, the rest would be withheld.
                    start..ANYWHERE.ends.end(self.text.as_bytes(), start).unwrap_or(self.text.len())
                }
            }
        };
        self.done = found.end;
        Some(found)
    }
}

/// No form is without a digit and a byte that is neither letter, digit, point nor underscore, except for the
/// parenthesised one, which may be `(inf N, nan E)`. Versions and names get no further than this.
fn may_have_any(text: &[u8]) -> bool {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_');
    work::took(text.len());
    !text.iter().all(is_plain) && text.iter().any(|byte| byte.is_ascii_digit() || *byte == b'(')
}

/// Exactly what becomes a location in a record. No number has a parenthesis in it, so no byte is looked at for two
/// of them.
fn parenthesised(text: &str, from: usize) -> Option<Range<usize>> {
    let mut opens = text[from..].match_indices('(').map(|(at, _)| from + at);
    let found = opens.find_map(|start| Some(start..start + location::length(&text[start..])?));
    work::took(found.as_ref().map_or(text.len(), |found| found.end) - from);
    found
}

fn is_nothing_but_a_pair(text: &str) -> bool {
    NOTHING_BUT_A_PAIR.end(text.as_bytes(), 0).is_some()
}

static NOTHING_BUT_A_PAIR: LazyLock<Ends> = LazyLock::new(|| Ends::new(&[forms::nothing_but_a_pair()]));

/// Coordinates that may stand anywhere in a text.
struct Anywhere {
    starts: Starts<4>,
    ends: Ends,
}

static ANYWHERE: LazyLock<Anywhere> = LazyLock::new(|| {
    let forms = forms::anywhere();
    let least = forms.each_ref().map(|group| group.iter().map(|form| form.least.clone()).collect::<Vec<_>>());
    let whole: Vec<_> = forms.iter().flatten().map(forms::Form::whole).collect();
    Anywhere { starts: Starts::new(least.each_ref().map(Vec::as_slice)), ends: Ends::new(&whole) }
});

impl Anywhere {
    /// Tells `found` where they start, the last place first, until it has enough. Whether it had.
    fn starts(&self, text: &str, mut found: impl FnMut(usize) -> ControlFlow<()>) -> bool {
        let text = text.as_bytes();
        self.starts.each(text, |start| match ends_within_number(&text[..start]) {
            true => ControlFlow::Continue(()),
            false => found(start),
        })
    }
}

/// The middle of a longer number is no number; what follows a word and a point is one.
fn ends_within_number(before: &[u8]) -> bool {
    let whole = before.strip_suffix(b".").unwrap_or(before);
    whole.last().is_some_and(u8::is_ascii_digit)
}

/// A name and a number that are given apart.
struct Member {
    name: Starts<1>,
    number: Ends,
}

static MEMBER: LazyLock<Member> = LazyLock::new(|| Member {
    name: Starts::new([&[forms::member_name()]]),
    number: Ends::new(&[forms::member_number()]),
});

#[cfg(test)]
mod tests {
    use super::*;

    fn masked(text: &str) -> String {
        let mut out = String::new();
        let found = mask(text, "#", &mut out);
        assert_eq!(found, are_in(text), "{text}");
        out
    }

    #[test]
    fn every_form_is_found_whole() {
        for text in [
            "(37.412374 N, 122.145867 W)",
            "(inf N, nan E)",
            "(0x1p4 N,  1_5e0 W)",
            "37.4,-122.1",
            "37.412374, -122.145867",
            "[-122.1,37.4]",
            "37.412374;-122.145867",
            "-122.145867 37.412374",
            "37,412374; -122,145867",
            "+37.412374-122.145867/",
            "37.412374/-122.145867",
            "N37.41 W122.14",
            "37.41 N, 122.14 W",
            "37.412374° N, 122.145867° W",
            "-37.412374°",
            "37°24'44.5\"N",
            "37° 24.742′ N",
            "37 24 44.5 N, 122 08 45.1 W",
            "37:24:44.5N 122:08:45.1W",
            "latitude=37",
            "lat 37.4",
            "geo:37,-122",
            "geo:37.412374,-122.145867;u=35",
            "3724.742,N,12208.752,W",
            "849VCV6X+X8",
        ] {
            assert_eq!(masked(text), "#", "{text}");
        }
    }

    #[test]
    fn coordinates_in_running_text_are_masked_and_the_rest_stays() {
        for (text, expected) in [
            ("37°24'44.5\"N 122°08'45.1\"W", "# #"),
            ("lat 37.4 lon -122.1", "# #"),
            ("{'lat':37.412374,'lon':-122.145867}", "{'#,'#}"),
            (r#"{"latitude": 37.4}"#, r##"{"#}"##),
            (r#"{\"gpsLat\": \"37.4\", \"ts\": 5}"#, r#"{\"gps#\", \"ts\": 5}"#),
            (r#"{"coordinates":[-122.145867,37.412374]}"#, r#"{"coordinates":[#]}"#),
            ("geofence at 37.412374,-122.145867: left", "geofence at #: left"),
            ("at (37.412374 N, 122.145867 W) (ok)", "at # (ok)"),
            ("from 37.41,-122.14 to 37.55,-122.27", "from # to #"),
            ("https://maps.example/?q=37.412374,-122.145867&z=9", "https://maps.example/?q=#&z=9"),
            ("$GPGGA,123519,3724.742,N,12208.752,W,1,08", "$GPGGA,123519,#,1,08"),
            ("lat/lon: 37.41/-122.14 (gps)", "lat/# (gps)"),
            ("lat,lon=37.412374,-122.145867", "lat,#"),
            (r#"["37.412374", "-122.145867"]"#, r##"["#"]"##),
            ("37.412374N,-122.145867 ok", "# ok"),
            ("37.41°, -122.14 ok", "# ok"),
            ("é 37.4124 -122.1459 é", "é # é"),
            ("place.37.412374,-122.145867", "place.#"),
        ] {
            assert_eq!(masked(text), expected, "{text}");
        }
    }

    #[test]
    fn ordinary_text_is_no_location() {
        for text in [
            "",
            "2024.44.25",
            "2025.44.25.5",
            "2025.44.25, 2025.44.32.20",
            "develop-2024.8.7 3.55",
            "12:30:00",
            "10:30:00 EST",
            "2026-01-02T03:04:05.123456Z",
            "1767323045.123456",
            "Ada's car",
            "Model 3 (2021)",
            "KITT (Trans Am, black)",
            "1.5, 2.5 and 3.5",
            "2.9 2.9 3.0 3.0",
            "353.1",
            "-12.40000",
            "353.10, 412.40",
            "too long 5 seconds",
            "lateral: 5",
            "flat 3.5",
            "latency 12.5 ms",
            "later=5",
            "10.0.0.1, 10.0.0.2",
            "192.168.90.100:443",
            "1, 2, 3",
            "speed 65 W",
            "5YJ3E1EA7JF000001",
            "4a2ad23f-6b28-4d04-8d32-43c9e0c4e1a6",
            "6/8 (75 %)",
            "72°F",
            "It's 5'11\"",
        ] {
            assert_eq!(masked(text), text);
        }
    }

    #[test]
    fn a_name_makes_a_number_a_coordinate() {
        assert!(are_member("lat", "37.412374"));
        assert!(are_member("gps_longitude", "-122"));
        assert!(!are_member("latency", "12.5"));
        assert!(!are_member("lat", "unknown"));
        assert!(!are_member("lat=5", "7"));
    }
}
