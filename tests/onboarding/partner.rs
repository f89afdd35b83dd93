//! The application's registration, and what the vehicle maker says when it has a bad day.

use serde_json::json;

use super::site::Site;

#[test]
fn an_application_is_registered_with_its_very_key_and_that_is_checked() {
    let site = Site::new();
    let before = site.run(&["partner", "status"]);
    assert_eq!(before.code, 1);
    assert!(before.stderr.contains("example.com is not registered; run"), "{}", before.stderr);
    let registered = site.run(&["partner", "register", "--unchecked"]).good();
    assert!(registered.contains("is registered with this very key"), "{registered}");
    site.run(&["partner", "register", "--unchecked"]).good();
    site.run(&["partner", "status"]).good();
    let asked = &site.maker.requests("partner_accounts")[0];
    assert_eq!(asked["body"], r#"{"domain":"example.com"}"#);

    std::fs::remove_file(site.dir.path().join("fleet.pem")).unwrap();
    site.run(&["keys", "new", "fleet.pem"]).good();
    let other = site.run(&["partner", "status"]);
    assert!(other.code == 1 && other.stderr.contains("is registered with another key"), "{}", other.stderr);
}

#[test]
fn a_key_that_is_not_served_is_found_before_the_maker_is_asked() {
    let site = Site::new();
    // Nobody has this name.
    let config = std::fs::read_to_string(site.dir.path().join("config.json")).unwrap();
    std::fs::write(site.dir.path().join("config.json"), config.replace("example.com", "nobody.invalid")).unwrap();
    let unserved = site.run(&["partner", "register"]);
    assert_eq!(unserved.code, 1);
    assert!(unserved.stderr.contains("cannot be reached"), "{}", unserved.stderr);
    assert!(site.maker.requests("token").is_empty());
}

#[test]
fn a_bad_moment_is_waited_out_and_a_refusal_is_told_with_its_remedy() {
    let site = Site::new();
    site.register();
    for passing in [
        json!({"case": "500"}),
        json!({"case": "html"}),
        json!({"case": "429", "seconds": 1}),
        json!({"case": "hang", "seconds": 4}),
    ] {
        site.maker.misbehave("public_key", passing.clone());
        let status = site.run(&["partner", "status"]);
        assert_eq!(status.code, 0, "{passing}: {}", status.stderr);
    }
    for (endpoint, case, expected) in [
        ("public_key", json!({"case": "429", "seconds": 600}), "too many requests; try again in 600 s"),
        ("public_key", json!({"case": "500", "times": 3}), "the vehicle maker's side fails (status 500)"),
        ("public_key", json!({"case": "html", "times": 3}), "an answer that is not JSON (status 502, begins with"),
        ("public_key", json!({"case": "html", "status": 200, "times": 3}), "not JSON (status 200"),
        ("public_key", json!({"case": "401"}), "the access token is not accepted: token expired"),
        ("token", json!({"case": "403", "error": "nobody"}), "not allowed: nobody"),
    ] {
        site.maker.misbehave(endpoint, case.clone());
        let status = site.run(&["partner", "status"]);
        assert!(status.code == 1 && status.stderr.contains(expected), "{expected}: {}", status.stderr);
    }
}

#[test]
fn a_token_is_never_sent_to_a_host_that_an_answer_names() {
    let site = Site::new();
    site.register();
    let stranger = super::maker::Maker::start(site.dir.path(), "");
    site.maker.misbehave("public_key", json!({"case": "421", "base": stranger.url()}));
    let status = site.run(&["partner", "status"]);
    assert!(
        status.code == 1 && status.stderr.contains("which is not a host of the vehicle maker"),
        "{}",
        status.stderr
    );
    assert!(stranger.requests("public_key").is_empty());
}

#[test]
fn no_secret_is_in_what_is_printed_or_logged() {
    let site = Site::new();
    site.run(&["partner", "register", "--unchecked"]).good();
    site.maker.misbehave("token", json!({"case": "403"}));
    let failed = site.run(&["partner", "status"]);
    let log = site.server.as_ref().unwrap().stderr();
    for text in [failed.stderr, failed.stdout, log] {
        assert!(!text.contains("test-secret") && !text.contains("0123456789abcdef"), "{text}");
    }
}
