//! A place, and all the ways in which a file, a log or a page could show it.

use data_encoding::{BASE64, HEXLOWER};
use fleet_telemetry::proto::vehicle_data::LocationValue;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) latitude: f64,
    pub(crate) longitude: f64,
}

/// Bytes by which a place is recognised.
pub(crate) struct Trace {
    pub(crate) form: &'static str,
    pub(crate) bytes: Vec<u8>,
}

impl Place {
    /// The `n`th place of a region; no two share a coordinate. North of 60 and with three digits of longitude, so that
    /// no time of day looks like it.
    pub(crate) fn new(region: f64, n: u32) -> Self {
        let seven = |degrees: f64| (degrees * 1e7).round() / 1e7;
        let n = f64::from(n);
        Self {
            latitude: seven(60.123_456_7 + region * 10.0 + n * 0.213_761_3),
            longitude: seven(101.234_567_1 + region * 40.0 + n * 0.517_193_1),
        }
    }

    pub(crate) fn value(self) -> LocationValue {
        LocationValue { latitude: self.latitude, longitude: self.longitude }
    }

    pub(crate) fn decimal(self) -> String {
        format!("{:.7},{:.7}", self.latitude, self.longitude)
    }

    pub(crate) fn parenthesised(self) -> String {
        format!("({:.7} N, {:.7} E)", self.latitude, self.longitude)
    }

    pub(crate) fn dms(self) -> String {
        let seconds = |degrees: f64| degrees.fract() * 60.0 % 1.0 * 60.0;
        format!(
            "{}{:.1}\"N {}{:.1}\"E",
            minutes(self.latitude),
            seconds(self.latitude),
            minutes(self.longitude),
            seconds(self.longitude)
        )
    }

    pub(crate) fn json(self) -> String {
        format!("{{\"lat\":{:.7},\"lon\":{:.7}}}", self.latitude, self.longitude)
    }

    /// As vehicles send routes: five decimals, in the format of encoded polylines.
    pub(crate) fn polyline(self) -> String {
        [self.latitude, self.longitude].map(polyline_number).concat()
    }

    pub(crate) fn base64(self) -> String {
        BASE64.encode(self.decimal().as_bytes())
    }

    pub(crate) fn doubles(self) -> Vec<u8> {
        [self.latitude.to_le_bytes(), self.longitude.to_le_bytes()].concat()
    }

    pub(crate) fn traces(self) -> Vec<Trace> {
        let mut traces = Vec::new();
        let mut add = |form, bytes: &[u8]| traces.push(Trace { form, bytes: bytes.to_owned() });
        // JSON escapes backslashes; what is between them is long enough.
        add("polyline", self.polyline().split('\\').max_by_key(|part| part.len()).unwrap().as_bytes());
        add("base64", self.base64().trim_end_matches('=').as_bytes());
        for degrees in [self.latitude, self.longitude] {
            let little = degrees.to_le_bytes();
            add("double", &little);
            add("double, most significant byte first", &degrees.to_be_bytes());
            add("double as numbers", list(&little).as_bytes());
            add("double in hexadecimal", HEXLOWER.encode(&little).as_bytes());
            add("double in base64", base64_within(&little, 0).as_bytes());
            add("double in base64", base64_within(&little, 1).as_bytes());
            add("double in base64", base64_within(&little, 2).as_bytes());
            add("degrees and minutes", minutes(degrees).as_bytes());
            add("ten-millionths", format!("{:.0}", degrees * 1e7).as_bytes());
            add("millionths", format!("{:.0}", degrees * 1e6).as_bytes());
            for decimals in 4..=7 {
                let text = format!("{degrees:.decimals$}");
                add("decimal", text.as_bytes());
                add("decimal in hexadecimal", HEXLOWER.encode(text.as_bytes()).as_bytes());
                add("decimal as numbers", list(text.as_bytes()).as_bytes());
                for before in 0..3 {
                    add("decimal in base64", base64_within(text.as_bytes(), before).as_bytes());
                }
            }
        }
        traces
    }
}

/// `61°07'`.
fn minutes(degrees: f64) -> String {
    format!("{:.0}°{:02.0}'", degrees.trunc(), (degrees.fract() * 60.0).trunc())
}

fn polyline_number(degrees: f64) -> String {
    #[expect(clippy::cast_possible_truncation, reason = "degrees are small")]
    let mut number = ((degrees * 1e5).round() as i64) << 1;
    let mut out = String::new();
    let digit = |value: i64| char::from(u8::try_from(value + 63).unwrap());
    while number >= 0x20 {
        out.push(digit(number & 0x1f | 0x20));
        number >>= 5;
    }
    out.push(digit(number));
    out
}

fn list(bytes: &[u8]) -> String {
    format!("{bytes:?}").trim_matches(['[', ']']).to_owned()
}

/// What base64 makes of `bytes` whatever comes after them and `before` bytes (modulo three) come before.
fn base64_within(bytes: &[u8], before: usize) -> String {
    let whole = BASE64.encode(&[&vec![0; before], bytes].concat());
    let known = (before + bytes.len()) * 8 / 6;
    whole[(before * 8).div_ceil(6)..known].to_owned()
}

#[test]
fn encodings_are_what_their_specifications_say() {
    // The example in the description of the polyline format, with its signs taken off.
    assert_eq!(polyline_number(38.5), "_p~iF");
    assert!(BASE64.encode(b"..61.5,101.5..").contains(&base64_within(b"61.5,101.5", 2)));
    assert!(BASE64.encode(b".61.5,101.5..").contains(&base64_within(b"61.5,101.5", 1)));
    let place = Place { latitude: 61.5125, longitude: 101.25 };
    assert_eq!(place.dms(), "61°30'45.0\"N 101°15'0.0\"E");
}
