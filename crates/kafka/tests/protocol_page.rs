//! `docs/protocol.md` is what the table says. `MILLSTREAM_BLESS=1` writes it anew.

use std::fmt::Write as _;

use millstream_kafka::SERVED;
use millstream_wire::ApiKey;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/protocol.md");

fn page() -> String {
    let mut page = String::from(
        "# The Kafka APIs that are served

Written from the table in `crates/kafka/src/dispatch.rs`; a test compares the two. What is not
listed is not advertised, and ends the connection when it is sent all the same, as with Apache Kafka.

| key | API | versions | all versions known |
|---|---|---|---|
",
    );
    for served in SERVED {
        let (versions, known) = (&served.versions, served.api.versions());
        let _ = writeln!(
            page,
            "| {} | {} | {}-{} | {}-{} |",
            served.api.code(),
            served.api.name(),
            versions.start(),
            versions.end(),
            known.start(),
            known.end()
        );
    }
    let missing: Vec<&str> = ApiKey::ALL
        .iter()
        .filter(|key| SERVED.iter().all(|served| served.api != **key))
        .map(|key| key.name())
        .collect();
    let _ = write!(page, "\nNot served: {}.\n", missing.join(", "));
    page
}

#[test]
#[expect(clippy::disallowed_methods, reason = "writes a page of the documentation when asked to")]
fn the_page_is_up_to_date() {
    if std::env::var_os("MILLSTREAM_BLESS").is_some() {
        std::fs::write(PAGE, page()).expect("the page can be written");
    }
    let stored = std::fs::read_to_string(PAGE).expect("the page is there");
    assert_eq!(stored, page(), "run this test with MILLSTREAM_BLESS=1");
}
