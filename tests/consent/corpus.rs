//! A corpus of records with planted places, sent by a vehicle that may tell them and by one that may not, through
//! everything that the server writes to; then all of that is searched.

use std::time::Duration;

use fleet_telemetry::proto::vehicle_alerts::{VehicleAlert, VehicleAlerts};
use fleet_telemetry::proto::vehicle_data::value::Value as Typed;
use fleet_telemetry::proto::vehicle_data::{Datum, Field, Payload};
use fleet_telemetry::proto::vehicle_error::{VehicleError, VehicleErrors};
use prost::Message as _;
use prost::encoding::{WireType, encode_key, encode_varint};
use regex::bytes::RegexBuilder;
use serde_json::json;

use crate::place::{Place, Trace};
use crate::site::{Site, datum, frame, now, now_ms};
use crate::support::kafka::Broker;
use crate::support::server::{Server, get};
use crate::support::vehicle::{self, PATIENCE, Received, Vehicle};
use crate::support::wait::until;

const DENIED: &str = "5YJ3E1EA0PF000001";
const GRANTED: &str = "5YJ3E1EA0PF000002";
const REGIONS: [(&str, f64); 2] = [(DENIED, 0.0), (GRANTED, 1.0)];
const MAX_MESSAGE_BYTES: usize = 20_000;
const TOPICS: [&str; 5] = ["V", "alerts", "errors", "connectivity", "sightings"];

/// One record with one place in it.
struct Plant {
    name: &'static str,
    topic: &'static str,
    place: Place,
    payload: Vec<u8>,
    fate: Fate,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// Delivered; the place too, if it may be told.
    Delivered,
    /// The same, but JSON has no form for where the place is.
    ProtobufOnly,
    /// Acked and delivered to nobody.
    Dropped,
    /// The error response.
    Refused,
}

#[tokio::test]
async fn planted_places_leave_the_server_only_with_permission() {
    run("protobuf", false).await;
}

#[tokio::test]
async fn planted_places_leave_the_server_as_json_only_with_permission() {
    run("json", true).await;
}

async fn run(namespace: &'static str, is_json: bool) {
    let broker = Broker::shared();
    let site = site(broker, namespace, is_json);
    let mut server = site.serve();
    site.api().grant(GRANTED).await;
    // Envelopes count whole seconds.
    let granted = now_ms();
    until("the next second", PATIENCE, async || now_ms() / 1000 > granted / 1000).await;
    for (vin, region) in REGIONS {
        stream(&site, &server, vin, region).await;
    }
    let disconnected = REGIONS.len() * 2;
    server.metric_becomes(CONNECTIVITY, f64::from(u32::try_from(disconnected).unwrap())).await;
    let mut outputs = pages(&site, &server).await;
    outputs.extend(files(&site, "while it runs"));
    server.signal("TERM");
    assert_eq!(server.wait(Duration::from_secs(30)).code(), Some(0));
    outputs.extend(files(&site, "after the end"));
    outputs.push(("stderr".to_owned(), server.stderr().into_bytes()));
    for topic in TOPICS {
        outputs.push((format!("kafka {topic}"), kafka(broker, &format!("{namespace}_{topic}"))));
    }
    let sizes: Vec<_> = outputs.iter().map(|(name, bytes)| format!("{name}: {}", bytes.len())).collect();
    eprintln!("{namespace}: searched, in bytes: {sizes:?}");

    assert_eq!(leaks(&outputs), Vec::<String>::new(), "places that nobody may know");
    check_present(&outputs, is_json);
}

const CONNECTIVITY: &str = "kafka_produce_ack_total{record_type=\"connectivity\"}";

fn site(broker: &Broker, namespace: &str, is_json: bool) -> Site {
    Site::new(|config| {
        config["log_level"] = json!("trace");
        config["namespace"] = json!(namespace);
        config["kafka"] = json!({ "bootstrap.servers": broker.bootstrap() });
        config["kafka_options"] = json!({ "connect_timeout": "60s" });
        config["transmit_decoded_records"] = json!(is_json);
        config["limits"] = json!({ "max_message_bytes": MAX_MESSAGE_BYTES });
        config["logger"] = json!({ "verbose": true });
        let all = json!(["kafka", "sqlite", "logger"]);
        let without_logger = json!(["kafka", "sqlite"]);
        config["records"] = json!({
            "V": all, "alerts": all, "errors": all, "connectivity": all, "sightings": without_logger
        });
    })
}

/// Sends the whole corpus on one connection whose headers tell a place, too.
async fn stream(site: &Site, server: &Server, vin: &str, region: f64) {
    let mut request = vehicle::request(server.address);
    let headers = ["X-Network-Interface", "Version", "User-Agent", "X-Forwarded-For"];
    for (header, n) in headers.into_iter().zip(HEADER_PLACES) {
        request.headers_mut().insert(header, Place::new(region, n).decimal().parse().unwrap());
    }
    let mut vehicle = Vehicle::connect_with(server.address, &site.pki.vehicle(vin), vin, request).await;
    // First, since only some refusals are logged.
    let at = Place::new(region, ENVELOPE_PLACE).decimal();
    vehicle.send_frame(frame(&at, &at, &at, b"")).await;
    assert_eq!(vehicle.receive().await, Received::Error { txid: at.into_bytes() }, "another's sender id");
    for (n, plant) in corpus(vin, region).iter().enumerate() {
        let txid = format!("{vin}-{n}");
        vehicle.send_frame(frame(plant.topic, &txid, vin, &plant.payload)).await;
        let reply = vehicle.receive().await;
        match plant.fate {
            Fate::Refused => assert!(matches!(reply, Received::Error { .. }), "{}: {reply:?}", plant.name),
            _ => assert_eq!(reply, vehicle::ack(plant.topic, &txid), "{}", plant.name),
        }
    }
    vehicle.socket.close(None).await.unwrap();
    assert!(matches!(vehicle.receive().await, Received::Closed(_)));
}

/// Places in headers are nobody's data, so they are masked whoever has allowed what.
const HEADER_PLACES: std::ops::Range<u32> = 40..44;
/// The same goes for what an envelope says around the payload of a record that is refused.
const ENVELOPE_PLACE: u32 = 44;

async fn pages(site: &Site, server: &Server) -> Vec<(String, Vec<u8>)> {
    let mut pages = Vec::new();
    for (address, path) in [(server.metrics, "/metrics"), (server.status, "/readyz"), (server.status, "/status")] {
        let (status, body) = get(address, path).await;
        assert_eq!(status, 200, "{path}: {body}");
        pages.push((path.to_owned(), body.into_bytes()));
    }
    let mut paths = vec!["/v1/vehicles".to_owned(), "/v1/health".to_owned(), "/openapi.json".to_owned()];
    paths.extend(["json", "csv"].map(|format| format!("/v1/export?format={format}")));
    for page in ["", "/access", "/history"] {
        paths.push(format!("/v1/vehicles/{GRANTED}{page}"));
    }
    paths.push(format!("/v1/vehicles/{DENIED}/access"));
    for path in paths {
        let (status, body) = site.api().ask("GET", &path, "").await;
        assert!(status == 200 || path.contains(DENIED), "{path}: {status} {body}");
        pages.push((path, body.into_bytes()));
    }
    pages
}

/// Every file that the server may have written, byte for byte.
fn files(site: &Site, when: &str) -> Vec<(String, Vec<u8>)> {
    let files = std::fs::read_dir(site.path("")).unwrap().map(|entry| entry.unwrap().path());
    files
        .map(|path| (format!("{} {when}", path.file_name().unwrap().display()), std::fs::read(path).unwrap()))
        .collect()
}

/// Everything in a topic: keys, headers and values.
fn kafka(broker: &Broker, topic: &str) -> Vec<u8> {
    let mut all = Vec::new();
    for message in broker.consume(topic) {
        let headers = message.headers.iter().flat_map(|(key, value)| [key.as_bytes(), value]);
        for part in [&*message.key, &*message.payload].into_iter().chain(headers) {
            all.extend_from_slice(part);
            all.push(b'\n');
        }
    }
    all
}

/// Where anything shows of a place that it must not.
fn leaks(outputs: &[(String, Vec<u8>)]) -> Vec<String> {
    let mut forbidden = Vec::new();
    for (vin, region) in REGIONS {
        for plant in corpus(vin, region) {
            if vin == DENIED || plant.fate == Fate::Refused || plant.fate == Fate::Dropped {
                forbidden.push((format!("{vin} {}", plant.name), plant.place));
            }
        }
        forbidden.push((format!("{vin} envelope"), Place::new(region, ENVELOPE_PLACE)));
        forbidden.extend(HEADER_PLACES.map(|n| (format!("{vin} header {n}"), Place::new(region, n))));
    }
    let mut leaks = Vec::new();
    for (name, place) in forbidden {
        let traces = place.traces();
        let search = search(&traces);
        for (output, bytes) in outputs {
            if let Some(found) = search.find(bytes) {
                let trace = traces.iter().find(|trace| bytes[found.start()..].starts_with(&trace.bytes)).unwrap();
                let around = found.start().saturating_sub(120)..(found.end() + 20).min(bytes.len());
                let around = String::from_utf8_lossy(&bytes[around]).into_owned();
                leaks.push(format!("{name} in {output} as {}: {around}", trace.form));
            }
        }
    }
    leaks
}

/// The permission, and nothing else, made the difference.
fn check_present(outputs: &[(String, Vec<u8>)], is_json: bool) {
    let mut missing = Vec::new();
    let mut expect = |plant: &Plant, output: &str| {
        let search = search(&plant.place.traces());
        let (_, bytes) = outputs.iter().find(|(name, _)| name == output).unwrap();
        if !search.is_match(bytes) {
            missing.push(format!("{} in {output}", plant.name));
        }
    };
    for plant in corpus(GRANTED, 1.0) {
        if plant.fate == Fate::Delivered || plant.fate == Fate::ProtobufOnly {
            expect(&plant, "telemetry.db after the end");
        }
        if plant.fate == Fate::Delivered || (plant.fate == Fate::ProtobufOnly && !is_json) {
            expect(&plant, &format!("kafka {}", plant.topic));
        }
        if plant.fate == Fate::Delivered && plant.topic != "sightings" {
            expect(&plant, "stderr");
        }
    }
    assert_eq!(missing, Vec::<String>::new(), "places that the owner has allowed");
}

fn search(traces: &[Trace]) -> regex::bytes::Regex {
    let escaped = |trace: &Trace| trace.bytes.iter().map(|byte| format!("\\x{byte:02x}")).collect::<String>();
    let pattern = traces.iter().map(escaped).collect::<Vec<_>>().join("|");
    RegexBuilder::new(&pattern).unicode(false).build().unwrap()
}

/// The same records for every vehicle, each with its own place.
fn corpus(vin: &str, region: f64) -> Vec<Plant> {
    let mut corpus = Vec::new();
    let mut plant = |name, topic, fate, payload: &dyn Fn(Place) -> Vec<u8>| {
        let place = Place::new(region, u32::try_from(corpus.len()).unwrap());
        corpus.push(Plant { name, topic, place, payload: payload(place), fate });
    };
    let text = |key: Field, text: String| v(vec![datum(key, Typed::StringValue(text))]);
    let typed = |key: i32, place: Place| datum(key, Typed::LocationValue(place.value()));
    let location = Field::Location as i32;
    {
        let mut data = |name, payload: &dyn Fn(Place) -> Vec<u8>| plant(name, "V", Fate::Delivered, payload);
        data("Location", &|at| v(vec![typed(location, at)]));
        data("OriginLocation", &|at| v(vec![typed(Field::OriginLocation.into(), at)]));
        data("DestinationLocation", &|at| v(vec![typed(Field::DestinationLocation.into(), at)]));
        data("DestinationName", &|at| text(Field::DestinationName, format!("home, {}", at.dms())));
        data("a location as old firmware sends it", &|at| text(Field::Location, at.parenthesised()));
        data("a location under the key of a name", &|at| v(vec![typed(Field::VehicleName.into(), at)]));
        data("a location under the key of a flag", &|at| v(vec![typed(Field::LocatedAtHome.into(), at)]));
        data("a location under an unknown number", &|at| v(vec![typed(9_999, at)]));
        data("decimal in a name", &|at| text(Field::VehicleName, format!("at {} now", at.decimal())));
        data("only decimal in a name", &|at| text(Field::VehicleName, at.decimal()));
        data("degrees, minutes, seconds in a name", &|at| text(Field::VehicleName, at.dms()));
        data("JSON in a name", &|at| text(Field::VehicleName, at.json()));
        data("a polyline", &|at| text(Field::RouteLine, at.polyline()));
        data("base64", &|at| text(Field::RouteLine, at.base64()));
        data("GpsState", &|at| text(Field::GpsState, at.json()));
        data("value before key", &|at| raw(vec![value_first(location, &value(at))]));
        data("twice in a record", &|at| v(vec![typed(location, at), typed(location, at)]));
        data("two values in a datum, to be merged", &|at| raw(vec![merged_values(at)]));
        data("long varints", &|at| raw(vec![long_varints(&value(at))]));
        data("two members of the oneof, the last one a location", &|at| {
            raw(vec![keyed(Field::VehicleName.into(), &[string("x"), value(at)].concat())])
        });
        data("two texts, the last one with coordinates", &|at| {
            raw(vec![keyed(Field::VehicleName.into(), &[string("x"), string(&at.decimal())].concat())])
        });
    }
    plant("an unknown field of the record", "V", Fate::ProtobufOnly, &|at| {
        let mut payload = v(vec![datum(Field::VehicleSpeed, Typed::DoubleValue(1.0))]);
        put_bytes(&mut payload, 100, &at.doubles());
        payload
    });
    plant("an unknown member of a value", "V", Fate::ProtobufOnly, &|at| {
        let mut value = Vec::new();
        put_bytes(&mut value, 500, &at.doubles());
        raw(vec![keyed(Field::VehicleName.into(), &value)])
    });
    plant("decimal in an alert", "alerts", Fate::Delivered, &|at| alert(format!("near {}", at.decimal())));
    plant("JSON in an alert", "alerts", Fate::Delivered, &|at| alert(at.json()));
    let error = VehicleError::default;
    plant("decimal in an error", "errors", Fate::Delivered, &|at| {
        errors(VehicleError { body: format!("lost at {}", at.decimal()), ..error() })
    });
    plant("degrees, minutes, seconds in an error", "errors", Fate::Delivered, &|at| {
        errors(VehicleError { name: at.dms(), ..error() })
    });
    plant("a tag of an error", "errors", Fate::Delivered, &|at| {
        errors(VehicleError { tags: [("at".to_owned(), at.parenthesised())].into(), ..error() })
    });
    plant("two tags of an error", "errors", Fate::Delivered, &|at| {
        let tag = |key: &str, degrees: f64| (key.to_owned(), degrees.to_string());
        errors(VehicleError { tags: [tag("latitude", at.latitude), tag("longitude", at.longitude)].into(), ..error() })
    });
    plant("a custom topic", "sightings", Fate::ProtobufOnly, &|at| {
        [&at.doubles()[..], at.decimal().as_bytes(), at.base64().as_bytes()].concat()
    });
    plant("a topic that goes nowhere", "elsewhere", Fate::Dropped, &|at| at.decimal().into_bytes());
    plant("cut off", "V", Fate::Refused, &|at| {
        let mut payload = text(Field::VehicleName, at.decimal());
        payload.extend(b"\x0a\x7f");
        payload
    });
    plant("no UTF-8", "V", Fate::Refused, &|at| {
        let mut bytes = at.decimal().into_bytes();
        bytes.push(0xff);
        let mut value = Vec::new();
        put_bytes(&mut value, 1, &bytes);
        raw(vec![keyed(Field::VehicleName.into(), &value)])
    });
    plant("no UTF-8 in an error", "errors", Fate::Refused, &|at| {
        let mut error = Vec::new();
        put_bytes(&mut error, 4, &[at.decimal().as_bytes(), b"\xff"].concat());
        let mut payload = Vec::new();
        put_bytes(&mut payload, 1, &error);
        payload
    });
    plant("too long", "V", Fate::Refused, &|at| text(Field::VehicleName, at.decimal().repeat(MAX_MESSAGE_BYTES / 10)));
    assert!(corpus.iter().all(|plant| plant.fate == Fate::Refused || !plant.payload.is_empty()), "{vin}");
    corpus
}

fn v(data: Vec<Datum>) -> Vec<u8> {
    Payload { data, created_at: now(), ..Payload::default() }.encode_to_vec()
}

/// A record of these encoded data.
fn raw(data: Vec<Vec<u8>>) -> Vec<u8> {
    let mut payload = Vec::new();
    for datum in data {
        put_bytes(&mut payload, 1, &datum);
    }
    payload.extend(Payload { created_at: now(), ..Payload::default() }.encode_to_vec());
    payload
}

fn keyed(key: i32, value: &[u8]) -> Vec<u8> {
    let mut datum = Vec::new();
    prost::encoding::int32::encode(1, &key, &mut datum);
    put_bytes(&mut datum, 2, value);
    datum
}

fn value_first(key: i32, value: &[u8]) -> Vec<u8> {
    let mut datum = Vec::new();
    put_bytes(&mut datum, 2, value);
    prost::encoding::int32::encode(1, &key, &mut datum);
    datum
}

fn put_bytes(out: &mut Vec<u8>, number: u32, bytes: &[u8]) {
    encode_key(number, WireType::LengthDelimited, out);
    encode_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

/// An encoded `Value` with a location.
fn value(at: Place) -> Vec<u8> {
    let mut value = Vec::new();
    put_bytes(&mut value, 7, &at.value().encode_to_vec());
    value
}

fn string(text: &str) -> Vec<u8> {
    let mut value = Vec::new();
    put_bytes(&mut value, 1, text.as_bytes());
    value
}

/// The latitude in one `Value` and the longitude in another; a decoder merges them.
fn merged_values(at: Place) -> Vec<u8> {
    let mut datum = keyed(Field::VehicleName.into(), &value(Place { longitude: 0.0, ..at }));
    put_bytes(&mut datum, 2, &value(Place { latitude: 0.0, ..at }));
    datum
}

/// Key and lengths take more bytes than they need.
fn long_varints(value: &[u8]) -> Vec<u8> {
    let length = u8::try_from(value.len()).unwrap();
    assert!(length < 0x80);
    [&[0x08, 0x95, 0x80, 0x00, 0x12, length | 0x80, 0x00][..], value].concat()
}

fn alert(name: String) -> Vec<u8> {
    let alert = VehicleAlert { name, ..VehicleAlert::default() };
    VehicleAlerts { alerts: vec![alert], created_at: now(), ..VehicleAlerts::default() }.encode_to_vec()
}

fn errors(error: VehicleError) -> Vec<u8> {
    VehicleErrors { errors: vec![error], created_at: now(), ..VehicleErrors::default() }.encode_to_vec()
}
