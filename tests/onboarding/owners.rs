//! Owners: consent, pairing, what their vehicles are told, and how all of it ends.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::site::{BLUE, RED, Site, telemetry};

fn site() -> Site {
    let site = Site::with(|config, dir| config["onboarding"]["telemetry"] = telemetry(dir));
    site.register();
    site
}

#[test]
fn an_owner_consents_pairs_is_told_and_leaves_again() {
    let site = site();
    let link = site.run(&["consent", "link"]);
    for text in
        ["vehicle_location: the place of the car", "vehicle_device_data: the data", "nothing is ticked beforehand"]
    {
        assert!(link.stderr.contains(text), "{text} in {}", link.stderr);
    }
    for part in ["code_challenge_method=S256", "prompt_missing_scopes=true", "require_requested_scopes=true"] {
        assert!(link.stdout.contains(part), "{part} in {}", link.stdout);
    }
    let back = site.allow(link.stdout.trim(), &["vehicle_device_data", "vehicle_location"]);
    let connected = site.run(&["consent", "finish", &back]).good();
    assert!(connected.contains(RED) && connected.contains("Blue"), "{connected}");
    let listed: Value = serde_json::from_str(&site.run(&["vehicles", "--json"]).good()).unwrap();
    assert_eq!((listed[0]["vin"].as_str(), listed[0]["code"].as_str()), (Some(RED), Some("unpaired")));

    let early = site.run(&["fleet-config", "push", "--vin", RED]);
    assert!(early.code == 1 && early.stdout.contains("unpaired: the vehicle does not have"), "{}", early.stdout);
    assert!(site.maker.requests("push").is_empty(), "it need not be tried");
    let waiting = site.run(&["pair", RED, "--wait", "0"]);
    assert_eq!(waiting.code, 1);
    let address = format!("{}/_ak/example.com?vin={RED}", site.maker.url());
    assert!(waiting.stdout.contains(&address) && waiting.stdout.contains('▀'), "{}", waiting.stdout);
    site.pair(RED);
    assert!(site.run(&["pair", RED]).good().contains("paired; now"));

    let pushed = site.run(&["fleet-config", "push"]);
    assert!(pushed.stdout.contains(&format!("{RED}: synced")), "{}{}", pushed.stdout, pushed.stderr);
    assert!(pushed.code == 1 && pushed.stdout.contains(&format!("{BLUE}: unpaired")), "{}", pushed.stdout);
    let body: Value = serde_json::from_str(site.maker.requests("push")[0]["body"].as_str().unwrap()).unwrap();
    assert_eq!(body["vins"], json!([RED]));
    let told = &site.maker.state()["configs"][RED];
    assert_eq!((&told["fields"]["Soc"]["resend_interval_seconds"], &told["port"]), (&json!(300), &json!(443)));
    assert_eq!(site.run(&["fleet-config", "diff", RED]).good(), "");

    let gone = site.run(&["offboard", RED]).good();
    assert!(gone.contains("its configuration was deleted") && gone.contains("key card"), "{gone}");
    assert_eq!(site.maker.state()["configs"], json!({}));
    let listed = site.run(&["vehicles"]).good();
    assert!(!listed.contains(RED) && listed.contains(BLUE), "the other car of the owner stays: {listed}");
    let again = site.run(&["offboard", RED]);
    assert!(again.code == 1 && again.stderr.contains("no owner who has connected"), "{}", again.stderr);
}

#[test]
fn a_scope_that_was_left_out_is_named_and_nothing_is_sent_that_needs_it() {
    let site = site();
    let back = site.allow(&site.link(), &["vehicle_device_data"]);
    let finished = site.run(&["consent", "finish", &back]);
    assert_eq!(finished.code, 1);
    assert!(finished.stderr.contains("scope_missing: vehicle_location was not given"), "{}", finished.stderr);
    site.pair(RED);
    let pushed = site.run(&["fleet-config", "push", "--vin", RED]);
    assert!(
        pushed.code == 1 && pushed.stdout.contains("scope_missing: fields.Location: the owner has not"),
        "{}",
        pushed.stdout
    );
    assert!(site.maker.requests("push").is_empty());
    assert!(site.run(&["vehicles"]).good().contains("scope_missing"));
    site.connect();
    site.run(&["fleet-config", "push", "--vin", RED]).good();
}

#[test]
fn a_place_that_the_owner_keeps_private_is_not_asked_for() {
    let site = site();
    let hidden = json!({"owner-1": [{"vin": RED, "access_type": "DRIVER", "granular_access": {"hide_private": true}}]});
    site.maker.set(&json!({ "vehicles": hidden }));
    site.connect();
    site.pair(RED);
    let pushed = site.run(&["fleet-config", "push"]);
    assert!(
        pushed.code == 1 && pushed.stdout.contains("keeps the place of this shared vehicle private"),
        "{}",
        pushed.stdout
    );
    assert!(site.maker.requests("push").is_empty());
}

#[test]
fn what_comes_back_from_a_strange_link_or_twice_is_not_taken() {
    let site = site();
    let (first, second) = (site.link(), site.link());
    let allowed = ["vehicle_device_data", "vehicle_location"];
    let back = site.allow(&first, &allowed);
    let forged = back.replace("state=", "state=x");
    let refused = site.run(&["consent", "finish", &forged]);
    assert!(refused.code == 1 && refused.stderr.contains("was not sent from here"), "{}", refused.stderr);
    // The code of one tab with the state of the other: its verifier does not fit.
    let state = |text: &str| text.split("state=").nth(1).unwrap().split('&').next().unwrap().to_owned();
    let mixed = back.replace(&state(&back), &state(&site.allow(&second, &allowed)));
    let refused = site.run(&["consent", "finish", &mixed]);
    assert!(refused.code == 1 && refused.stderr.contains("invalid_auth_code"), "{}", refused.stderr);
    site.connect();
    let used = site.allow(&site.link(), &allowed);
    site.run(&["consent", "finish", &used]).good();
    let again = site.run(&["consent", "finish", &used]);
    assert!(again.code == 1 && again.stderr.contains("used already"), "{}", again.stderr);
    let denied = format!("{}/callback?state={}&error=access_denied", site.public, state(&site.link()));
    let denied = site.run(&["consent", "finish", &denied]);
    assert!(denied.code == 1 && denied.stderr.contains("access was not given: access_denied"), "{}", denied.stderr);
}

#[test]
fn tokens_are_refreshed_when_they_end_and_when_the_maker_does_not_take_them() {
    let site = site();
    site.maker.set(&json!({"token_seconds": 1}));
    site.connect();
    site.run(&["vehicles"]).good();
    let refreshes = |site: &Site| {
        let all = site.maker.requests("token");
        all.iter().filter(|request| request["body"].as_str().unwrap().contains("grant_type=refresh_token")).count()
    };
    assert!(refreshes(&site) >= 1);
    site.maker.set(&json!({"token_seconds": 28800}));
    site.run(&["vehicles"]).good();
    let before = refreshes(&site);
    site.run(&["vehicles"]).good();
    assert_eq!(refreshes(&site), before, "a good token is used as long as it is good");
    site.maker.misbehave("fleet_status", json!({"case": "401"}));
    site.run(&["vehicles"]).good();
    assert_eq!(refreshes(&site), before + 1);
    site.maker.misbehave("fleet_status", json!({"case": "401", "error": "User revoked consent"}));
    assert!(site.run(&["vehicles"]).good().contains("unpaired"), "a false alarm is told by a refresh");
}

#[test]
fn a_withdrawal_is_told_from_a_bad_day() {
    let site = site();
    site.connect();
    site.maker.misbehave("fleet_status", json!({"case": "500", "times": 3}));
    assert!(site.run(&["vehicles"]).good().contains("maker_failure"));
    site.maker.misbehave("fleet_status", json!({"case": "401"}));
    site.maker.misbehave("token", json!({"case": "html"}));
    assert!(site.run(&["vehicles"]).good().contains("maker_failure"));
    assert!(site.run(&["vehicles"]).good().contains("unpaired"), "nothing was forgotten");
    assert_eq!(site.maker.ask("POST", "/user/revoke/consent", "").status, 200);
    assert!(site.run(&["vehicles"]).good().contains("reauthorize"));
    let offboard = site.run(&["offboard", RED]);
    assert!(offboard.code == 1 && offboard.stderr.contains("nothing was forgotten"), "{}", offboard.stderr);
    site.run(&["offboard", RED, "--anyway"]).good();
}

#[test]
fn a_process_that_dies_between_refresh_and_save_loses_nobody() {
    let site = site();
    site.maker.set(&json!({"token_seconds": 1}));
    site.connect();
    site.maker.misbehave("token", json!({"case": "hang_after", "seconds": 30}));
    let mut dying = Command::new(env!("CARGO_BIN_EXE_fleet-telemetry"));
    dying.current_dir(site.dir.path()).arg("vehicles").stdout(Stdio::null()).stderr(Stdio::null());
    let mut dying = dying.spawn().unwrap();
    let asked = site.maker.requests("token").len();
    let deadline = Instant::now() + Duration::from_secs(10);
    while site.maker.requests("token").len() == asked && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
    }
    dying.kill().unwrap();
    dying.wait().unwrap();
    // Whoever has died holds the lease for a minute; the clock of the store is turned instead of waiting.
    let store = rusqlite::Connection::open(site.dir.path().join("onboarding.db")).unwrap();
    assert_eq!(store.execute("UPDATE owners SET leased_until = 1 WHERE leased_until > 1", []).unwrap(), 1);
    assert!(site.run(&["vehicles"]).good().contains("unpaired"), "the last refresh token still works");
}

#[test]
fn what_the_maker_says_with_200_is_read() {
    let site = site();
    site.connect();
    site.pair(RED);
    for (endpoint, case, expected) in [
        ("push", json!({"case": "skipped"}), "unpaired: the vehicle does not have"),
        ("config", json!({"case": "null_config"}), "removed: was taken, and is gone again"),
        ("push", json!({"case": "412"}), "not_registered: not registered"),
        ("push", json!({"case": "403"}), "scope_missing: the owner has not given vehicle_location"),
        ("push", json!({"case": "html", "times": 3}), "maker_failure: an answer that is not JSON"),
    ] {
        site.maker.misbehave(endpoint, case);
        let pushed = site.run(&["fleet-config", "push", "--vin", RED]);
        assert!(pushed.code == 1 && pushed.stdout.contains(expected), "{expected}: {}", pushed.stdout);
    }
    site.maker.set(&json!({"max_configs": [RED]}));
    let full = site.run(&["fleet-config", "push", "--vin", RED]);
    assert!(full.code == 1 && full.stdout.contains("max_configs: as many applications"), "{}", full.stdout);
    site.maker.set(&json!({"max_configs": [], "offline_vehicles": [RED]}));
    assert!(site.run(&["fleet-config", "push", "--vin", RED]).good().contains("syncing: the vehicle takes it"));
    let stranger = site.run(&["fleet-config", "push", "--vin", "5YJ3E1EA1KF999999"]);
    assert!(stranger.code == 1 && stranger.stdout.contains("not_in_account"), "{}", stranger.stdout);
}

#[test]
fn an_owner_of_another_region_is_followed_to_the_makers_hosts_alone() {
    let site = site();
    let elsewhere = super::maker::Maker::start(site.dir.path(), "");
    site.maker.set(&json!({"region_base": elsewhere.url()}));
    let back = site.allow(&site.link(), &["vehicle_device_data", "vehicle_location"]);
    let refused = site.run(&["consent", "finish", &back]);
    assert!(refused.code == 1 && refused.stderr.contains("not a host of the vehicle maker"), "{}", refused.stderr);
    assert!(elsewhere.requests("vehicles").is_empty());
}

#[test]
fn old_cars_need_no_key_and_are_told_what_they_need() {
    let site = site();
    site.connect();
    let info = json!({"vehicle_command_protocol_required": false, "firmware_version": "2025.26", "discounted_device_data": true,
        "safety_screen_streaming_toggle_enabled": false});
    site.maker.set(&json!({"info": {RED: info}}));
    let off = site.run(&["pair", RED]);
    assert!(off.code == 1 && off.stderr.contains("Allow Third-Party App Data Streaming"), "{}", off.stderr);
    let mut on = info;
    on["safety_screen_streaming_toggle_enabled"] = true.into();
    site.maker.set(&json!({"info": {RED: on}}));
    site.run(&["pair", RED]).good();
    site.run(&["fleet-config", "push", "--vin", RED]).good();
}

#[test]
fn nothing_of_a_token_is_printed() {
    let site = site();
    site.connect();
    let state = site.maker.state();
    let refresh = state["refresh"].as_object().unwrap().keys().next().unwrap().clone();
    let mut said = String::new();
    for arguments in [&["vehicles"][..], &["fleet-config", "get", RED], &["pair", RED, "--wait", "0"], &["check"]] {
        let run = site.run(arguments);
        said.push_str(&run.stdout);
        said.push_str(&run.stderr);
    }
    said.push_str(&site.server.as_ref().unwrap().stderr());
    assert!(!said.contains(&refresh) && !said.contains("eyJ"), "{said}");
}
