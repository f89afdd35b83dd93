//! What leaves follows what owners allow at the vehicle maker's.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::site::{RED, Site, telemetry};
use crate::support::api::{Api, TOKEN};
use crate::support::server::free_port;

/// A server that enforces, looks at consent every second, and whose grants can be read.
fn site() -> (Site, Api) {
    let port = free_port();
    let site = Site::with(|config, dir| {
        config["onboarding"]["telemetry"] = telemetry(dir);
        config["onboarding"]["refresh"] = "1s".into();
        config["permissions"] = json!({
            "mode": "enforce",
            "store": {"sqlite": {"path": dir.join("permissions.db")}},
            "api": {"port": port, "token": TOKEN},
        });
    });
    site.register();
    (site, Api(([127, 0, 0, 1], port).into()))
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

/// State and source of the location scope of the red car.
fn grant(api: Api) -> Option<(String, String)> {
    let (status, body) = block_on(api.ask("GET", &format!("/v1/vehicles/{RED}"), ""));
    let scope =
        (status == 200).then(|| serde_json::from_str::<Value>(&body).unwrap()["scopes"]["vehicle_location"].clone())?;
    Some((scope["state"].as_str()?.to_owned(), scope["source"].as_str()?.to_owned()))
}

fn becomes(api: Api, state: &str, source: &str) {
    let wanted = Some((state.to_owned(), source.to_owned()));
    let deadline = Instant::now() + Duration::from_secs(15);
    while grant(api) != wanted {
        assert!(Instant::now() < deadline, "{:?} instead of {wanted:?}", grant(api));
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Long enough for two looks.
fn stays(api: Api, state: &str, source: &str) {
    std::thread::sleep(Duration::from_secs(4));
    assert_eq!(grant(api), Some((state.to_owned(), source.to_owned())));
}

const ALL: [&str; 4] = ["openid", "offline_access", "vehicle_device_data", "vehicle_location"];

#[test]
fn grants_follow_the_owners_token_and_a_word_by_hand_only_narrows() {
    let (site, api) = site();
    site.connect();
    becomes(api, "granted", "maker");
    site.maker.set(&json!({"consent": {"owner-1": ["openid", "offline_access", "vehicle_device_data"]}}));
    becomes(api, "denied", "maker");
    block_on(api.grant(RED));
    becomes(api, "denied", "maker");
    site.maker.set(&json!({"consent": {"owner-1": ALL}}));
    becomes(api, "granted", "maker");
    block_on(api.revoke(RED));
    stays(api, "denied", "test");
}

#[test]
fn a_withdrawal_at_the_makers_denies_and_a_bad_day_does_not_until_the_token_ends() {
    let (site, api) = site();
    site.maker.set(&json!({"token_seconds": 12}));
    site.connect();
    becomes(api, "granted", "maker");
    site.maker.misbehave("token", json!({"case": "500", "times": 1000}));
    stays(api, "granted", "maker");
    becomes(api, "denied", "maker");
    site.maker.misbehave("token", json!({"case": "none"}));
    becomes(api, "granted", "maker");
    assert_eq!(site.maker.ask("POST", "/user/revoke/consent", "").status, 200);
    becomes(api, "denied", "maker");
    assert!(site.server.as_ref().unwrap().stderr().contains("owner_not_refreshed"));
}

#[test]
fn a_car_that_is_offboarded_is_denied() {
    let (site, api) = site();
    site.connect();
    becomes(api, "granted", "maker");
    site.run(&["offboard", RED]).good();
    becomes(api, "denied", "maker");
}

#[test]
fn a_place_that_is_kept_private_is_never_granted() {
    let (site, api) = site();
    let hidden = json!({"owner-1": [{"vin": RED, "granular_access": {"hide_private": true}}]});
    site.maker.set(&json!({ "vehicles": hidden }));
    site.connect();
    becomes(api, "denied", "maker");
}
