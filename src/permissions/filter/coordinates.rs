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

use std::ops::Range;
use std::sync::LazyLock;

use regex::Regex;

use crate::record::transform::location;

/// Whether `text` has coordinates in it.
pub(crate) fn are_in(text: &str) -> bool {
    Search::new(text).next().is_some()
}

/// Whether a member called `name` with the value `text` is a coordinate, though neither is one alone.
pub(crate) fn are_member(name: &str, text: &str) -> bool {
    let member = format!("{name}={text}");
    MEMBER.find_iter(&member).any(|found| found.range().contains(&name.len()))
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
    parenthesised: Form,
    pattern: Form,
}

impl<'t> Search<'t> {
    fn new(text: &'t str) -> Self {
        let form = |find| Form { find, next: Some(0..0) };
        let done = if may_have_any(text.as_bytes()) { 0 } else { text.len() };
        Self { text, done, parenthesised: form(parenthesised), pattern: form(pattern) }
    }
}

impl Iterator for Search<'_> {
    type Item = Range<usize>;

    fn next(&mut self) -> Option<Range<usize>> {
        let (text, from) = (self.text, self.done);
        if from == text.len() {
            return None;
        }
        let found = if from == 0 && WHOLE.is_match(text) {
            0..text.len()
        } else {
            let forms = [self.parenthesised.next(text, from), self.pattern.next(text, from)];
            forms.into_iter().flatten().min_by_key(|found| found.start)?
        };
        self.done = found.end;
        Some(found)
    }
}

/// The next coordinates of one form. Kept while others come before it, so that no part of a text is searched
/// again and again.
struct Form {
    find: fn(&str, usize) -> Option<Range<usize>>,
    /// `None` when there are no more.
    next: Option<Range<usize>>,
}

impl Form {
    fn next(&mut self, text: &str, from: usize) -> Option<Range<usize>> {
        if self.next.as_ref().is_some_and(|next| next.start < from || next.is_empty()) {
            self.next = (self.find)(text, from);
        }
        self.next.clone()
    }
}

/// No form is without a digit and a byte that is neither letter, digit, point nor underscore, except for the
/// parenthesised one, which may be `(inf N, nan E)`. Versions and names get no further than this.
fn may_have_any(text: &[u8]) -> bool {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_');
    !text.iter().all(is_plain) && text.iter().any(|byte| byte.is_ascii_digit() || *byte == b'(')
}

/// Exactly what becomes a location in a record.
fn parenthesised(text: &str, from: usize) -> Option<Range<usize>> {
    let opens = text[from..].match_indices('(').map(|(at, _)| from + at);
    let start = opens.into_iter().find(|at| location::parse(&text[*at..]).is_some())?;
    let end = text[start..].find(')').expect("a location ends with a parenthesis");
    Some(start..start + end + 1)
}

fn pattern(text: &str, mut from: usize) -> Option<Range<usize>> {
    loop {
        let found = ANYWHERE.find_at(text, from)?;
        if !ends_within_number(&text[..found.start()]) {
            return Some(found.range());
        }
        from = found.start() + text[found.start()..].chars().next().map_or(1, char::len_utf8);
    }
}

/// The middle of a longer number is no number; what follows a word and a point is one.
fn ends_within_number(before: &str) -> bool {
    let whole = before.strip_suffix('.').unwrap_or(before);
    whole.ends_with(|c: char| c.is_ascii_digit())
}

/// A text that is a pair and nothing else.
static WHOLE: LazyLock<Regex> = LazyLock::new(|| {
    compile(&format!(
        r"^{BLANK}\[?{BLANK}{SIGN}?{DEGREES}\.[0-9]+{BLANK}[,;|/]{BLANK}{SIGN}?{DEGREES}\.[0-9]+{BLANK}\]?{BLANK}$"
    ))
});

static MEMBER: LazyLock<Regex> = LazyLock::new(|| compile(&member()));

static ANYWHERE: LazyLock<Regex> = LazyLock::new(|| {
    let decimals = |least: usize| format!(r"{SIGN}?{DEGREES}\.[0-9]{{{least},}}");
    let (two, four) = (decimals(2), decimals(4));
    let comma = format!("{SIGN}?{DEGREES},[0-9]{{4,}}");
    let sided = |letters: &str| {
        format!(
            r"(?:{SIGN}?{DEGREES}\.[0-9]+{BLANK}[°º˚]?{BLANK}[{letters}]|[{letters}]{BLANK}{SIGN}?{DEGREES}\.[0-9]+[°º˚]?)"
        )
    };
    let (latitude, longitude) = (sided("NSns"), sided("EWew"));
    let sexagesimal = r"[0-9]{1,3}[ :][0-9]{1,2}[ :][0-9]{1,2}(?:\.[0-9]+)?[ ]?";
    // Of those that start at the same place the first is taken, so the longer ones come first.
    let forms = [
        format!("{latitude}{BLANK}[,;/]?{BLANK}{longitude}"),
        format!("{longitude}{BLANK}[,;/]?{BLANK}{latitude}"),
        format!(r"{two}{SIDE}{QUOTES}{BLANK}[,;|]{BLANK}{QUOTES}{two}"),
        format!("{four}{SIDE}(?:[ \t]+|{BLANK}/{BLANK}){four}"),
        format!("{comma}(?:[ \t]+|{BLANK};{BLANK}){comma}"),
        // ISO 6709.
        r"[+\-][0-9]{2}\.[0-9]{2,}[+\-][0-9]{3}\.[0-9]{2,}(?:[+\-][0-9.]+)?/?".into(),
        format!(r"{SIGN}?{DEGREES}\.[0-9]+{BLANK}[°º˚]{}", second()),
        format!(
            r"(?:[NSEWnsew]{BLANK})?{SIGN}?[0-9]{{1,3}}{BLANK}(?:°|º|˚|(?i-u:deg)){BLANK}[0-9]{{1,2}}(?:\.[0-9]+)?{BLANK}['′’](?:{BLANK}[0-9]{{1,2}}(?:\.[0-9]+)?{BLANK}(?:''|[\x22″”])?)?(?:{BLANK}[NSEWnsew](?-u:\b))?"
        ),
        format!(r"{sexagesimal}[NS](?-u:\b)[,; ]*{sexagesimal}[EW](?-u:\b)"),
        member(),
        format!(
            r"(?i-u:(?-u:\b)geo:){SIGN}?[0-9]{{1,3}}(?:\.[0-9]+)?,{SIGN}?[0-9]{{1,3}}(?:\.[0-9]+)?[^\t\n\r \x22'<>]*"
        ),
        r"[0-9]{4,5}\.[0-9]+,[NS],[0-9]{4,5}\.[0-9]+,[EW]".into(),
        r"(?-u:\b)[23456789CFGHJMPQRVWX]{8}\+[23456789CFGHJMPQRVWX]{2,7}(?-u:\b)".into(),
    ];
    compile(&forms.join("|"))
});

/// `lat`, `lng`, `gps_latitude`, `destLongitude` and a number. A space alone separates only a number with
/// decimals, and `long` needs more than a space, being a word.
fn member() -> String {
    let name = "(?:(?i-u:latitude|longitude)|(?:(?-u:\\b)|_)(?i-u:lat|lon|lng)|Lat|Lon|Lng)(?i-u:_?deg(?:rees)?)?";
    let long = "(?:(?-u:\\b)|_)(?i-u:long)";
    let mark = r"[\x22'\\]{0,4}[ \t]*[:=][ \t]*[\x22'\\]{0,4}";
    let number = format!("{SIGN}?[0-9]{{1,3}}");
    let second = second();
    format!(r"(?:{name}|{long}){mark}{number}(?:[.,][0-9]+)?{second}|{name}[ \t]+{number}\.[0-9]+{second}")
}

/// The other half after a first one that stands for itself: `lat/lon: 37.41, -122.14`.
fn second() -> String {
    format!(r"(?:{SIDE}{QUOTES}(?:{BLANK}[,;|/]{BLANK}|[ \t]+){QUOTES}{SIGN}?{DEGREES}\.[0-9]{{2,}})?")
}

/// At most 180.
const DEGREES: &str = "(?:1[0-7][0-9]|180|[0-9]{1,2})";
const SIGN: &str = r"[+\-−]";
const BLANK: &str = "[ \t]*";
/// JSON's, and JSON's within a JSON string.
const QUOTES: &str = r"[\x22'\\]{0,2}";
const SIDE: &str = "(?:[ \t]*[°º˚])?(?:[ \t]*[NSEWnsew])?";

fn compile(pattern: &str) -> Regex {
    Regex::new(pattern).expect("the patterns are constants that the tests compile")
}

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

    #[test]
    fn the_time_does_not_grow_with_the_square_of_the_length() {
        let near_misses = "1.1.25,".repeat(20_000);
        let two_forms = ["37.41,-122.14 ".repeat(20_000), "(".repeat(100_000)].concat();
        let far_apart = ["(1 N, 2 E) ".repeat(20_000), "x ".repeat(100_000), "37.41,-122.14".into()].concat();
        let started = std::time::Instant::now();
        for text in [near_misses, two_forms, far_apart] {
            masked(&text);
        }
        assert!(started.elapsed().as_secs() < 30, "a second where nothing else runs");
    }
}
