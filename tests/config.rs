//! What operators write, and what the server makes of it.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic")]

use std::path::Path;
use std::time::Duration;

use fleet_telemetry::config::file::FileConfig;
use fleet_telemetry::config::{
    AckRule, Config, DispatcherName, Env, Form, InFlight, LoadError, MakerCa, OverLimit, Problems, RateLimit, Start,
    Target, Warning, WhenFull,
};
#[cfg(feature = "zmq")]
use fleet_telemetry::config::{Curve, NoSubscriber};
#[cfg(feature = "redis")]
use fleet_telemetry::config::{NoChannel, RedisMode};
use fleet_telemetry::config::{load, resolve};
use proptest::prelude::{any, prop, proptest};
use serde_json::{Value, json};

/// A configuration that starts, with `changes` over it; `null` removes a key.
fn with(changes: Value) -> String {
    let mut config = json!({
        "port": 443,
        "tls": {"ca_file": "ca.pem", "server_cert": "cert.pem", "server_key": "key.pem"},
        "records": {"V": ["sqlite"]},
    });
    let object = config.as_object_mut().unwrap();
    object.extend(changes.as_object().unwrap().clone());
    object.retain(|_, value| !value.is_null());
    config.to_string()
}

fn resolved_in(env: &Env, text: &str) -> Result<(Config, Vec<Warning>), Problems> {
    resolve(FileConfig::parse(text.as_bytes()).unwrap(), env)
}

fn config(changes: Value) -> Config {
    resolved_in(&Env::default(), &with(changes)).unwrap().0
}

fn warnings(changes: Value) -> Vec<String> {
    resolved_in(&Env::default(), &with(changes)).unwrap().1.iter().map(ToString::to_string).collect()
}

fn errors(changes: Value) -> Vec<String> {
    errors_of(&with(changes))
}

fn errors_of(text: &str) -> Vec<String> {
    resolved_in(&Env::default(), text).unwrap_err().errors.iter().map(ToString::to_string).collect()
}

fn kafka(more: Value) -> Value {
    let mut changes = json!({"kafka": {"bootstrap.servers": "localhost:9092"}, "records": {"V": ["kafka"]}});
    changes.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    changes
}

fn rule(changes: Value) -> AckRule {
    config(changes).routes[0].ack
}

#[test]
fn loads_every_example() {
    let mut seen = 0;
    for entry in std::fs::read_dir("examples").unwrap() {
        let path = entry.unwrap().path();
        // A file of grants is no configuration.
        let is_config = !path.ends_with("permissions-grants.json");
        if is_config && path.extension().is_some_and(|extension| extension == "json") {
            let (config, warnings) = load(&path, &Env::default()).unwrap_or_else(|error| panic!("{error}"));
            let is_reference = path.ends_with("reference-full.json");
            assert!(is_reference || warnings.is_empty(), "{}: {warnings:?}", path.display());
            assert!(!config.routes.is_empty());
            seen += 1;
        }
    }
    assert_eq!(seen, 4);
}

#[test]
fn runs_the_reference_example_unchanged() {
    let (config, warnings) = load(Path::new("examples/reference-full.json"), &Env::default()).unwrap();
    assert_eq!((config.listener.host.as_str(), config.listener.port), ("0.0.0.0", 4443));
    assert_eq!(config.dispatchers.namespace, "tesla_telemetry");
    assert!(config.dispatchers.logger.verbose && config.log.json);
    assert_eq!(config.dispatchers.kafka.unwrap().properties["queue.buffering.max.messages"], "1000000");
    assert_eq!(config.admin.status.unwrap().to_string(), "[::]:8080");
    assert_eq!(config.admin.metrics.unwrap().to_string(), "0.0.0.0:9090");
    let limit = RateLimit { messages: 1000, interval: Duration::from_secs(30), over_limit: OverLimit::BackPressure };
    assert_eq!(config.policy.rate_limit, Some(limit));
    let rules: Vec<_> = config.routes.iter().map(|route| (route.topic.as_str(), route.ack)).collect();
    let expected = [
        ("alerts", AckRule::AllDurable),
        ("errors", AckRule::AllDurable),
        ("V", AckRule::By(DispatcherName::Kafka)),
        ("connectivity", AckRule::OnReceipt),
    ];
    assert_eq!(rules, expected);
    assert!(warnings.iter().all(|warning| matches!(warning, Warning::NoEffect { .. })), "{warnings:?}");
}

#[test]
fn starts_with_the_embedded_store_and_nothing_else() {
    let config = config(json!({}));
    let sqlite = config.dispatchers.sqlite.unwrap();
    assert_eq!(sqlite.path, Path::new("telemetry.db"));
    assert_eq!((sqlite.max_age, sqlite.max_bytes), (None, None));
    assert!(config.dispatchers.kafka.is_none());
    assert!(config.admin.status.is_none() && config.admin.metrics.is_none());
    assert!(config.session.connection_id_from_header && !config.policy.connectivity_from_vehicles);
    assert_eq!(config.policy.rate_limit, None);
    assert_eq!(warnings(json!({})), [""; 0]);
}

#[test]
fn takes_every_limit_of_ours() {
    let config = config(json!({
        "limits": {
            "handshake_timeout": "1s", "header_timeout": "2s", "max_connections": 3, "max_connections_per_address": 4,
            "max_handshakes": 5, "max_message_bytes": 6, "max_frame_bytes": 7, "max_fragments": 8,
            "max_pings_per_second": 9, "idle_timeout": "10s", "ping_interval": "9s", "max_unsettled": 12,
            "max_unsettled_bytes": 100_000, "max_kept_bytes": 2_000_000, "tcp_keepalive": "20s", "tcp_user_timeout": "21s",
            "max_unread_reply_bytes": 2048, "write_timeout": "14s", "client_hello_timeout": "500ms",
            "max_pending_connections": 15, "max_http_connections": 16, "max_http_connections_per_address": 17,
            "http_header_timeout": "18s"
        },
        "sqlite": {
            "path": "x.db", "max_age": "30d", "max_bytes": 2_000_000, "batch": 2, "linger": 0, "max_unsettled": 3,
            "max_unsettled_bytes": 2_000_000
        },
        "records": {"V": ["kafka", "sqlite"]},
        "kafka": {"bootstrap.servers": "b"},
        "kafka_options": {
            "max_unsettled": 4, "max_unsettled_bytes": 3_000_000, "connect_timeout": "5s", "unhealthy_after": "6s"
        },
        "shutdown": {"drain": "1s", "deadline": "2s"}, "workers": {"threads": 3, "coalesce": "2ms"},
        "tls": {"ca_file": "ca.pem", "server_cert": "cert.pem", "server_key": "key.pem", "reload_interval": "7s"},
        "connection_id_from_header": false, "connectivity_from_vehicles": true
    }));
    let (listener, session) = (config.listener, config.session);
    assert_eq!(listener.tls.reload_interval, Duration::from_secs(7));
    assert_eq!((listener.handshake_timeout, listener.header_timeout), (Duration::from_secs(1), Duration::from_secs(2)));
    assert_eq!((listener.max_connections, listener.max_connections_per_address, listener.max_handshakes), (3, 4, 5));
    assert_eq!((listener.max_pending_connections, listener.client_hello_timeout), (15, Duration::from_millis(500)));
    let http = config.http;
    assert_eq!((http.max_connections, http.max_connections_per_address), (16, 17));
    assert_eq!(http.header_timeout, Duration::from_secs(18));
    assert_eq!((session.max_message_bytes, session.max_frame_bytes, session.max_fragments), (6, 7, 8));
    assert_eq!((session.max_pings_per_second, session.max_unread_reply_bytes), (9, 2048));
    assert_eq!(session.max_unsettled, InFlight { records: 12, bytes: 100_000 });
    assert_eq!(session.max_kept_bytes, 2_000_000);
    assert_eq!((listener.tcp_keepalive, listener.tcp_user_timeout), (Duration::from_secs(20), Duration::from_secs(21)));
    assert_eq!((session.idle_timeout, session.ping_interval), (Duration::from_secs(10), Duration::from_secs(9)));
    assert_eq!(session.write_timeout, Duration::from_secs(14));
    assert!(!session.connection_id_from_header && config.policy.connectivity_from_vehicles);
    let sqlite = config.dispatchers.sqlite.unwrap();
    assert_eq!((sqlite.max_age, sqlite.max_bytes), (Some(Duration::from_secs(30 * 86_400)), Some(2_000_000)));
    assert_eq!((sqlite.batch, sqlite.linger), (2, Duration::ZERO));
    assert_eq!(sqlite.max_unsettled, InFlight { records: 3, bytes: 2_000_000 });
    let kafka = config.dispatchers.kafka.unwrap();
    assert_eq!(kafka.max_unsettled, InFlight { records: 4, bytes: 3_000_000 });
    assert_eq!(kafka.connect_timeout, Duration::from_secs(5));
    assert_eq!(kafka.unhealthy_after, Duration::from_secs(6));
    assert_eq!((config.shutdown.drain, config.shutdown.deadline), (Duration::from_secs(1), Duration::from_secs(2)));
    assert_eq!((config.workers.threads, config.workers.coalesce), (3, Duration::from_millis(2)));
}

#[test]
fn treats_dispatchers_as_each_section_says() {
    let config = config(json!({
        "records": {"V": ["kafka", "sqlite", "logger"], "alerts": ["logger"]},
        "reliable_ack_sources": {"V": "sqlite"},
        "kafka": {"bootstrap.servers": "b"}, "kafka_options": {"start": "retry", "when_full": "drop", "form": "json"},
        "sqlite": {"start": "required", "when_full": "wait"}
    }));
    let targets = config.dispatchers.targets;
    let kafka = Target { when_full: WhenFull::Drop, start: Start::Retry, form: Form::Json };
    assert_eq!(targets[&DispatcherName::Kafka], kafka);
    assert_eq!(targets[&DispatcherName::Sqlite], Target::default());
    assert_eq!(targets[&DispatcherName::Logger], Target::default());
}

#[test]
fn sends_what_transmit_decoded_records_says_unless_the_section_says_otherwise() {
    let form = |changes: Value| config(kafka(changes)).dispatchers.target(DispatcherName::Kafka).form;
    assert_eq!(form(json!({})), Form::Protobuf);
    assert_eq!(form(json!({"transmit_decoded_records": true})), Form::Json);
    let both = json!({"transmit_decoded_records": true, "kafka_options": {"form": "protobuf"}});
    assert_eq!(form(both), Form::Protobuf);
    let found = errors(kafka(json!({"kafka_options": {"form": "xml"}})));
    assert_eq!(found, ["kafka_options.form: unknown value \"xml\", allowed are protobuf, json"]);
}

#[test]
fn refuses_to_drop_what_an_ack_depends_on_and_to_wait_for_what_none_does() {
    let text = json!({
        "port": 1, "tls": {"ca_file": "c", "server_cert": "s", "server_key": "k"},
        "records": {"V": ["sqlite", "logger"]},
        "sqlite": {"when_full": "drop"}, "logger": {"when_full": "wait", "start": "later"}
    });
    let found = errors_of(&text.to_string());
    for expected in [
        "sqlite.when_full: \"drop\" cannot be: the acks of records.V depend on sqlite, so it cannot drop any of them; \
         leave it out",
        "logger.when_full: \"wait\" cannot be: the acks of records.V do not depend on logger, so it must not delay \
         them; leave it out",
        "logger.start: unknown value \"later\", allowed are required, retry",
    ] {
        assert!(found.iter().any(|error| error == expected), "no {expected:?} in {found:#?}");
    }
}

#[test]
fn fits_defaults_to_what_is_given() {
    let limits = |limits: Value| config(json!({"limits": limits})).session;
    assert_eq!(limits(json!({"idle_timeout": "30s"})).ping_interval, Duration::from_secs(15));
    assert_eq!(limits(json!({"max_message_bytes": 8_000_000})).max_frame_bytes, 8_000_000);
    assert_eq!(config(json!({"limits": {"idle_timeout": "30s"}})).listener.tcp_user_timeout, Duration::from_secs(15));
    assert_eq!(config(json!({"shutdown": {"deadline": "3s"}})).shutdown.drain, Duration::from_millis(1500));
    let few = config(json!({"limits": {"max_connections": 7, "handshake_timeout": "2s", "max_http_connections": 6}}));
    assert_eq!((few.listener.max_connections_per_address, few.listener.max_pending_connections), (7, 7));
    assert_eq!(few.listener.client_hello_timeout, Duration::from_secs(2));
    assert_eq!(few.http.max_connections_per_address, 3);
}

#[test]
fn reports_all_mistakes_at_once() {
    let text = json!({
        "port": 70000, "status_port": 99999, "ack": "sometimes", "tls": {"maker_ca": false, "server_cert": "", "server_key": "k", "reload_interval": "1ms"},
        "records": {"V": [], "alerts": ["kafak"], "errors": ["kafka"]}, "log_level": 3,
        "rate_limit": {"enabled": true, "over_limit": "panic"},
        "limits": {"idle_timeout": "10s", "ping_interval": "10s", "max_connections": 0, "max_frame_bytes": 10,
                   "max_pending_connections": 0, "client_hello_timeout": "2h", "max_http_connections": 1,
                   "max_http_connections_per_address": 0, "http_header_timeout": "1ms"},
        "shutdown": {"drain": "2m"}, "sqlite": {"path": "", "batch": 0}, "workers": {"threads": 0, "coalesce": "1s"}
    });
    let found = errors_of(&text.to_string());
    for expected in [
        "log_level: expected a string, found 3; write \"3\"",
        "ack: unknown value \"sometimes\", allowed are on_delivery, on_receipt",
        "unknown_dispatch_rule record: V, dispatchRule:[]",
        "records.alerts: unknown value \"kafak\", allowed are logger, kafka, pubsub, kinesis, zmq, mqtt, redis, http, postgres, sqlite \
         (did you mean \"kafka\"?)",
        "expected Kafka to be configured",
        "tls.server_cert: missing; give the server's PEM certificate chain, leaf first",
        "tls.reload_interval: 1ms is out of range, allowed is 100ms to 3600s",
        "port: 70000 is out of range, allowed is 0 to 65535",
        "status_port: 99999 is out of range, allowed is 1 to 65535",
        "limits.max_connections: 0 is out of range, allowed is 1 to 10000000",
        "limits.max_pending_connections: 0 is out of range, allowed is 1 to 1000000",
        "limits.client_hello_timeout: 7200s is out of range, allowed is 10ms to 3600s",
        "limits.max_http_connections: 1 is out of range, allowed is 2 to 100000",
        "limits.max_http_connections_per_address: 0 is out of range, allowed is 1 to 100000",
        "limits.http_header_timeout: 1ms is out of range, allowed is 10ms to 3600s",
        "workers.threads: 0 is out of range, allowed is 1 to 1024",
        "workers.coalesce: 1s is out of range, allowed is 0ns to 20ms",
        "limits.max_frame_bytes: 10 is out of range, allowed is at least limits.max_message_bytes = 1000000",
        "limits.ping_interval: 10s is out of range, allowed is less than limits.idle_timeout = 10s",
        "rate_limit.over_limit: unknown value \"panic\", allowed are back_pressure, drop",
        "rate_limit.message_limit: 0 is out of range, allowed is 1 to 1000000",
        "shutdown.drain: closing connections would take 120s, more than half of shutdown.deadline = 25s; the other half \
         is for records on their way",
        "sqlite.path: missing; give a file, such as \"telemetry.db\"",
        "sqlite.batch: 0 is out of range, allowed is 1 to 100000",
    ] {
        assert!(found.iter().any(|error| error == expected), "{expected} in {found:#?}");
    }
    assert!(
        found.iter().any(|error| error.starts_with("tls.ca_file: missing; with \"maker_ca\": false nobody is trusted"))
    );
    assert_eq!(found.len(), 25, "{found:#?}");
}

#[test]
fn trusts_the_makers_authorities_and_those_of_a_file() {
    let tls = |more: Value, eng: Value| {
        let mut tls = json!({"server_cert": "cert.pem", "server_key": "key.pem"});
        tls.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let tls = config(json!({"tls": tls, "use_default_eng_ca": eng})).listener.tls;
        (tls.maker_ca, tls.ca_file.map(|path| path.display().to_string()))
    };
    let file = || Some("ca.pem".to_owned());
    assert_eq!(tls(json!({}), json!(null)), (Some(MakerCa::Production), None));
    assert_eq!(tls(json!({"ca_file": ""}), json!(true)), (Some(MakerCa::Engineering), None));
    assert_eq!(tls(json!({"ca_file": "ca.pem"}), json!(false)), (Some(MakerCa::Production), file()));
    assert_eq!(tls(json!({"ca_file": "ca.pem", "maker_ca": false}), json!(null)), (None, file()));
    let both = json!({"ca_file": "a", "maker_ca": false, "server_cert": "c", "server_key": "k"});
    let advice = warnings(json!({"tls": both, "use_default_eng_ca": true}));
    assert_eq!(advice, ["use_default_eng_ca: has no effect, since tls.maker_ca is false"]);
}

#[test]
fn refuses_to_run_without_tls_in_the_words_of_the_reference() {
    let text = "tls config is empty - telemetry server is mTLS only, make sure to provide certificates in the config";
    assert_eq!(errors(json!({"tls": null})), [text]);
}

#[test]
fn validates_reliable_ack_sources_in_the_words_of_the_reference() {
    let sources =
        |sources: Value, records: Value| errors(kafka(json!({"reliable_ack_sources": sources, "records": records})));
    assert_eq!(
        sources(json!({"V": "pubsub"}), json!({"V": ["kafka", "logger"]})),
        ["pubsub cannot be configured as reliable ack for record: V. Valid datastores configured [kafka]"]
    );
    assert_eq!(
        sources(json!({"V": "mqtt"}), json!({"V": ["kafka", "logger", "sqlite"]})),
        ["mqtt cannot be configured as reliable ack for record: V. Valid datastores configured [kafka sqlite]"]
    );
    assert_eq!(
        sources(json!({"V": "logger"}), json!({"V": ["kafka", "logger"]})),
        ["logger cannot be configured as reliable ack for record: V"]
    );
    assert_eq!(
        sources(json!({"error": "kafka"}), json!({"V": ["kafka"]})),
        ["kafka cannot be configured as reliable ack for record: error since no record mapping exists"]
    );
    assert_eq!(
        sources(json!({"connectivity": "kafka"}), json!({"connectivity": ["kafka"]})),
        ["reliable ack not needed for txType: connectivity"]
    );
}

#[test]
fn acks_on_delivery_unless_told_otherwise() {
    assert_eq!(rule(json!({})), AckRule::AllDurable);
    assert_eq!(rule(json!({"ack": "on_delivery"})), AckRule::AllDurable);
    assert_eq!(rule(json!({"ack": "on_receipt"})), AckRule::OnReceipt);
    assert_eq!(rule(json!({"records": {"V": ["logger", "sqlite"]}})), AckRule::AllDurable);
    let named = json!({"ack": "on_receipt", "reliable_ack_sources": {"V": "kafka"}});
    assert_eq!(rule(kafka(named)), AckRule::By(DispatcherName::Kafka));
}

#[test]
fn acks_by_the_logger_where_it_is_alone_and_says_that_nothing_keeps_the_record() {
    let logger_only = json!({"records": {"V": ["logger"]}});
    assert_eq!(rule(logger_only.clone()), AckRule::By(DispatcherName::Logger));
    assert!(warnings(logger_only)[0].starts_with("records.V: acked when logger has delivered, which keeps no records"));
    assert_eq!(rule(json!({"records": {"connectivity": ["logger"]}})), AckRule::OnReceipt);
    assert_eq!(rule(json!({"ack": "on_receipt", "records": {"V": ["logger"]}})), AckRule::OnReceipt);
    assert_eq!(warnings(json!({"records": {"connectivity": ["logger"]}})), [""; 0]);
    assert_eq!(warnings(json!({"ack": "on_receipt", "records": {"V": ["logger"]}})), [""; 0]);
}

#[test]
fn lists_a_repeated_dispatcher_once() {
    let twice = json!({"records": {"V": ["sqlite", "logger", "sqlite"]}});
    assert_eq!(config(twice.clone()).routes[0].dispatchers, [DispatcherName::Sqlite, DispatcherName::Logger]);
    assert_eq!(warnings(twice), ["records.V: \"sqlite\" is listed twice; it is used once"]);
}

#[test]
fn names_a_dispatcher_that_this_build_lacks() {
    assert_eq!(
        errors(json!({"records": {"alerts": ["kinesis"]}, "kinesis": {"max_retries": 3}})),
        [format!(
            "records.alerts: this build has no dispatcher \"kinesis\"; it has logger, kafka, {}mqtt, redis, http, postgres, sqlite",
            if cfg!(feature = "zmq") { "zmq, " } else { "" }
        )]
    );
    #[cfg(not(feature = "zmq"))]
    assert_eq!(
        errors(json!({"records": {"alerts": ["zmq"]}, "zmq": {"addr": "tcp://*:5284"}})),
        [
            "records.alerts: this build has no dispatcher \"zmq\"; it has logger, kafka, mqtt, redis, http, postgres, sqlite; builds with \
             the cargo feature zmq, or full, have it"
        ]
    );
}

#[cfg(feature = "http")]
#[test]
fn posts_to_a_url_and_says_what_is_wrong_with_the_section() {
    let http = |section: Value| json!({"records": {"V": ["http"]}, "http": section});
    let resolved = config(http(json!({"url": "https://example.com/a?token=hidden", "format": "protobuf"})));
    let webhook = resolved.dispatchers.http.as_ref().unwrap();
    assert_eq!((webhook.is_https, webhook.port, webhook.path.as_str()), (true, 443, "/a?token=hidden"));
    assert!(!format!("{resolved:?}").contains("hidden"));
    assert_eq!(resolved.dispatchers.target(DispatcherName::Http).form, Form::Protobuf);
    let lines = config(http(json!({"url": "http://example.com"})));
    assert_eq!(lines.dispatchers.target(DispatcherName::Http).form, Form::Json);
    assert_eq!(errors(json!({"records": {"V": ["http"]}})), ["expected HTTP to be configured"]);
    let odd = json!({"url": "http://u:hidden@example.com", "format": "xml", "signing_secret": "${NOBODY}", "tls": {},
                     "batch": 0, "timeout": "2h", "connections": 1000});
    let found = errors(http(odd));
    for expected in [
        "http.url: holds credentials; put them into http.authorization",
        "http.format: unknown value \"xml\", allowed are ndjson, json_array, protobuf",
        "http.signing_secret: the environment variable NOBODY is not set",
        "http.tls: is for https, but http.url begins with http://; change it, or leave http.tls out",
        "http.batch: 0 is out of range, allowed is 1 to 100000",
        "http.timeout: 7200s is out of range, allowed is 10ms to 3600s",
        "http.connections: 1000 is out of range, allowed is 1 to 256",
    ] {
        assert!(found.iter().any(|error| error == expected), "{expected} in {found:#?}");
    }
    assert_eq!(found.len(), 7, "{found:#?}");
}

#[cfg(feature = "mqtt")]
fn mqtt(section: Value) -> Value {
    json!({"records": {"V": ["mqtt"], "connectivity": ["mqtt"]}, "mqtt": section})
}

#[cfg(feature = "mqtt")]
#[test]
fn takes_the_references_mqtt_section() {
    let section = json!({
        "broker": "localhost:1883", "client_id": "client-1", "username": "u", "password": "p", "topic_base": "telemetry",
        "qos": 1, "retained": true, "connect_timeout_ms": 0, "publish_timeout_ms": 1000, "keep_alive_seconds": 60,
    });
    let mqtt_config = config(mqtt(section)).dispatchers.mqtt.unwrap();
    assert_eq!((mqtt_config.host.as_str(), mqtt_config.port, mqtt_config.tls), ("localhost", 1883, None));
    assert_eq!(mqtt_config.connect_timeout, Duration::from_secs(30), "0 means the default");
    assert_eq!(mqtt_config.publish_timeout, Duration::from_secs(1));
    assert_eq!(mqtt_config.password.unwrap().expose(), "p");
    let tls = config(mqtt(json!({"broker": "broker", "tls": {}}))).dispatchers.mqtt.unwrap();
    assert!(tls.tls.is_some() && tls.port == 8883);
    assert_eq!(errors(json!({"records": {"V": ["mqtt"]}})), ["expected MQTT to be configured"]);
    let odd = json!({
        "broker": "tcp://u:hidden@broker:1883", "password": 5, "qos": 3, "topic_base": "a/#", "clean_session": false,
        "keep_alive_seconds": 70000, "publish_timeout_ms": -1, "home_assistant": {"discovery_prefix": "+"},
    });
    let found = errors(mqtt(odd));
    let begins = [
        "mqtt.password: expected a string, found something else",
        "mqtt.broker: holds credentials; put them into mqtt.username and mqtt.password",
        "mqtt.qos: 3 is out of range, allowed is 0, 1 or 2",
        "mqtt.client_id: missing; with clean_session false",
        "mqtt.publish_timeout_ms: -1 is out of range",
        "mqtt.topic_base: unknown value",
        "mqtt.keep_alive_seconds: 70000 is out of range",
        "mqtt.home_assistant.discovery_prefix: unknown value",
    ];
    assert_eq!(found.len(), begins.len(), "{found:?}");
    for (found, begin) in found.iter().zip(begins) {
        assert!(found.starts_with(begin), "{found}, not {begin}");
    }
    for broker in ["ws://broker:80", "unix:///run/broker", "broker:port", "tcp://broker:1883/x"] {
        let found = errors(mqtt(json!({"broker": broker})));
        assert!(found[0].starts_with("mqtt.broker: unknown value"), "{found:?}");
    }
    let found = errors(mqtt(json!({"broker": "tcp://broker", "tls": {"cert_file": "x"}})));
    assert_eq!(
        found,
        ["mqtt.broker: means no TLS, but there is mqtt.tls; begin it with ssl://, or leave mqtt.tls out",]
    );
    let found = errors(mqtt(json!({"broker": "ssl://broker", "tls": {"cert_file": "x"}})));
    assert_eq!(found, ["mqtt.tls.cert_file: needs mqtt.tls.key_file as well"]);
}

#[cfg(feature = "zmq")]
#[test]
fn takes_the_references_zmq_section() {
    let zmq = |section: Value| json!({"records": {"V": ["zmq"]}, "zmq": section});
    let section = json!({
        "addr": "tcp://*:5284", "server_key_json_path": "/s", "allowed_public_keys_json_path": "/a", "verbose": true,
    });
    let zmq_config = config(zmq(section.clone())).dispatchers.zmq.unwrap();
    assert_eq!(zmq_config.addr, "tcp://*:5284");
    assert_eq!(zmq_config.curve, Some(Curve { server_key: "/s".into(), allowed_keys: "/a".into() }));
    assert!(zmq_config.verbose && zmq_config.no_subscriber == NoSubscriber::Deliver);
    assert_eq!(rule(zmq(section.clone())), AckRule::OnReceipt, "nobody says who has got a record");
    let mut named = zmq(section);
    named["reliable_ack_sources"] = json!({"V": "zmq"});
    assert_eq!(config(named.clone()).dispatchers.zmq.unwrap().no_subscriber, NoSubscriber::Wait);
    assert!(warnings(named)[0].contains("zmq does not say who has got a record"));
    assert_eq!(errors(json!({"records": {"V": ["zmq"]}})), ["expected ZMQ to be configured"]);
    let odd = errors(zmq(json!({"server_key_json_path": "/s", "high_water_mark": 0, "no_subscriber": "ack"})));
    let begins = [
        "zmq.addr: missing; give what to bind",
        "zmq.allowed_public_keys_json_path: missing; with zmq.server_key_json_path it lists the keys",
        "zmq.high_water_mark: 0 is out of range",
        "zmq.no_subscriber: unknown value \"ack\", allowed are deliver, wait",
    ];
    assert_eq!(odd.len(), begins.len(), "{odd:?}");
    assert!(odd.iter().zip(begins).all(|(found, begin)| found.starts_with(begin)), "{odd:?}");
    let found = errors(zmq(json!({"addr": "tcp://*:1", "allowed_public_keys_json_path": "/a"})));
    assert!(found[0].starts_with("zmq.server_key_json_path: missing; without it everybody may subscribe"), "{found:?}");
}

#[cfg(feature = "redis")]
fn redis(section: Value) -> Value {
    json!({"records": {"V": ["redis"]}, "redis": section})
}

#[cfg(feature = "redis")]
#[test]
fn takes_the_references_redis_section() {
    let section = json!({
        "addrs": ["localhost:6379"], "username": "u", "password": "p", "db": 3, "tls": {}, "override_tls_server_name": true,
        "publish_timeout": 2_000_000_000_u64, "publish_vin_topics": true, "subscriber_set_prefix": "s",
    });
    let redis_config = config(redis(section.clone())).dispatchers.redis.unwrap();
    assert_eq!(redis_config.addresses, [("localhost".to_owned(), 6379)]);
    assert_eq!((redis_config.mode, redis_config.db), (RedisMode::Single, 3));
    assert_eq!(redis_config.publish_timeout, Duration::from_secs(2));
    assert_eq!(redis_config.tls.unwrap().server_name.as_deref(), Some("localhost"));
    assert_eq!(redis_config.password.unwrap().expose(), "p");
    let env = Env::from_iter([("REDIS_PASSWORD", "from the environment")]);
    let (config_in_env, _) = resolved_in(&env, &with(redis(section.clone()))).unwrap();
    assert_eq!(config_in_env.dispatchers.redis.unwrap().password.unwrap().expose(), "from the environment");
    let mut pooled = section.clone();
    pooled["pool"] = json!({"pool_size": 10});
    assert!(warnings(redis(pooled))[0].starts_with("redis.pool: has no effect"));

    let cluster = json!({"addrs": ["a:1", "b:2"], "publish_vin_topics": true, "db": 1});
    assert_eq!(config(redis(cluster.clone())).dispatchers.redis.unwrap().mode, RedisMode::Cluster);
    assert!(
        warnings(redis(cluster)).iter().any(|warning| warning.starts_with("redis.db: a cluster has only database 0"))
    );

    assert_eq!(errors(json!({"records": {"V": ["redis"]}})), ["expected Redis to be configured"]);
    let odd = json!({
        "addrs": ["redis://u:hidden@host:1"], "cluster_mode": true, "sentinel_master": "m", "no_channel": "ack", "password": 5,
        "db": -1, "publish_timeout": "2d",
    });
    let found = errors(redis(odd));
    let begins = [
        "redis.password: expected a string, found something else",
        "redis.addrs: unknown value \"host:1\", allowed are host:port",
        "redis.sentinel_master: the addresses are either sentinels' or a cluster's",
        "redis.publish_vin_topics: redis requires publish_vin_topics or subscriber_set_prefix to be set, otherwise no records \
         are published",
        "redis.db: -1 is out of range",
        "redis.publish_timeout: 172800s is out of range",
        "redis.no_channel: unknown value \"ack\", allowed are deliver, refuse",
    ];
    assert_eq!(found.len(), begins.len(), "{found:?}");
    for (found, begin) in found.iter().zip(begins) {
        assert!(found.starts_with(begin), "{found}, not {begin}");
    }
    assert!(errors(redis(json!({"publish_vin_topics": true})))[0].contains("redis addrs cannot be empty"));
}

#[cfg(feature = "redis")]
#[test]
fn acks_wait_for_the_streams_of_redis_and_not_for_channels() {
    let channels = redis(json!({"addrs": ["r"], "publish_vin_topics": true}));
    assert_eq!(rule(channels.clone()), AckRule::OnReceipt);
    assert_eq!(config(channels.clone()).dispatchers.redis.unwrap().no_channel, NoChannel::Deliver);
    let mut named = channels;
    named["reliable_ack_sources"] = json!({"V": "redis"});
    assert_eq!(rule(named.clone()), AckRule::By(DispatcherName::Redis));
    assert_eq!(
        config(named).dispatchers.redis.unwrap().no_channel,
        NoChannel::Refuse,
        "an ack means that somebody was there"
    );
    let streams = redis(json!({"addrs": ["r"], "streams": {"max_length": 5}}));
    assert_eq!(config(streams).routes[0].deciders, [DispatcherName::Redis]);
}

#[cfg(feature = "mqtt")]
#[test]
fn acks_wait_for_an_mqtt_broker_that_confirms() {
    let with_qos = |qos: u8| mqtt(json!({"broker": "b", "qos": qos}));
    assert_eq!(rule(with_qos(0)), AckRule::OnReceipt);
    assert!(warnings(with_qos(0))[0].starts_with("records.V: acked on receipt: none of its dispatchers keeps records"));
    assert_eq!(rule(with_qos(1)), AckRule::AllDurable);
    assert_eq!(config(with_qos(2)).routes[0].deciders, [DispatcherName::Mqtt]);
    let mut named = with_qos(0);
    named["reliable_ack_sources"] = json!({"V": "mqtt"});
    assert_eq!(rule(named.clone()), AckRule::By(DispatcherName::Mqtt));
    assert!(warnings(named)[0].contains("with mqtt.qos 0 no broker confirms a record"));
}

#[cfg(feature = "mqtt")]
#[test]
fn home_assistant_wants_retained_values_and_to_know_who_is_there() {
    let home = |more: Value| {
        let mut section = json!({"broker": "b", "qos": 1, "home_assistant": {}});
        section.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        mqtt(section)
    };
    let mqtt_config = config(home(json!({}))).dispatchers.mqtt.unwrap();
    assert!(mqtt_config.retained && mqtt_config.home_assistant.unwrap().has_connectivity);
    assert!(warnings(home(json!({"retained": false})))[0].starts_with("mqtt.retained: with false, Home Assistant"));
    let mut alone = home(json!({}));
    alone["records"] = json!({"V": ["mqtt"]});
    assert!(warnings(alone)[0].starts_with("records.connectivity: does not name mqtt"));
}

#[test]
fn checks_kafka_properties() {
    assert_eq!(
        errors(json!({"records": {"V": ["kafka"]}, "kafka": {"a": null, "b": [], "delivery.report.only.error": true}})),
        [
            "kafka: Invalid value type <nil> for key a (expected string,bool,int,ConfigMap)",
            "kafka: Invalid value type []interface {} for key b (expected string,bool,int,ConfigMap)",
            "kafka.bootstrap.servers: missing; give the brokers, such as \"kafka-1:9092,kafka-2:9092\"",
            "kafka.delivery.report.only.error: true would hide successful deliveries, which acks wait for",
        ]
    );
    let go_client = json!({"kafka": {"bootstrap.servers": "b", "go.events.channel.size": 5, "acks": 1}});
    let found = warnings(kafka(go_client.clone()));
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].starts_with("kafka.go.events.channel.size: has no effect") && found[1].starts_with("kafka.acks:"));
    assert!(!config(kafka(go_client)).dispatchers.kafka.unwrap().properties.contains_key("go.events.channel.size"));
}

#[test]
fn judges_kafka_properties_as_librdkafka_reads_them() {
    let with = |property: &str, value: Value| kafka(json!({"kafka": {"bootstrap.servers": "b", property: value}}));
    for value in [json!("1"), json!("t"), json!(1), json!("TRUE"), json!(true)] {
        let found = errors(with("delivery.report.only.error", value));
        assert!(found.len() == 1 && found[0].starts_with("kafka.delivery.report.only.error: "), "{found:?}");
    }
    for (property, value) in [
        ("enable.gapless.guarantee", json!("T")),
        ("transactional.id", json!("x")),
        ("test.mock.num.brokers", json!(1)),
        ("request.required.acks", json!(2)),
    ] {
        let found = errors(with(property, value));
        assert!(found.len() == 1 && found[0].starts_with(&format!("kafka.{property}: ")), "{found:?}");
    }
    for (property, value) in [
        ("message.timeout.ms", json!(1000)),
        ("message.send.max.retries", json!(0)),
        ("max.in.flight", json!(6)),
        ("partitioner", json!("random")),
        ("queuing.strategy", json!("lifo")),
    ] {
        let found = warnings(with(property, value));
        assert!(found.len() == 1 && found[0].starts_with(&format!("kafka.{property}: ")), "{found:?}");
    }
    assert_eq!(warnings(with("message.timeout.ms", json!(0))), [""; 0]);
}

/// With `acks` 0 Kafka's word is nobody's.
#[test]
fn no_ack_waits_for_kafka_when_no_broker_confirms_anything() {
    for (property, value) in [("acks", json!(0)), ("request.required.acks", json!("00"))] {
        let unconfirmed = |more: Value| {
            let mut changes = kafka(json!({"kafka": {"bootstrap.servers": "b", property: value}}));
            changes.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            changes
        };
        assert_eq!(rule(unconfirmed(json!({}))), AckRule::OnReceipt);
        let found = warnings(unconfirmed(json!({})));
        assert!(found.iter().any(|text| text.starts_with("records.V: acked on receipt")), "{found:?}");
        assert!(found.iter().any(|text| text.starts_with(&format!("kafka.{property}: "))), "{found:?}");
        let both = config(unconfirmed(json!({"records": {"V": ["kafka", "sqlite"]}})));
        assert_eq!(both.routes[0].deciders, [DispatcherName::Sqlite]);
        let found = errors(unconfirmed(json!({"reliable_ack_sources": {"V": "kafka"}})));
        assert!(found.len() == 1 && found[0].starts_with(&format!("kafka.{property}: ")), "{found:?}");
        assert!(found[0].contains("ack of V") && found[0].contains("set it to all"), "{found:?}");
    }
}

#[test]
fn never_shows_kafka_passwords() {
    let config = config(kafka(json!({"kafka": {"bootstrap.servers": "b", "sasl.password": "hunter2"}})));
    assert!(!format!("{config:?}").contains("hunter2"));
    assert!(format!("{config:?}").contains("sasl.password"));
}

#[test]
fn limits_rates_by_the_documented_or_the_hidden_interval() {
    let limit = |limit: Value| config(json!({"rate_limit": limit})).policy.rate_limit;
    let of = |messages, interval, over_limit| Some(RateLimit { messages, interval, over_limit });
    let (second, minute) = (Duration::from_secs(1), Duration::from_secs(60));
    assert_eq!(limit(json!({"enabled": false, "message_limit": 0})), None);
    assert_eq!(limit(json!({"enabled": true, "message_limit": 5})), of(5, minute, OverLimit::BackPressure));
    let short = json!({"enabled": true, "message_limit": 5, "message_interval_time": 1, "over_limit": "drop"});
    assert_eq!(limit(short), of(5, second, OverLimit::Drop));
    let hidden = json!({"enabled": true, "message_limit": 5, "messageintervaltimesecond": 1_000_000_000});
    assert_eq!(limit(hidden), of(5, second, OverLimit::BackPressure));
    assert_eq!(errors(json!({"rate_limit": {"enabled": true, "message_limit": -1}})).len(), 1);
}

#[test]
fn understands_the_levels_of_the_reference_and_stays_at_info_otherwise() {
    use tracing::level_filters::LevelFilter;
    let level = |name: &str| config(json!({"log_level": name})).log.level;
    assert_eq!(level("PANIC"), LevelFilter::ERROR);
    assert_eq!(level("Warning"), LevelFilter::WARN);
    assert_eq!(level("trace"), LevelFilter::TRACE);
    assert_eq!(level("loud"), LevelFilter::INFO);
    assert!(warnings(json!({"log_level": "loud"}))[0].starts_with("log_level: not a valid level: \"loud\""));
    assert_eq!(config(json!({})).log.level, LevelFilter::INFO);
}

#[test]
fn bounds_the_log_and_the_logger() {
    let given = config(json!({
        "limits": {"max_log_lines": 1, "max_log_bytes": 16_384},
        "logger": {"max_unsettled": 2, "max_unsettled_bytes": 1_048_576}
    }));
    assert_eq!((given.log.max_lines, given.log.max_bytes), (1, 16_384));
    let logger = given.dispatchers.logger;
    assert_eq!((logger.max_unsettled.records, logger.max_unsettled.bytes), (2, 1 << 20));
    let default = config(json!({}));
    assert_eq!((default.log.max_lines, default.log.max_bytes), (10_000, 8 << 20));
    let logger = default.dispatchers.logger;
    assert_eq!((logger.max_unsettled.records, logger.max_unsettled.bytes), (10_000, 64 << 20));
    let wrong = json!({
        "limits": {"max_log_lines": 0, "max_log_bytes": 16_383},
        "logger": {"max_unsettled": 0, "max_unsettled_bytes": 1_048_575}
    });
    assert_eq!(
        errors(wrong),
        [
            "logger.max_unsettled: 0 is out of range, allowed is 1 to 10000000",
            "logger.max_unsettled_bytes: 1048575 is out of range, allowed is 1048576 to 1099511627776",
            "limits.max_log_lines: 0 is out of range, allowed is 1 to 10000000",
            "limits.max_log_bytes: 16383 is out of range, allowed is 16384 to 1073741824",
        ]
    );
}

#[test]
fn says_that_a_level_leaves_the_logger_nothing_to_write() {
    let quiet = |records: Value| warnings(json!({"log_level": "warn", "records": records}));
    assert!(quiet(json!({"V": ["sqlite", "logger"]}))[0].starts_with("log_level: the logger's lines have level info"));
    assert_eq!(quiet(json!({"V": ["sqlite"]})), [""; 0]);
}

#[test]
fn reads_the_handshake_switch_from_the_environment() {
    let switch =
        |value: &str| resolved_in(&Env::from_iter([("SUPPRESS_TLS_HANDSHAKE_ERROR_LOGGING", value)]), &with(json!({})));
    assert!(switch("T").unwrap().0.log.suppress_handshake_errors);
    assert!(!switch("False").unwrap().0.log.suppress_handshake_errors);
    for invalid in ["", "yes", "tRUE"] {
        let problems = switch(invalid).unwrap_err();
        assert!(problems.to_string().starts_with("environment variable SUPPRESS_TLS_HANDSHAKE_ERROR_LOGGING"));
    }
}

#[test]
fn counts_unique_tracked_vins() {
    let vins = |count: usize| json!({"vins_signal_tracking_enabled": (0..count).chain(0..count).map(|n| n.to_string()).collect::<Vec<_>>()});
    assert!(warnings(vins(20))[0].starts_with("vins_signal_tracking_enabled: has no effect"));
    assert_eq!(errors(vins(21)), ["set the value of `vins_signal_tracking_enabled` less than 20 unique vins"]);
}

#[test]
fn places_admin_listeners_where_the_reference_does() {
    let admin = |changes| config(changes).admin;
    let off = admin(json!({"status_port": -1, "monitoring": {"prometheus_metrics_port": 0}}));
    assert!(off.status.is_none() && off.metrics.is_none());
    let on = admin(json!({"status_port": 80, "monitoring": {"prometheus_metrics_port": 90}}));
    assert_eq!(
        (on.status.unwrap().to_string(), on.metrics.unwrap().to_string()),
        ("[::]:80".into(), "127.0.0.1:90".into())
    );
    let placed = admin(json!({
        "status_port": 80, "status_host": "127.0.0.2",
        "monitoring": {"prometheus_metrics_port": 90, "prometheus_metrics_host": "[::1]"}
    }));
    assert_eq!(
        (placed.status.unwrap().to_string(), placed.metrics.unwrap().to_string()),
        ("127.0.0.2:80".into(), "[::1]:90".into())
    );
    let bad = json!({"monitoring": {"prometheus_metrics_port": 90, "prometheus_metrics_host": "no such host"}});
    assert!(errors(bad)[0].starts_with("monitoring.prometheus_metrics_host: unknown value \"no such host\""));
}

#[test]
fn says_where_a_file_is_broken_or_that_it_is_not_there() {
    let missing = load(Path::new("no/such.json"), &Env::default()).unwrap_err();
    assert!(matches!(missing, LoadError::Unreadable { .. }) && missing.to_string().starts_with("no/such.json: "));
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "{\n  \"port\": 443\n  \"host\": \"\"\n}\n").unwrap();
    let broken = load(file.path(), &Env::default()).unwrap_err();
    assert_eq!(
        broken.to_string(),
        format!("{}: line 3 column 3: expected `,` or `}}`, at: \"host\": \"\"", file.path().display())
    );
}

proptest! {
    #[test]
    fn never_panics_whatever_the_file_holds(at in any::<prop::sample::Index>(), bytes: Vec<u8>, cut: bool) {
        let mut text = std::fs::read("examples/reference-full.json").unwrap();
        let at = at.index(text.len());
        let until = if cut { text.len() } else { (at + bytes.len()).min(text.len()) };
        text.splice(at..until, bytes);
        if let Ok(file) = FileConfig::parse(&text) {
            drop(resolve(file, &Env::default()));
        }
    }
}
