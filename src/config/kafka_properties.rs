//! What librdkafka properties mean for the promises of acks and order, read as librdkafka reads them
//! (`rd_kafka_anyconf_set_prop`). The one judge: `check`, the start and the dispatcher all ask it.
//!
//! - What would make an ack a lie is an error.
//! - What gives up order or durability, which an operator may want to, is said as advice.
//! - What librdkafka itself refuses (`dr_msg_cb` and the other callbacks, a wrong number) is left to it.

use std::collections::BTreeMap;

use super::kafka_values::{flag, integer};

type Properties = BTreeMap<String, String>;

/// A property and what is wrong with it, or what follows from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// As the operator wrote it.
    pub property: &'static str,
    /// What is the matter, and the remedy.
    pub text: String,
}

/// Whose word a delivery report is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acks {
    /// Nobody's: a record counts as delivered when it was sent.
    Nobody,
    /// The leader's, who may die with the record.
    Leader,
    /// That of all replicas in sync.
    All,
}

/// What a set of properties amounts to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meaning {
    /// Who confirms a record.
    pub acks: Acks,
    /// Whether the producer is idempotent: said so, or not said and not ruled out.
    pub idempotent: bool,
    /// What must not be.
    pub errors: Vec<Finding>,
    /// What an operator should know.
    pub advice: Vec<Finding>,
}

const ACKS: [&str; 2] = ["acks", "request.required.acks"];
pub(crate) const SERVERS: [&str; 2] = ["bootstrap.servers", "metadata.broker.list"];
const IN_FLIGHT: [&str; 2] = ["max.in.flight.requests.per.connection", "max.in.flight"];
const RETRIES: [&str; 2] = ["retries", "message.send.max.retries"];
const EXPIRY: [&str; 2] = ["message.timeout.ms", "delivery.timeout.ms"];
const LINGER: [&str; 2] = ["linger.ms", "queue.buffering.max.ms"];
const IDEMPOTENCE: &str = "enable.idempotence";

/// One property under two names, of which the properties may have only one: which of two wins is chance.
const TWO_NAMES: [[&str; 2]; 6] = [ACKS, SERVERS, IN_FLIGHT, RETRIES, EXPIRY, LINGER];

/// The most that librdkafka allows an idempotent producer.
const IDEMPOTENT_IN_FLIGHT: i32 = 5;

/// Judges `properties`.
#[must_use]
pub fn judge(properties: &Properties) -> Meaning {
    let acks = match read(properties, &ACKS).map(|(_, value)| acks(value)) {
        Some(Some(0)) => Acks::Nobody,
        Some(Some(1)) => Acks::Leader,
        _ => Acks::All,
    };
    let said = flag(properties, IDEMPOTENCE);
    let obstacle = obstacle(properties);
    let mut meaning =
        Meaning { acks, idempotent: said.unwrap_or(obstacle.is_none()), errors: Vec::new(), advice: Vec::new() };
    refuse_lies(properties, &mut meaning);
    refuse_two_words(properties, &mut meaning);
    advise_on_loss(properties, &mut meaning);
    advise_on_order(properties, &mut meaning);
    match (obstacle, said) {
        (Some(property), Some(true)) => meaning.refuse(
            property,
            "this value and enable.idempotence = true exclude each other; leave one of them out".to_owned(),
        ),
        (Some(property), None) => meaning.add(property, "; and what is sent again may be written twice"),
        _ => {}
    }
    meaning
}

impl Meaning {
    fn refuse(&mut self, property: &'static str, text: String) {
        self.errors.push(Finding { property, text });
    }

    fn advise(&mut self, property: &'static str, text: &str) {
        self.advice.push(Finding { property, text: text.to_owned() });
    }

    /// To what was advised about `property`.
    fn add(&mut self, property: &'static str, more: &str) {
        if let Some(advice) = self.advice.iter_mut().find(|advice| advice.property == property) {
            advice.text.push_str(more);
        }
    }
}

/// Where the operator says the brokers are.
#[must_use]
pub fn bootstrap_servers(properties: &Properties) -> Option<&str> {
    read(properties, &SERVERS).map(|(_, value)| value)
}

/// Whether a property says where the brokers are.
#[must_use]
pub fn is_bootstrap_servers(name: &str) -> bool {
    SERVERS.contains(&name)
}

/// Under which of its names `acks` is given, if it is.
#[must_use]
pub fn acks_property(properties: &Properties) -> Option<&'static str> {
    read(properties, &ACKS).map(|(name, _)| name)
}

/// Where an operator's value is, under whichever of its names.
pub(crate) fn read<'a>(properties: &'a Properties, names: &[&'static str]) -> Option<(&'static str, &'a str)> {
    names.iter().find_map(|name| Some((*name, properties.get(*name)?.as_str())))
}

/// With these values an ack would say what is not so.
fn refuse_lies(properties: &Properties, meaning: &mut Meaning) {
    if flag(properties, "delivery.report.only.error") == Some(true) {
        let text = "true would hide successful deliveries, which acks wait for";
        meaning.refuse("delivery.report.only.error", text.to_owned());
    }
    if properties.contains_key("transactional.id") {
        let text = "must not be set: records are not sent in transactions";
        meaning.refuse("transactional.id", text.to_owned());
    }
    if flag(properties, "enable.gapless.guarantee") == Some(true) {
        let text = "with true one record that the broker refuses would stop all others for ever";
        meaning.refuse("enable.gapless.guarantee", text.to_owned());
    }
    if properties.get("test.mock.num.brokers").is_some_and(|brokers| integer(brokers) != Some(0)) {
        let text = "records would be delivered to a broker for tests inside this process, and be gone with it";
        meaning.refuse("test.mock.num.brokers", text.to_owned());
    }
    if let Some((property, value)) = read(properties, &ACKS)
        && let Some(number) = acks(value)
        && !(-1..=1).contains(&number)
    {
        meaning.refuse(property, format!("brokers refuse every record with {number}; allowed are all (-1), 1 and 0"));
    }
}

fn refuse_two_words(properties: &Properties, meaning: &mut Meaning) {
    for [one, other] in TWO_NAMES {
        if let (Some(first), Some(second)) = (properties.get(one), properties.get(other))
            && first != second
        {
            let text = format!("the same property as {other}, with another value; leave one of them out");
            meaning.refuse(one, text);
        }
    }
}

fn advise_on_loss(properties: &Properties, meaning: &mut Meaning) {
    if let Some((property, _)) = read(properties, &ACKS) {
        match meaning.acks {
            Acks::Nobody => meaning.advise(
                property,
                "with 0 no broker confirms anything, so no ack waits for Kafka, and what it loses nobody misses; \
                 leave it out, or set it to all",
            ),
            Acks::Leader => meaning.advise(
                property,
                "with 1 only the leader confirms: an acked record is lost with it if no other replica has it yet; \
                 leave it out, or set it to all",
            ),
            Acks::All => {}
        }
    }
    if let Some((property, value)) = read(properties, &RETRIES)
        && integer(value) == Some(0)
    {
        meaning.advise(property, "with 0 a record is lost at the first passing refusal, such as a change of leaders");
    }
    if let Some((property, value)) = read(properties, &EXPIRY)
        && integer(value).is_some_and(|limit| limit != 0)
    {
        meaning.advise(
            property,
            "records are lost after that time without a confirmation, and vehicles never send alerts and errors \
             again; leave it out, or set it to 0",
        );
    }
}

fn advise_on_order(properties: &Properties, meaning: &mut Meaning) {
    let requests = read(properties, &IN_FLIGHT).map(|(name, value)| (name, integer(value)));
    if let Some((property, Some(requests))) = requests
        && requests > 1
        && !meaning.idempotent
    {
        meaning.advise(
            property,
            "above 1 without idempotence, what is sent again overtakes nothing but is overtaken: a vehicle's records \
             lose their order",
        );
    }
    if properties.get("queuing.strategy").is_some_and(|value| is_lifo(value)) {
        meaning
            .advise("queuing.strategy", "with lifo the newest record goes first: a vehicle's records lose their order");
    }
    if properties.get("partitioner").is_some_and(|value| value.trim_ascii_start() == "random") {
        meaning.advise(
            "partitioner",
            "with random the key has no say in the partition: a vehicle's records lose their order",
        );
    }
}

/// A property that librdkafka does not accept together with idempotence.
fn obstacle(properties: &Properties) -> Option<&'static str> {
    let conflicts = |names: &[&'static str], is_so: fn(&str) -> bool| {
        read(properties, names).filter(|(_, value)| is_so(value)).map(|(name, _)| name)
    };
    conflicts(&ACKS, |value| acks(value).is_some_and(|acks| acks != -1))
        .or_else(|| conflicts(&IN_FLIGHT, |value| integer(value).is_some_and(|n| n > IDEMPOTENT_IN_FLIGHT)))
        .or_else(|| conflicts(&RETRIES, |value| integer(value) == Some(0)))
        .or_else(|| conflicts(&["queuing.strategy"], is_lifo))
}

/// `acks` has a word beside its numbers.
fn acks(value: &str) -> Option<i32> {
    integer(value).or_else(|| value.eq_ignore_ascii_case("all").then_some(-1))
}

fn is_lifo(value: &str) -> bool {
    value.trim_ascii().eq_ignore_ascii_case("lifo")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn properties(pairs: &[(&str, &str)]) -> Properties {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn meaning(pairs: &[(&str, &str)]) -> Meaning {
        judge(&properties(pairs))
    }

    fn named(findings: &[Finding]) -> Vec<&'static str> {
        findings.iter().map(|finding| finding.property).collect()
    }

    #[test]
    fn nothing_said_is_idempotent_and_confirmed_by_all() {
        let meaning = meaning(&[]);
        assert_eq!((meaning.acks, meaning.idempotent), (Acks::All, true));
        assert!(meaning.errors.is_empty() && meaning.advice.is_empty());
    }

    #[test]
    fn reports_of_errors_only_are_refused_however_true_is_spelt() {
        for value in ["true", "TRUE", "t", "T", "1"] {
            let found = meaning(&[("delivery.report.only.error", value)]);
            assert_eq!(named(&found.errors), ["delivery.report.only.error"], "{value:?}");
        }
        for value in ["false", "F", "0"] {
            assert!(meaning(&[("delivery.report.only.error", value)]).errors.is_empty(), "{value:?}");
        }
    }

    #[test]
    fn acks_are_known_under_both_names_and_in_every_spelling() {
        for name in ACKS {
            for (value, acks) in [
                ("0", Acks::Nobody),
                ("00", Acks::Nobody),
                ("0x0", Acks::Nobody),
                ("none", Acks::All),
                ("1", Acks::Leader),
                ("+1", Acks::Leader),
                ("-1", Acks::All),
                ("ALL", Acks::All),
            ] {
                let found = meaning(&[(name, value)]);
                assert_eq!(found.acks, acks, "{name}={value}");
                assert_eq!(named(&found.advice).contains(&name), acks != Acks::All, "{name}={value}");
                assert!(found.errors.is_empty(), "{name}={value}");
            }
            assert_eq!(named(&meaning(&[(name, "2")]).errors), [name]);
        }
    }

    #[test]
    fn two_names_with_two_values_are_refused() {
        let found = meaning(&[("acks", "all"), ("request.required.acks", "0")]);
        assert_eq!(named(&found.errors), ["acks"]);
        assert!(meaning(&[("retries", "3"), ("message.send.max.retries", "3")]).errors.is_empty());
    }

    #[test]
    fn what_rules_idempotence_out_is_refused_beside_it_and_said_without_it() {
        for (name, value) in [
            ("acks", "1"),
            ("request.required.acks", "0"),
            ("max.in.flight", "6"),
            ("max.in.flight.requests.per.connection", "0x10"),
            ("retries", "0"),
            ("message.send.max.retries", "00"),
            ("queuing.strategy", "LIFO"),
        ] {
            for yes in ["true", "t", "1"] {
                assert_eq!(named(&meaning(&[(name, value), (IDEMPOTENCE, yes)]).errors), [name], "{name}={value}");
            }
            let found = meaning(&[(name, value)]);
            assert!(!found.idempotent && found.errors.is_empty(), "{name}={value}");
            assert!(named(&found.advice).contains(&name), "{name}={value}");
        }
        assert!(meaning(&[("max.in.flight", "5"), ("retries", "1"), ("queuing.strategy", "fifo")]).idempotent);
        for no in ["false", "f", "F", "0"] {
            assert!(!meaning(&[(IDEMPOTENCE, no)]).idempotent, "{no}");
        }
    }

    #[test]
    fn what_loses_records_or_their_order_is_said() {
        for (pairs, property) in [
            (&[("message.timeout.ms", "5000")][..], "message.timeout.ms"),
            (&[("delivery.timeout.ms", "1")], "delivery.timeout.ms"),
            (&[("partitioner", " random")], "partitioner"),
            (&[("enable.idempotence", "0"), ("max.in.flight", "2")], "max.in.flight"),
        ] {
            assert_eq!(named(&meaning(pairs).advice), [property], "{pairs:?}");
        }
        for pairs in [
            &[("message.timeout.ms", "0")][..],
            &[("partitioner", "murmur2_random")],
            &[("enable.idempotence", "0"), ("max.in.flight", "1")],
            &[("sticky.partitioning.linger.ms", "0"), ("client.rack", "a"), ("queue.buffering.max.messages", "10")],
        ] {
            let found = meaning(pairs);
            assert!(found.advice.is_empty() && found.errors.is_empty(), "{pairs:?}");
        }
    }

    #[test]
    fn what_makes_an_ack_a_lie_is_refused() {
        for (property, value) in
            [("transactional.id", "x"), ("enable.gapless.guarantee", "T"), ("test.mock.num.brokers", "1")]
        {
            assert_eq!(named(&meaning(&[(property, value)]).errors), [property]);
        }
    }
}
