//! The pages, as an owner's browser sees them.

use serde_json::json;

use super::browser::Browser;
use super::maker::ask;
use super::site::{RED, Site, telemetry};
use crate::support::api::{Api, TOKEN};
use crate::support::server::free_port;

fn site() -> (Site, Api) {
    let port = free_port();
    let site = Site::with(|config, dir| {
        config["onboarding"]["telemetry"] = telemetry(dir);
        config["permissions"] = json!({
            "mode": "enforce",
            "store": {"sqlite": {"path": dir.join("permissions.db")}},
            "api": {"port": port, "token": TOKEN},
        });
    });
    site.register();
    (site, Api(([127, 0, 0, 1], port).into()))
}

#[test]
fn an_owner_walks_the_whole_way_and_back() {
    let (site, api) = site();
    let public = site.public.clone();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut browser = runtime.block_on(Browser::start(site.dir.path()));
    runtime.block_on(async {
        browser.open(&format!("{public}/connect")).await;
        browser.sees("Connect your car").await;
        browser.photograph("1-connect").await;
        browser.click("form button").await;
        browser.sees("Allow access?").await;
        browser.click("#all").await;
        browser.click("#allow").await;
        browser.sees("Your cars").await;
        browser.photograph("2-vehicles").await;
        browser.click(&format!("a[href='/vehicles/{RED}']")).await;
        browser.sees("Add the key to your car").await;
        assert_eq!(browser.eval("document.querySelector('#after').hidden").await, true);
        assert!(
            browser.eval("document.querySelector('.code svg').getBoundingClientRect().width").await.as_f64().unwrap()
                > 100.0
        );
        browser.photograph("3-pair").await;
    });
    // The phone, elsewhere.
    site.pair(RED);
    runtime.block_on(async {
        browser.becomes("!document.querySelector('#after').hidden").await;
        browser.becomes("document.querySelector('#status').textContent.startsWith('Done')").await;
        browser.photograph("4-paired").await;
        browser.click("#after button").await;
        browser.sees("Start sending").await;
        browser.photograph("5-started").await;
        let (_, vehicle) = api.ask("GET", &format!("/v1/vehicles/{RED}"), "").await;
        assert!(vehicle.contains("\"granted\"") && vehicle.contains("\"maker\""), "{vehicle}");
    });
    assert_eq!(site.maker.state()["configs"][RED]["hostname"], "telemetry.example.com");
    runtime.block_on(async {
        browser.open(&format!("{public}/vehicles/{RED}/withdraw")).await;
        browser.sees("Take it back").await;
        browser.photograph("6-withdraw").await;
        browser.click("form button").await;
        browser.sees("Taken back").await;
        browser.photograph("7-withdrawn").await;
        let (_, vehicle) = api.ask("GET", &format!("/v1/vehicles/{RED}"), "").await;
        assert!(vehicle.contains("\"denied\""), "{vehicle}");
        browser.open(&format!("{public}/vehicles")).await;
        browser.sees("Your cars").await;
        let shown = browser.eval("document.body.innerText").await;
        assert!(!shown.as_str().unwrap().contains(RED), "{shown}");
        browser.open(&format!("{public}/callback?state=x&code=y")).await;
        browser.sees("That did not work").await;
        browser.photograph("8-trouble").await;
    });
    assert_eq!(site.maker.state()["configs"], json!({}));
}

#[test]
fn nobody_sees_or_does_anything_without_the_cookie_and_the_proof() {
    let (site, _) = site();
    let ca = std::fs::read(site.dir.path().join("server_ca.crt")).unwrap();
    site.connect();
    for (method, path) in [
        ("GET", "/vehicles".to_owned()),
        ("GET", format!("/vehicles/{RED}")),
        ("GET", format!("/vehicles/{RED}/state")),
        ("GET", format!("/vehicles/{RED}/withdraw")),
        ("POST", format!("/vehicles/{RED}/withdraw")),
        ("POST", format!("/vehicles/{RED}/start")),
    ] {
        let answer = ask(&ca, method, &format!("{}{path}", site.public), "proof=x");
        assert_eq!(answer.status, 401, "{method} {path}");
        assert!(!String::from_utf8_lossy(&answer.body).contains("Red"));
    }
    let connect = ask(&ca, "GET", &format!("{}/connect", site.public), "");
    let policy = connect.headers["content-security-policy"].to_str().unwrap();
    assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    let left = ask(&ca, "POST", &format!("{}/connect", site.public), "");
    assert_eq!(left.status, 303);
    assert!(left.headers["location"].to_str().unwrap().starts_with(&site.maker.url()));
}

#[test]
fn a_browser_of_one_owner_does_nothing_to_the_car_of_another() {
    let (site, _) = site();
    let ca = std::fs::read(site.dir.path().join("server_ca.crt")).unwrap();
    let back = site.allow(&site.link(), &["vehicle_device_data", "vehicle_location"]);
    let path = back.strip_prefix(&site.public).unwrap();
    let answer = ask(&ca, "GET", &format!("{}{path}", site.public), "");
    assert_eq!(answer.status, 303);
    let cookie = answer.headers["set-cookie"].to_str().unwrap();
    assert!(cookie.contains("HttpOnly") && cookie.contains("Secure") && cookie.contains("SameSite=Lax"), "{cookie}");
    let again = ask(&ca, "GET", &format!("{}{path}", site.public), "");
    assert_eq!(again.status, 400, "a replayed code");
    let pair = cookie.split(';').next().unwrap();
    let with = |method: &str, path: &str, body: &str| {
        super::maker::ask_with(&ca, method, &format!("{}{path}", site.public), body, pair)
    };
    assert_eq!(with("GET", "/vehicles", "").status, 200);
    assert_eq!(with("GET", "/vehicles/5YJ3E1EA1KF999999", "").status, 400);
    assert_eq!(with("POST", &format!("/vehicles/{RED}/withdraw"), "proof=guess").status, 401, "another site's form");
    assert_eq!(with("GET", &format!("/vehicles/{RED}"), "").status, 200, "nothing was done");
}
