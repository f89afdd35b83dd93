//! Why there is no data, from the first thing that can be wrong to the last.

use serde_json::{Value, json};

use super::site::{RED, Site, WELL_KNOWN, telemetry};

/// The code of the last finding, and whether all is well.
fn last(site: &Site, arguments: &[&str]) -> (String, bool) {
    let run = site.run(&[&["doctor", "--json"], arguments].concat());
    let findings: Vec<Value> =
        serde_json::from_str(&run.stdout).unwrap_or_else(|_| panic!("{}{}", run.stdout, run.stderr));
    let bad: Vec<_> = findings.iter().filter(|finding| finding["good"] == false).collect();
    assert_eq!(bad.is_empty(), run.code == 0);
    (findings.last().unwrap()["code"].as_str().unwrap().to_owned(), bad.is_empty())
}

#[test]
fn the_first_thing_that_is_wrong_is_named_until_nothing_is() {
    let site = Site::with(|config, dir| config["onboarding"]["telemetry"] = telemetry(dir));
    let url = format!("{}{WELL_KNOWN}", site.public);
    assert_eq!(last(&site, &["--url", &url]), ("region".to_owned(), false));
    site.register();
    assert_eq!(last(&site, &["--url", &url]), ("registered".to_owned(), true));

    let becomes = |code: &str| assert_eq!(last(&site, &[RED]), (code.to_owned(), code == "quiet"));
    becomes("not_in_account");
    let back = site.allow(&site.link(), &["vehicle_device_data"]);
    assert_eq!(site.run(&["consent", "finish", &back]).code, 1);
    becomes("scope_missing");
    site.connect();
    becomes("unpaired");
    site.pair(RED);
    becomes("removed");
    site.maker.set(&json!({"max_configs": [RED]}));
    becomes("max_configs");
    site.maker.set(&json!({"max_configs": []}));
    site.run(&["fleet-config", "push", "--vin", RED]).good();
    becomes("quiet");
    let mut other = site.maker.state()["configs"].clone();
    other[RED]["fields"]["Gear"] = json!({"interval_seconds": 1});
    site.maker.set(&json!({"configs": other}));
    becomes("drift");
    site.run(&["fleet-config", "push", "--vin", RED]).good();
    site.maker.set(&json!({"errors": [{"vin": RED, "error": "x509: certificate signed by unknown authority"}]}));
    becomes("vehicle_error");
    assert_eq!(site.maker.ask("POST", "/user/revoke/consent", "").status, 200);
    becomes("reauthorize");
}
