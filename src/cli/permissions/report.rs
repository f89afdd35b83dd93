//! Answers of the API, for people.

use serde_json::Value;

use crate::escape::escape;

/// Longest cell, in bytes.
const CELL_BYTES: usize = 200;

/// What a `PUT` has done.
pub(super) fn changed(body: &Value) -> String {
    let grant = &body["grant"];
    let expires = grant["expires"].as_str().map(|expires| format!(" until {}", clean(expires))).unwrap_or_default();
    format!(
        "{} {}: {} since {}{expires} (version {}{})\n{}",
        cell(&body["vin"]),
        cell(&body["scope"]),
        cell(&grant["state"]),
        cell(&grant["since"]),
        grant["version"],
        if body["changed"] == true { "" } else { ", as before" },
        audit_line(body),
    )
}

/// What there is to say about the audit line of a change that is in force.
fn audit_line(body: &Value) -> &'static str {
    if body["audit_line"].is_null() { "" } else { "the server cannot write its log now: the audit line waits\n" }
}

/// Entries of one vehicle, and what they mean now.
pub(super) fn vehicle(body: &Value) -> String {
    let mut out = table(&COLUMNS[1..], entries(&body["vehicle"]).map(|mut row| row.split_off(1)));
    let location = &body["access"]["scopes"]["vehicle_location"];
    let hint = location["hint"].as_str().map(|hint| format!("; {}", clean(hint))).unwrap_or_default();
    let verdict = if body["access"]["location_readable"] == true { "may be read" } else { "may not be read" };
    out += &format!("\nlocation {verdict}: {}{hint}\n", cell(&location["reason"]));
    if location["enforced"] != true {
        out += &format!("not enforced: the filter is in mode {}\n", cell(&body["access"]["mode"]));
    }
    out
}

/// Entries of many vehicles.
pub(super) fn vehicles(body: &Value) -> String {
    let vehicles = body["vehicles"].as_array().map_or(&[][..], Vec::as_slice);
    let mut out = table(&COLUMNS, vehicles.iter().flat_map(entries));
    if let Some(next) = body["next"].as_str() {
        out += &format!("there are more: --after {}\n", clean(next));
    }
    out
}

/// What an import has done.
pub(super) fn imported(body: &Value) -> String {
    format!("{} entries changed, {} as before\n{}", body["changed"], body["unchanged"], audit_line(body))
}

/// What has changed, newest first.
pub(super) fn history(body: &Value) -> String {
    let changes = body["changes"].as_array().map_or(&[][..], Vec::as_slice);
    let columns = ["AT", "SCOPE", "STATE", "SINCE", "EXPIRES", "VERSION", "SOURCE", "NOTE", "ACTOR", "FROM"];
    let members = ["at", "scope", "state", "since", "expires", "version", "source", "note", "actor", "from"];
    table(&columns, changes.iter().map(|change| members.map(|member| cell(&change[member])).to_vec()))
}

/// The server's own words.
pub(super) fn refusal(body: &Value) -> String {
    let error = &body["error"];
    let mut out = String::new();
    if error["row"].is_number() {
        out += &format!("row {}: ", error["row"]);
    }
    if let Some(field) = error["field"].as_str() {
        out += &clean(field);
        if let Some(value) = error["value"].as_str().filter(|value| !value.is_empty()) {
            out += &format!(" {:?}", clean(value));
        }
        out += ": ";
    }
    out += &format!("{} ({})", cell(&error["message"]), cell(&error["code"]));
    if let Some(hint) = error["hint"].as_str() {
        out += &format!("\nhint: {}", clean(hint));
    }
    out
}

const COLUMNS: [&str; 8] = ["VIN", "SCOPE", "STATE", "SINCE", "EXPIRES", "VERSION", "SOURCE", "NOTE"];

/// One row per entry of a vehicle.
fn entries(vehicle: &Value) -> impl Iterator<Item = Vec<String>> {
    let scopes = vehicle["scopes"].as_object().into_iter().flatten();
    scopes.map(|(scope, grant)| {
        let members = ["state", "since", "expires", "version", "source", "note"];
        let mut row = vec![cell(&vehicle["vin"]), clean(scope)];
        row.extend(members.map(|member| cell(&grant[member])));
        row
    })
}

/// Columns as wide as what is in them; the last one ends where it ends.
fn table(columns: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let header = columns.iter().map(|column| (*column).to_owned()).collect();
    let rows: Vec<Vec<String>> = std::iter::once(header).chain(rows).collect();
    let width = |at: usize| rows.iter().map(|row| row[at].chars().count()).max().unwrap_or_default();
    let widths: Vec<_> = (0..columns.len()).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells: Vec<_> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        cells.join("  ").trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => clean(text),
        other => other.to_string(),
    }
}

/// What others have written must not steer the terminal.
fn clean(text: &str) -> String {
    escape(text.as_bytes(), CELL_BYTES)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [vec!["a".to_owned(), "long".to_owned()], vec!["longer".to_owned(), String::new()]];
        assert_eq!(table(&["X", "Y"], rows.into_iter()), "X       Y\na       long\nlonger\n");
    }

    #[test]
    fn a_change_whose_audit_line_waits_says_so() {
        let mut body = json!({"changed": 2, "unchanged": 1});
        assert_eq!(imported(&body), "2 entries changed, 1 as before\n");
        body["audit_line"] = json!("not_written");
        assert!(imported(&body).ends_with(" as before\nthe server cannot write its log now: the audit line waits\n"));
    }

    #[test]
    fn a_refusal_names_row_field_and_value_and_says_what_to_do() {
        let body = json!({"error": {"code": "bad_request", "message": "must be one of granted, denied", "row": 2,
            "field": "state", "value": "ma\u{1b}ybe", "hint": "ask"}});
        let text = refusal(&body);
        assert!(text.starts_with("row 2: state "), "{text}");
        assert!(text.contains("must be one of granted, denied (bad_request)\nhint: ask") && !text.contains('\u{1b}'));
    }
}
