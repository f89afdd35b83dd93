//! What the forms that people read (log lines, MQTT) have in common: values alone, absent lists as `null`, and texts that
//! are safe to show.

use std::collections::{BTreeMap, HashMap};

use prost_types::Timestamp;

use super::text::{self, List, Object};
use super::timestamp;
use crate::proto::vehicle_alerts::Audience;
use crate::proto::vehicle_data::Time;
use crate::record::decoded::value::Enumerator;

/// An unknown number is a string too, so that a member's type never changes.
pub(crate) fn write_enumerator(out: &mut String, enumerator: Enumerator) {
    match enumerator.name {
        Some(name) => text::plain_string(out, name),
        None => text::display(out, format_args!("\"{}\"", enumerator.number)),
    }
}

pub(crate) fn write_time(out: &mut String, time: Time) {
    text::display(out, format_args!("\"{:02}:{:02}:{:02}\"", time.hour, time.minute, time.second));
}

/// Whole seconds; without a timestamp: the epoch.
pub(crate) fn write_date_time(out: &mut String, time: Option<&Timestamp>) {
    out.push('"');
    timestamp::date_time(out, time.map_or(0, timestamp::whole_seconds));
    out.push_str("Z\"");
}

pub(crate) fn write_audiences(out: &mut String, audiences: &[i32]) {
    if audiences.is_empty() {
        return out.push_str("null");
    }
    write_list(out, audiences, |out, audience| {
        write_enumerator(out, Enumerator::new(*audience, Audience::as_str_name));
    });
}

/// Sorted by key.
pub(crate) fn write_tags(out: &mut String, tags: &HashMap<String, String>) {
    if tags.is_empty() {
        return out.push_str("null");
    }
    let sorted: BTreeMap<_, _> = tags.iter().collect();
    let mut object = Object::open(out);
    for (key, value) in sorted {
        text::log_safe_string(object.member_with(|out| text::log_safe_string(out, key)), value);
    }
    object.close();
}

pub(crate) fn write_list<T>(out: &mut String, items: &[T], write: fn(&mut String, &T)) {
    let mut list = List::open(out);
    for item in items {
        write(list.item(), item);
    }
    list.close();
}
