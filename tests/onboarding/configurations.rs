//! Configurations on the command line, and their signatures before an independent judge.

use std::cell::RefCell;
use std::path::Path;

use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};

use super::program::{run, run_with};
use crate::support::pki::Pki;

fn verifier() -> String {
    concat!(env!("CARGO_MANIFEST_DIR"), "/tests/onboarding/verify_ss256.py").to_owned()
}

/// What the verifier, which is Python and nothing else, says of each token.
fn judged(dir: &Path, tokens: &str) -> Vec<String> {
    let said = run_with(dir, "python3", &["-B", &verifier(), "-"], tokens).good();
    said.lines().map(str::to_owned).collect()
}

#[test]
fn a_document_is_built_checked_and_signed() {
    let dir = tempfile::tempdir().unwrap();
    Pki::new(dir.path());
    run(dir.path(), &["keys", "new", "fleet.pem"]).good();
    let build = [
        "fleet-config",
        "build",
        "--hostname",
        "telemetry.example.com",
        "--ca",
        "server_ca.crt",
        "--field",
        "Soc=60",
        "--field",
        "Location=10:25",
        "--alerts",
        "service",
        "--vin",
        "5YJ3E1EA1KF000001",
    ];
    let built = run(dir.path(), &build).good();
    std::fs::write(dir.path().join("document.json"), &built).unwrap();
    let document: Value = serde_json::from_str(&built).unwrap();
    assert_eq!(document["config"]["fields"]["Location"]["minimum_delta"], 25.0);

    let checked = run(dir.path(), &["fleet-config", "check", "document.json", "--domain", "example.com"]).good();
    assert!(checked.contains("cost: at most 10080 signals a day and vehicle, $0.07"), "{checked}");
    assert!(checked.ends_with("document.json: good\n"), "{checked}");

    let body = run(dir.path(), &["fleet-config", "sign", "document.json", "--key", "fleet.pem"]).good();
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(body["vins"], json!(["5YJ3E1EA1KF000001"]));
    assert_eq!(judged(dir.path(), body["token"].as_str().unwrap()), ["ok"]);
    let again = run(dir.path(), &["fleet-config", "sign", "document.json", "--key", "fleet.pem", "--token"]).good();
    assert_eq!(again.trim_end(), body["token"], "the same bytes give the same token");
}

#[test]
fn every_mistake_is_said_at_once_and_nothing_bad_is_signed() {
    let dir = tempfile::tempdir().unwrap();
    run(dir.path(), &["keys", "new", "fleet.pem"]).good();
    let bad = json!({
        "vins": ["short"],
        "config": {
            "hostname": "https://telemetry.example.com", "port": "443", "ca": "", "exp": 1, "iss": "me", "delivery_policy": "all",
            "fields": {"soc": {"interval_seconds": 60}, "Location": {"interval_seconds": 0}}, "prefer_typed": true,
        },
    });
    let document = bad.to_string();
    let program = env!("CARGO_BIN_EXE_fleet-telemetry");
    let check = |arguments: &[&str]| run_with(dir.path(), program, arguments, &document);
    let scopes = ["fleet-config", "check", "-", "--scopes", "openid,vehicle_device_data"];
    let found = check(&scopes);
    assert_eq!(found.code, 1);
    for text in [
        "error: -: vins[0]: \"short\" is no VIN",
        "error: -: hostname: \"https://telemetry.example.com\" is no bare name",
        "error: -: port: a text; give an integer",
        "error: -: ca: empty, which the maker refuses",
        "error: -: exp: 1 is in the past",
        "error: -: iss: is set by whoever signs",
        "error: -: delivery_policy: \"all\" is unknown",
        "error: -: fields.soc: no field that vehicles know (case matters); did you mean \"Soc\"?",
        "error: -: fields.Location.interval_seconds: 0 is not an integer of at least 1",
        "error: -: fields.Location: the owner has not given the scope vehicle_location",
        "warning: -: prefer_typed: is obsolete",
    ] {
        assert!(found.stdout.contains(text), "{text} in {}", found.stdout);
    }
    let machine: Value = serde_json::from_str(&check(&[&scopes[..], &["--json"]].concat()).stdout).unwrap();
    assert_eq!((machine["good"].as_bool(), machine["errors"].as_array().unwrap().len()), (Some(false), 10));

    let signed = check(&["fleet-config", "sign", "-", "--key", "fleet.pem"]);
    assert_eq!((signed.code, signed.stdout.as_str()), (1, ""));
    let nothing = run_with(dir.path(), program, &["fleet-config", "check", "-"], r#"{"config": null}"#);
    assert_eq!((nothing.code, nothing.stderr.as_str()), (1, "error: -: config: expected an object\n"));
}

#[test]
fn the_verifier_agrees_about_the_vectors() {
    let vectors = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/onboarding/vectors.json");
    assert_eq!(run_with(Path::new("/"), "python3", &["-B", &verifier(), vectors], "").good(), "ok\n");
}

#[test]
fn every_token_verifies_independently_whatever_is_in_it_and_no_changed_one_does() {
    use fleet_telemetry::onboarding::{FleetKey, token};
    use proptest::prelude::*;

    let text = "[ -~äß漢\u{2028}<>&\"\\\\]{0,40}";
    let config = proptest::collection::btree_map(text, (text, any::<f64>(), any::<i64>()), 0..6);
    let (tokens, changed) = (RefCell::new(String::new()), RefCell::new(String::new()));
    TestRunner::new(Config::with_cases(40))
        .run(&(config, any::<u16>()), |(config, at)| {
            let members =
                config.into_iter().map(|(name, (text, float, integer))| (name, json!([text, float, integer])));
            let token = token::sign(&FleetKey::generate().unwrap(), &members.collect());
            tokens.borrow_mut().push_str(&format!("{token}\n"));
            let at = usize::from(at) % token.len();
            let other = if token.as_bytes()[at] == b'A' { "B" } else { "A" };
            changed.borrow_mut().push_str(&format!("{}{other}{}\n", &token[..at], &token[at + 1..]));
            Ok(())
        })
        .unwrap();
    let dir = tempfile::tempdir().unwrap();
    let good = judged(dir.path(), &tokens.borrow());
    assert_eq!(good.len(), 40);
    assert!(good.iter().all(|said| said == "ok"), "{good:?}");
    let bad = judged(dir.path(), &changed.borrow());
    assert!(bad.len() == 40 && bad.iter().all(|said| said.starts_with("refused")), "{bad:?}");
}
