//! The reference page in `docs/`.

use super::super::{Kind, markdown};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/configuration.md");

#[test]
#[expect(clippy::disallowed_methods, reason = "renews a file of the repository when asked to")]
fn the_reference_page_is_up_to_date() {
    let fresh = markdown();
    if std::env::var_os("MILLSTREAM_BLESS").is_some() {
        std::fs::write(PAGE, &fresh).unwrap();
    }
    let page = std::fs::read_to_string(PAGE).unwrap_or_default();
    let differs = page.lines().zip(fresh.lines()).position(|(old, new)| old != new);
    let why = "docs/configuration.md is stale: renew it with MILLSTREAM_BLESS=1 cargo test \
               -p millstream-coordinator";
    assert!(page == fresh, "{why} (first difference in line {:?})", differs.map(|at| at + 1));
}

#[test]
fn the_page_has_a_row_for_every_config_that_is_not_hidden() {
    let page = markdown();
    let rows = page.lines().filter(|line| line.starts_with("| `"));
    let names: Vec<_> = rows.clone().filter_map(|row| row.split('`').nth(1)).collect();
    let expected: Vec<_> = Kind::ALL
        .into_iter()
        .flat_map(Kind::entries)
        .filter(|entry| !entry.hidden)
        .map(|entry| entry.name)
        .collect();
    assert_eq!(names, expected);
    for row in rows {
        assert_eq!(row.matches('|').count(), 6, "{row}");
    }
}
