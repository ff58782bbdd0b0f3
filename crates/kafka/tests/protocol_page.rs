//! `docs/protocol.md` is what the table says. `MILLSTREAM_BLESS=1` writes it anew.

use std::fmt::Write as _;

use millstream_kafka::{NEEDS, Right, SERVED};
use millstream_wire::ApiKey;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/protocol.md");

fn page() -> String {
    let mut page = String::from(
        "# The Kafka APIs that are served

Written from the tables in `crates/kafka/src/dispatch.rs` and `crates/kafka/src/api/authorize.rs`; a
test compares them. What is not listed is not advertised, and ends the connection when it is sent all
the same, as with Apache Kafka.

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
    page.push_str(RIGHTS);
    for needs in NEEDS {
        let rights: Vec<_> = needs.rights.iter().map(right).collect();
        let rights = if rights.is_empty() { "none".to_owned() } else { rights.join("; ") };
        let _ = writeln!(page, "| {} | {rights} |", needs.api.name());
    }
    page
}

const RIGHTS: &str = "
## Rights

What each needs where rights are needed at all (`authorizer.class.name`, see [security.md](security.md)): an
operation on each topic, group or transactional id that a request names, or on the cluster. To read,
write, delete or alter something includes to describe it; to alter its configuration, to describe
that.

| API | rights |
|---|---|
";

fn right(right: &Right) -> String {
    let note = if right.note.is_empty() { String::new() } else { format!(" ({})", right.note) };
    format!("{} {}{note}", right.operation, right.resource)
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
