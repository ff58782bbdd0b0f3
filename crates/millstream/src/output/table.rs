//! Tables with aligned columns.

use std::fmt;

/// A table for people: a line of titles, then rows.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<String>>,
}

#[derive(Clone, Debug)]
struct Column {
    title: &'static str,
    is_number: bool,
}

impl Table {
    /// A table with these titles. A title that begins with `#` is one of numbers, which stand at
    /// the right; the `#` is not shown.
    pub(crate) fn new<const N: usize>(titles: [&'static str; N]) -> Self {
        let columns = titles.into_iter().map(|title| match title.strip_prefix('#') {
            Some(title) => Column { title, is_number: true },
            None => Column { title, is_number: false },
        });
        Self { columns: columns.collect(), rows: Vec::new() }
    }

    /// Adds a row, one text for each column.
    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        debug_assert_eq!(N, self.columns.len(), "a row has one cell for each column");
        self.rows.push(cells.into());
    }

    fn width(&self, at: usize) -> usize {
        let cells = self.rows.iter().filter_map(|row| row.get(at)).map(|cell| width(cell));
        let title = self.columns.get(at).map_or(0, |column| width(column.title));
        cells.max().unwrap_or(0).max(title)
    }

    fn line<'a>(
        &self,
        f: &mut fmt::Formatter<'_>,
        widths: &[usize],
        cells: impl Iterator<Item = &'a str>,
    ) -> fmt::Result {
        let mut line = String::new();
        for ((cell, column), wide) in cells.zip(&self.columns).zip(widths) {
            let space = " ".repeat(wide.saturating_sub(width(cell)));
            if !line.is_empty() {
                line.push_str("  ");
            }
            if column.is_number {
                line.push_str(&space);
                line.push_str(cell);
            } else {
                line.push_str(cell);
                line.push_str(&space);
            }
        }
        writeln!(f, "{}", line.trim_end())
    }
}

/// How many columns of a terminal a text takes, near enough.
fn width(text: &str) -> usize {
    text.chars().count()
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let widths: Vec<_> = (0..self.columns.len()).map(|at| self.width(at)).collect();
        self.line(f, &widths, self.columns.iter().map(|column| column.title))?;
        for row in &self.rows {
            self.line(f, &widths, row.iter().map(String::as_str))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(cell: &str) -> String {
        cell.to_owned()
    }

    #[test]
    fn columns_are_aligned_and_lines_end_without_blanks() {
        let mut table = Table::new(["NAME", "#RECORDS", "STATE"]);
        table.row([text("flights"), text("336,776"), text("Stable")]);
        table.row([text("größe"), text("1"), text("")]);
        let expected = "NAME     RECORDS  STATE\n\
                        flights  336,776  Stable\n\
                        größe          1\n";
        assert_eq!(table.to_string(), expected);
    }

    #[test]
    fn a_table_without_rows_has_its_titles() {
        assert_eq!(Table::new(["A", "#B"]).to_string(), "A  B\n");
    }
}
