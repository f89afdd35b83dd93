//! Rules of every member but the fields and the authorities.

use serde_json::Value;

use super::firmware::{self, LATEST};
use super::judge::{Facts, Judgement};
use crate::config::onboarding::is_name;
use crate::escape::escape;

/// Of the kinds that the maker's documents name.
const ALERT_TYPES: [&str; 3] = ["service", "customer", "service-fix"];

/// Domains that many share, so that nobody can register one of them for himself, and tunnels.
const SHARED: [&str; 9] = [
    "netlify.app",
    "vercel.app",
    "github.io",
    "pages.dev",
    "workers.dev",
    "herokuapp.com",
    "ngrok.io",
    "ngrok-free.app",
    "trycloudflare.com",
];

pub(super) fn hostname(value: Option<&Value>, domain: Option<&str>, found: &mut Judgement) {
    let member = "hostname";
    let Some(value) = value else {
        return found.refuse(member, "missing; give the name by which vehicles reach the server");
    };
    let Some(name) = value.as_str() else { return found.refuse(member, format!("expected a text, found {value}")) };
    if !is_name(name) {
        let shown = escape(name.as_bytes(), 100);
        return found.refuse(member, format!("\"{shown}\" is no bare name: no scheme, slash or port, and no address"));
    }
    let name = name.to_ascii_lowercase();
    if let Some(shared) = SHARED.iter().find(|shared| is_under(&name, shared)) {
        found.warn(member, format!("{shared} is shared by many, and the maker takes no such domain"));
    }
    let Some(domain) = domain.map(str::to_ascii_lowercase) else { return };
    if is_under(&name, &domain) {
        return;
    }
    if last_two(&name) == last_two(&domain) {
        found.warn(
            member,
            format!("{name} is beside {domain}, not under it; the maker wants both under one registrable domain"),
        );
    } else {
        found.refuse(member, format!("{name} is not under the registered domain {domain}"));
    }
}

pub(super) fn port(value: Option<&Value>, found: &mut Judgement) {
    let member = "port";
    match value {
        None => found.refuse(member, "missing; give the port that vehicles connect to, mostly 443"),
        Some(Value::String(_)) => {
            found.refuse(member, "a text; give an integer: as a text it is accepted and never works");
        }
        Some(value) if value.as_u64().is_some_and(|port| (1..=65_535).contains(&port)) => {}
        Some(value) => found.refuse(member, format!("{value} is no port, which are 1 to 65535")),
    }
}

pub(super) fn alert_types(value: Option<&Value>, found: &mut Judgement) {
    let member = "alert_types";
    let Some(value) = value else { return };
    let types = value.as_array().map(|types| types.iter().map(Value::as_str).collect::<Option<Vec<_>>>());
    let Some(Some(types)) = types else { return found.refuse(member, "expected a list of texts") };
    for unknown in types.iter().filter(|name| !ALERT_TYPES.contains(name)) {
        let unknown = escape(unknown.as_bytes(), 60);
        found.warn(member, format!("\"{unknown}\" is none of those that are documented: {}", ALERT_TYPES.join(", ")));
    }
}

pub(super) fn delivery_policy(value: Option<&Value>, facts: &Facts, found: &mut Judgement) {
    let member = "delivery_policy";
    match value {
        None => {}
        Some(value) if value == "latest" => too_old(facts, found),
        Some(value) => found.refuse(member, format!("{value} is unknown; there is only \"latest\"")),
    }
}

fn too_old(facts: &Facts, found: &mut Judgement) {
    if facts.firmware.as_ref().is_some_and(|version| firmware::is_below(version, LATEST)) {
        found.warn("delivery_policy", format!("needs firmware {LATEST}; until then acks change nothing"));
    }
}

pub(super) fn exp(value: Option<&Value>, now: i64, found: &mut Judgement) {
    let member = "exp";
    match value {
        None => {}
        Some(value) => match value.as_i64() {
            None => found.refuse(member, format!("expected integer seconds since the epoch, found {value}")),
            Some(exp) if exp <= now => {
                found.refuse(member, format!("{exp} is in the past; leave it out for a configuration without an end"));
            }
            Some(_) => {}
        },
    }
}

fn is_under(name: &str, domain: &str) -> bool {
    name == domain || name.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'))
}

/// Not always what can be registered (`co.uk`), so nothing is refused that agrees in it.
fn last_two(name: &str) -> Vec<&str> {
    name.rsplit('.').take(2).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn found(judge: impl FnOnce(&mut Judgement)) -> (Vec<String>, Vec<String>) {
        let mut found = Judgement::default();
        judge(&mut found);
        (found.errors, found.warnings)
    }

    #[test]
    fn the_host_is_a_name_under_the_registered_domain() {
        let judged = |name: Value| found(|found| hostname(Some(&name), Some("Example.com"), found));
        for good in ["example.com", "telemetry.EXAMPLE.com", "a.b.example.com"] {
            assert_eq!(judged(json!(good)), (vec![], vec![]), "{good}");
        }
        for bad in [
            json!("https://telemetry.example.com"),
            json!("telemetry.example.com:443"),
            json!("telemetry.example.com/"),
            json!("10.0.0.1"),
            json!("notexample.com"),
            json!("telemetry.example.org"),
            json!(5),
        ] {
            assert_eq!(judged(bad.clone()).0.len(), 1, "{bad}");
        }
        let beside = found(|found| hostname(Some(&json!("b.example.com")), Some("a.example.com"), found));
        assert!(beside.0.is_empty() && beside.1[0].contains("beside a.example.com"), "{beside:?}");
        let shared = found(|found| hostname(Some(&json!("me.netlify.app")), None, found));
        assert!(shared.1[0].contains("shared by many"), "{shared:?}");
        assert!(found(|found| hostname(None, None, found)).0[0].starts_with("hostname: missing"));
    }

    #[test]
    fn the_port_is_a_number() {
        assert!(found(|found| port(Some(&json!(443)), found)).0.is_empty());
        for bad in [json!("443"), json!(0), json!(65_536), json!(4.5), json!(null)] {
            assert_eq!(found(|found| port(Some(&bad), found)).0.len(), 1, "{bad}");
        }
    }

    #[test]
    fn an_end_in_the_past_is_refused() {
        assert!(found(|found| exp(Some(&json!(101)), 100, found)).0.is_empty());
        for bad in [json!(100), json!("101"), json!(101.5)] {
            assert_eq!(found(|found| exp(Some(&bad), 100, found)).0.len(), 1, "{bad}");
        }
    }

    #[test]
    fn there_is_one_policy_and_alert_types_are_texts() {
        let facts = Facts { firmware: firmware::Version::parse("2024.44.32"), ..Facts::default() };
        let old = found(|found| delivery_policy(Some(&json!("latest")), &facts, found));
        assert!(old.0.is_empty() && old.1[0].contains("needs firmware 2025.2.6"), "{old:?}");
        assert_eq!(found(|found| delivery_policy(Some(&json!("all")), &facts, found)).0.len(), 1);
        assert_eq!(found(|found| alert_types(Some(&json!(["service", 1])), found)).0.len(), 1);
        assert_eq!(found(|found| alert_types(Some(&json!(["customer", "odd"])), found)).1.len(), 1);
    }
}
