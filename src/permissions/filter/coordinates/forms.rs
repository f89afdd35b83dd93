//! The forms of coordinates, as regular expressions.

/// A form in two parts.
pub(super) struct Form {
    /// The least that is one. Its length is bounded but for digits and blanks.
    pub(super) least: String,
    /// What belongs to it, too, where it follows; may be nothing.
    pub(super) rest: String,
}

impl Form {
    pub(super) fn whole(&self) -> String {
        format!("{}{}", self.least, self.rest)
    }
}

fn form(least: impl Into<String>, rest: impl Into<String>) -> Form {
    Form { least: least.into(), rest: rest.into() }
}

/// A text that is a pair and nothing else.
pub(super) fn nothing_but_a_pair() -> String {
    format!(r"{BLANK}\[?{BLANK}{SIGN}?{DEGREES}\.[0-9]+{BLANK}[,;|/]{BLANK}{SIGN}?{DEGREES}\.[0-9]+{BLANK}\]?{BLANK}$")
}

/// What may stand anywhere in a text. Of those that start at the same place the first is taken, so the longer ones
/// come first. Grouped by what they begin with and have in common, see [`super::automata::Starts`].
pub(super) fn anywhere() -> [Vec<Form>; 4] {
    [sided(), pairs(), sexagesimal(), named()]
}

fn sided() -> Vec<Form> {
    let number = |letters: &str| {
        format!(
            r"(?:{SIGN}?{DEGREES}\.[0-9]+{BLANK}[°º˚]?{BLANK}[{letters}]|[{letters}]{BLANK}{SIGN}?{DEGREES}\.[0-9]+[°º˚]?)"
        )
    };
    let (latitude, longitude) = (number("NSns"), number("EWew"));
    vec![
        form(format!("{latitude}{BLANK}[,;/]?{BLANK}{longitude}"), ""),
        form(format!("{longitude}{BLANK}[,;/]?{BLANK}{latitude}"), ""),
    ]
}

fn pairs() -> Vec<Form> {
    let number = |decimals: &str| format!(r"{SIGN}?{DEGREES}\.[0-9]{{{decimals}}}");
    let comma = |decimals: &str| format!("{SIGN}?{DEGREES},[0-9]{{{decimals}}}");
    vec![
        form(format!(r"{}{SIDE}{QUOTES}{BLANK}[,;|]{BLANK}{QUOTES}{}", number("2,"), number("2")), "[0-9]*"),
        form(format!("{}{SIDE}(?:[ \t]+|{BLANK}/{BLANK}){}", number("4,"), number("4")), "[0-9]*"),
        form(format!("{}(?:[ \t]+|{BLANK};{BLANK}){}", comma("4,"), comma("4")), "[0-9]*"),
    ]
}

fn sexagesimal() -> Vec<Form> {
    let part = r"[0-9]{1,3}[ :][0-9]{1,2}[ :][0-9]{1,2}(?:\.[0-9]+)?[ ]?";
    let minutes = r"[0-9]{1,2}(?:\.[0-9]+)?";
    vec![
        // ISO 6709.
        form(r"[+\-][0-9]{2}\.[0-9]{2,}[+\-][0-9]{3}\.[0-9]{2}", r"[0-9]*(?:[+\-][0-9.]+)?/?"),
        form(format!(r"{SIGN}?{DEGREES}\.[0-9]+{BLANK}[°º˚]"), second()),
        form(
            format!(
                r"(?:[NSEWnsew]{BLANK})?{SIGN}?[0-9]{{1,3}}{BLANK}(?:°|º|˚|(?i-u:deg)){BLANK}{minutes}{BLANK}['′’]"
            ),
            format!(r"(?:{BLANK}{minutes}{BLANK}(?:''|[\x22″”])?)?(?:{BLANK}[NSEWnsew](?-u:\b))?"),
        ),
        form(format!(r"{part}[NS](?-u:\b)[,; ]*{part}[EW](?-u:\b)"), ""),
    ]
}

fn named() -> Vec<Form> {
    let [with_mark, with_blank] = members();
    let degrees = format!(r"{SIGN}?[0-9]{{1,3}}(?:\.[0-9]+)?");
    vec![
        with_mark,
        with_blank,
        form(format!(r"(?i-u:(?-u:\b)geo:){degrees},{SIGN}?[0-9]"), r"[0-9]{0,2}(?:\.[0-9]+)?[^\t\n\r \x22'<>]*"),
        form(r"[0-9]{4,5}\.[0-9]+,[NS],[0-9]{4,5}\.[0-9]+,[EW]", ""),
        form(r"(?-u:\b)[23456789CFGHJMPQRVWX]{8}\+[23456789CFGHJMPQRVWX]{2,7}(?-u:\b)", ""),
    ]
}

/// `lat`, `lng`, `gps_latitude`, `destLongitude` and a number. A space alone separates only a number with
/// decimals, and `long` needs more than a space, being a word.
pub(super) fn members() -> [Form; 2] {
    let second = second();
    [
        form(format!("(?:{NAME}|{LONG}){MARK}{SIGN}?[0-9]"), format!("[0-9]{{0,2}}(?:[.,][0-9]+)?{second}")),
        form(format!(r"{NAME}[ \t]+{SIGN}?[0-9]{{1,3}}\.[0-9]"), format!("[0-9]*{second}")),
    ]
}

/// The part of a member before its `=`, as the end of a text.
pub(super) fn member_name() -> String {
    format!(r"(?:{NAME}|{LONG})[\x22'\\]{{0,4}}[ \t]*$")
}

/// The part of a member behind its `=`, as far as it makes one.
pub(super) fn member_number() -> String {
    format!(r"[ \t]*[\x22'\\]{{0,4}}{SIGN}?[0-9]")
}

/// The other half after a first one that stands for itself: `lat/lon: 37.41, -122.14`.
fn second() -> String {
    format!(r"(?:{SIDE}{QUOTES}(?:{BLANK}[,;|/]{BLANK}|[ \t]+){QUOTES}{SIGN}?{DEGREES}\.[0-9]{{2,}})?")
}

const NAME: &str = "(?:(?i-u:latitude|longitude)|(?:(?-u:\\b)|_)(?i-u:lat|lon|lng)|Lat|Lon|Lng)(?i-u:_?deg(?:rees)?)?";
const LONG: &str = "(?:(?-u:\\b)|_)(?i-u:long)";
const MARK: &str = r"[\x22'\\]{0,4}[ \t]*[:=][ \t]*[\x22'\\]{0,4}";
/// At most 180.
const DEGREES: &str = "(?:1[0-7][0-9]|180|[0-9]{1,2})";
const SIGN: &str = r"[+\-−]";
const BLANK: &str = "[ \t]*";
/// JSON's, and JSON's within a JSON string.
const QUOTES: &str = r"[\x22'\\]{0,2}";
const SIDE: &str = "(?:[ \t]*[°º˚])?(?:[ \t]*[NSEWnsew])?";
