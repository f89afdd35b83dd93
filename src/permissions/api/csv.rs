//! Comma-separated values by RFC 4180: fields with commas, quotes or line breaks stand in quotes, quotes
//! in them are doubled. Lines end with LF or CRLF.

/// What is wrong, and in which line (from 1).
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed {
    pub(super) line: usize,
    pub(super) reason: &'static str,
}

/// The records of `text`; empty lines are none.
pub(super) fn read(text: &str) -> Result<Vec<Vec<String>>, Malformed> {
    let mut records = Vec::new();
    let mut record = Vec::new();
    let mut rest = text.strip_prefix('\u{feff}').unwrap_or(text);
    while !rest.is_empty() {
        let line = text.len() - rest.len();
        let malformed = |reason| Malformed { line: text[..line].matches('\n').count() + 1, reason };
        let (field, behind) = field(rest).map_err(malformed)?;
        let (end, behind) = end(behind).map_err(malformed)?;
        record.push(field);
        rest = behind;
        if end {
            let whole = std::mem::take(&mut record);
            if whole.iter().any(|field| !field.is_empty()) || whole.len() > 1 {
                records.push(whole);
            }
        } else if rest.is_empty() {
            record.push(String::new());
            records.push(std::mem::take(&mut record));
        }
    }
    Ok(records)
}

/// One field, and what is behind it.
fn field(text: &str) -> Result<(String, &str), &'static str> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', '\n']).unwrap_or(text.len());
        let (field, behind) = text.split_at(end);
        // The CR of a CRLF belongs to the line's end.
        return Ok((field.strip_suffix('\r').unwrap_or(field).to_owned(), behind));
    };
    let mut field = String::new();
    let mut rest = quoted;
    loop {
        let (part, behind) = rest.split_once('"').ok_or("a quoted field has no end")?;
        field.push_str(part);
        match behind.strip_prefix('"') {
            Some(more) => {
                field.push('"');
                rest = more;
            }
            None => return Ok((field, behind)),
        }
    }
}

/// Whether the record ends here, and what is behind the separator.
fn end(text: &str) -> Result<(bool, &str), &'static str> {
    if let Some(behind) = text.strip_prefix(',') {
        return Ok((false, behind));
    }
    let behind = text.strip_prefix('\r').unwrap_or(text);
    if behind.is_empty() {
        return Ok((true, behind));
    }
    behind.strip_prefix('\n').map(|behind| (true, behind)).ok_or("something stands behind a quoted field")
}

/// Adds one record.
pub(super) fn write(out: &mut String, record: &[&str]) {
    for (n, field) in record.iter().enumerate() {
        if n > 0 {
            out.push(',');
        }
        if field.contains([',', '"', '\n', '\r']) {
            out.push('"');
            out.push_str(&field.replace('"', "\"\""));
            out.push('"');
        } else {
            out.push_str(field);
        }
    }
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_quotes_and_both_line_ends() {
        let records = read("a,b\r\n\"x,\"\"y\"\"\nz\",\r\n\r\n,last").unwrap();
        assert_eq!(records, [vec!["a", "b"], vec!["x,\"y\"\nz", ""], vec!["", "last"]]);
        assert_eq!(read("\u{feff}a,\nb,").unwrap(), [vec!["a", ""], vec!["b", ""]]);
        assert!(read("").unwrap().is_empty());
    }

    #[test]
    fn names_the_line_of_what_is_malformed() {
        assert_eq!(read("a\nb\n\"c"), Err(Malformed { line: 3, reason: "a quoted field has no end" }));
        assert_eq!(read("a\n\"b\"c"), Err(Malformed { line: 2, reason: "something stands behind a quoted field" }));
    }

    proptest! {
        #[test]
        fn reads_what_it_writes(records in prop::collection::vec(prop::collection::vec("[a,\"\r\n é]{0,6}", 2..5), 0..5)) {
            let mut text = String::new();
            for record in &records {
                write(&mut text, &record.iter().map(String::as_str).collect::<Vec<_>>());
            }
            prop_assert_eq!(read(&text).unwrap(), records);
        }

        #[test]
        fn never_panics(text in "[a,\"\r\n]{0,30}") {
            let _ = read(&text);
        }
    }
}
