//! What the documentation shows, for tests that do it.

/// The configuration on the page of a dispatcher: the first block of JSON there.
pub fn configuration(dispatcher: &str) -> String {
    let path = format!("{}/docs/dispatchers/{dispatcher}.md", env!("CARGO_MANIFEST_DIR"));
    let page = std::fs::read_to_string(path).unwrap();
    let (_, rest) = page.split_once("```json\n").expect("a block of JSON");
    rest.split_once("```").expect("its end").0.to_owned()
}
