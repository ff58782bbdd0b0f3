//! docs/pitfalls.md and the tests that it names must agree: each pitfall has a row, each test that a row
//! names is there and carries the number in its comment, and each number in a test's comment has its row.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::Context as _;

use super::{Finding, Source};

const PAGE: &str = "docs/pitfalls.md";
const COUNT: u32 = 72;
/// What the third column of a row without tests begins with.
const NOT_HERE: &str = "does not apply: ";
/// How the comment of a test names its numbers: `Pitfall 7` or `pitfalls 7, 8 and 9`.
const WORDS: [&str; 4] = ["Pitfalls ", "pitfalls ", "Pitfall ", "pitfall "];

/// A test: its crate and its name.
type Test = (String, String);

/// A row of the table: its number, what happens here, and the tests that show it.
#[derive(Debug, PartialEq)]
struct Row {
    number: u32,
    here: String,
    tests: BTreeSet<Test>,
}

pub(super) fn check(root: &Path, sources: &[Source]) -> anyhow::Result<Vec<Finding>> {
    let page = std::fs::read_to_string(root.join(PAGE)).context(PAGE)?;
    let mut carried = BTreeMap::new();
    for source in sources {
        let mut parts = source.path.iter().map(|part| part.to_string_lossy());
        if parts.next().as_deref() == Some("crates")
            && let Some(name) = parts.next()
        {
            carried.extend(
                numbers_of_tests(&source.text)
                    .map(|(test, numbers)| ((name.to_string(), test), numbers)),
            );
        }
    }
    Ok(compare(&rows(&page), &carried))
}

/// What is wrong with the rows, given the tests that carry numbers.
fn compare(rows: &[Row], carried: &BTreeMap<Test, BTreeSet<u32>>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut find = |what: String| findings.push(Finding { place: PAGE.to_owned(), what });
    let numbers: Vec<_> = rows.iter().map(|row| row.number).collect();
    if !numbers.iter().copied().eq(1..=COUNT) {
        find(format!("has the rows {numbers:?}: each of 1 to {COUNT} has one, in order"));
    }
    for row in rows {
        let number = row.number;
        if row.here.starts_with(NOT_HERE) != row.tests.is_empty() {
            find(format!("{number} names tests, or says `{NOT_HERE}` and why"));
        }
        for test in &row.tests {
            if !carried.get(test).is_some_and(|numbers| numbers.contains(&number)) {
                let (package, name) = test;
                find(format!(
                    "{number}: no test `{package}/{name}` has `Pitfall {number}` above it"
                ));
            }
        }
    }
    for ((package, name), numbers) in carried {
        let test = (package.clone(), name.clone());
        for number in numbers {
            let named = rows.iter().any(|row| row.number == *number && row.tests.contains(&test));
            if !named {
                find(format!(
                    "{number} does not name `{package}/{name}`, which carries its number"
                ));
            }
        }
    }
    findings
}

/// Rows such as ``| 7 | the trap | what happens | `crate/test`, `crate/test` |``.
fn rows(page: &str) -> Vec<Row> {
    let row = |line: &str| {
        let mut cells = line.strip_prefix('|')?.split('|').map(str::trim);
        let number = cells.next()?.parse().ok()?;
        let (_, here, tests) = (cells.next()?, cells.next()?, cells.next()?);
        let quoted = tests.split('`').skip(1).step_by(2);
        let tests = quoted.filter_map(|test| test.split_once('/'));
        let tests = tests.map(|(package, name)| (package.to_owned(), name.to_owned()));
        Some(Row { number, here: here.to_owned(), tests: tests.collect() })
    };
    page.lines().filter_map(row).collect()
}

/// The functions of a file whose comment carries numbers.
fn numbers_of_tests(text: &str) -> impl Iterator<Item = (String, BTreeSet<u32>)> {
    let mut comment = String::new();
    let mut found = Vec::new();
    for line in text.lines().map(str::trim) {
        if let Some(more) = line.strip_prefix("///") {
            comment.push_str(more);
        } else if let Some(name) = function(line) {
            let numbers = numbers(&comment);
            if !numbers.is_empty() {
                found.push((name.to_owned(), numbers));
            }
            comment.clear();
        } else if !line.starts_with("#[") {
            comment.clear();
        }
    }
    found.into_iter()
}

/// The name of the function that begins in this line.
fn function(line: &str) -> Option<&str> {
    let rest = line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ")?;
    rest.split(|c: char| !c.is_alphanumeric() && c != '_').next()
}

fn numbers(comment: &str) -> BTreeSet<u32> {
    let Some(rest) = WORDS.iter().find_map(|word| Some(comment.split_once(word)?.1)) else {
        return BTreeSet::new();
    };
    let list = rest.replace(" and ", ", ");
    let each = list.split(", ").map_while(|part| {
        let digits = part.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
        digits.parse().ok()
    });
    each.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn test(package: &str, name: &str) -> Test {
        (package.to_owned(), name.to_owned())
    }

    #[test]
    fn rows_are_read() {
        let page =
            "| # | trap | here | shown by |\n|---|\n| 7 | x | y | `log/a`, `kafka/b` |\nno row";
        let tests = BTreeSet::from([test("log", "a"), test("kafka", "b")]);
        assert_eq!(rows(page), [Row { number: 7, here: "y".to_owned(), tests }]);
    }

    #[test]
    fn numbers_are_those_above_a_test() {
        for (comment, expected) in [
            ("/// Pitfall 7: x.", &[7][..]),
            ("/// Pitfalls 7, 8 and 19 of 72.", &[7, 8, 19]),
            ("/// Among them pitfall 3, and 4 others.", &[3, 4]),
            ("/// Nothing of 7.", &[]),
            ("// Pitfall 7.", &[]),
        ] {
            let text =
                format!("{comment}\n#[tokio::test]\n    async fn name() {{}}\nfn other() {{}}");
            let found: Vec<_> = numbers_of_tests(&text).collect();
            let expected: BTreeSet<u32> = expected.iter().copied().collect();
            let expected = (!expected.is_empty()).then_some(("name".to_owned(), expected));
            assert_eq!(found, expected.into_iter().collect::<Vec<_>>(), "{comment}");
        }
    }

    #[test]
    fn what_does_not_agree_is_found() {
        let carried = BTreeMap::from([(test("log", "a"), BTreeSet::from([1, 2]))]);
        let row = |number, here: &str, tests: &[Test]| Row {
            number,
            here: here.to_owned(),
            tests: tests.iter().cloned().collect(),
        };
        let mut rows: Vec<_> =
            (1..=COUNT).map(|number| row(number, "does not apply: no", &[])).collect();
        rows[0] = row(1, "so", &[test("log", "a")]);
        rows[1] = row(2, "so", &[test("log", "a")]);
        assert_eq!(compare(&rows, &carried).len(), 0);
        rows[2] = row(3, "so", &[test("log", "a")]);
        assert_eq!(compare(&rows, &carried).len(), 1, "it carries no 3");
        rows[2] = row(3, "so", &[]);
        assert_eq!(compare(&rows, &carried).len(), 1, "it names none");
        rows[2] = row(3, "does not apply: no", &[]);
        rows[1] = row(2, "does not apply: no", &[]);
        assert_eq!(compare(&rows, &carried).len(), 1, "a carries 2");
        rows.remove(1);
        assert_eq!(compare(&rows, &carried).len(), 2, "2 is missing, and a carries it");
    }
}
