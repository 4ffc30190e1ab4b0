//! The two shapes of the guide's tables, as pure functions from cells to text.

use bytecode_image::printable::escaped;

/// Characters of a value in a list of labels and values: a path (`PATH_MAX`) is whole.
const VALUE_CHARS: usize = 4096;
/// Characters of a cell in a table.
const LISTED_CHARS: usize = 256;

/// A titled list of labels and values: "Bpfman State" and "Kernel State".
#[derive(Debug)]
pub(super) struct Section {
    title: &'static str,
    rows: Vec<(&'static str, String)>,
}

impl Section {
    pub(super) fn new(title: &'static str) -> Self {
        Self {
            title,
            rows: Vec::new(),
        }
    }

    /// A row with one value.
    pub(super) fn row(mut self, label: &'static str, value: impl ToString) -> Self {
        self.rows
            .push((label, cell(&value.to_string(), VALUE_CHARS)));
        self
    }

    /// A row for each value, the label beside the first; `None` when there is no value.
    pub(super) fn rows(
        mut self,
        label: &'static str,
        values: impl IntoIterator<Item = String>,
    ) -> Self {
        let before = self.rows.len();
        for value in values {
            let label = if self.rows.len() == before { label } else { "" };
            self.rows.push((label, cell(&value, VALUE_CHARS)));
        }
        if self.rows.len() == before {
            self.row(label, "None")
        } else {
            self
        }
    }

    /// Title and rows, each padded to the widest row.
    pub(super) fn render(&self) -> String {
        let labels = widest(self.rows.iter().map(|(label, _)| *label));
        let values = widest(self.rows.iter().map(|(_, value)| value.as_str()));
        let mut text = String::new();
        // A space before and behind each of the two columns.
        let title_width = labels + values + 2;
        text.push(' ');
        pad(&mut text, self.title, title_width);
        text.push_str(" \n");
        for (label, value) in &self.rows {
            text.push(' ');
            pad(&mut text, label, labels);
            text.push_str("  ");
            pad(&mut text, value, values);
            text.push_str(" \n");
        }
        text
    }
}

/// A table with a line of column names.
#[derive(Debug)]
pub(super) struct Table<const COLUMNS: usize> {
    rows: Vec<[String; COLUMNS]>,
}

impl<const COLUMNS: usize> Table<COLUMNS> {
    pub(super) fn new(header: [&str; COLUMNS]) -> Self {
        Self {
            rows: vec![header.map(str::to_owned)],
        }
    }

    pub(super) fn push(&mut self, row: [String; COLUMNS]) {
        self.rows.push(row.map(|text| cell(&text, LISTED_CHARS)));
    }

    /// Column names and rows, each cell padded to its column.
    pub(super) fn render(&self) -> String {
        let mut widths = [0; COLUMNS];
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let mut text = String::new();
        for row in &self.rows {
            for (width, cell) in widths.into_iter().zip(row) {
                text.push(' ');
                pad(&mut text, cell, width);
                text.push(' ');
            }
            text.push('\n');
        }
        text
    }
}

fn widest<'a>(cells: impl Iterator<Item = &'a str>) -> usize {
    cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
}

/// What marks a cell that is cut.
const CUT: char = '…';

/// A text of at most `limit` characters, fit for a terminal: names and metadata come from images and other people's
/// programs. What is cut is whole in JSON.
fn cell(text: &str, limit: usize) -> String {
    if text.chars().nth(limit).is_none() {
        return escaped(text).into_owned();
    }
    let start: String = text.chars().take(limit.saturating_sub(1)).collect();
    let mut cut = escaped(&start).into_owned();
    cut.push(CUT);
    cut
}

/// Writes a text and fills it up with blanks. (`{:<width$}` takes no width above `u16::MAX`.)
fn pad(out: &mut String, text: &str, width: usize) {
    out.push_str(text);
    let blanks = width.saturating_sub(text.chars().count());
    out.extend(std::iter::repeat_n(' ', blanks));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_pads_every_line_to_one_width() {
        let text = Section::new("Bpfman State")
            .row("BPF Function:", "pass")
            .rows("Global:", ["a=01".to_owned(), "b=0A0B0C0D".to_owned()])
            .rows("Links:", [])
            .render();
        let expected = " Bpfman State              \n BPF Function:  pass       \n Global:        a=01       \n                b=0A0B0C0D \n Links:         None       \n";
        assert_eq!(text, expected);
    }

    #[test]
    fn a_table_pads_every_cell_to_its_column() {
        let mut table = Table::new(["Program ID", "Links"]);
        table.push(["7".to_owned(), String::new()]);
        table.push(["8".to_owned(), "(1) 1462192047".to_owned()]);
        let expected = " Program ID  Links          \n 7                          \n 8           (1) 1462192047 \n";
        assert_eq!(table.render(), expected);
    }

    #[test]
    fn hidden_characters_are_escaped() {
        let text = Section::new("Image")
            .row("Name:", "a\u{1b}[31mb\u{9b}\u{202e}c")
            .render();
        assert!(text.contains("a\\u{1b}[31mb\\u{9b}\\u{202e}c"), "{text}");
    }

    #[test]
    fn cells_of_any_length_are_cut_with_a_mark() {
        for length in [0, 1, 255, 256, 257, 4096, 4097, 65_535, 65_536, 200_000] {
            let long = "ä".repeat(length);
            let mut table = Table::new(["Name", "Next"]);
            table.push([long.clone(), "x".to_owned()]);
            let widest = length.clamp(4, LISTED_CHARS);
            let text = table.render();
            for line in text.lines() {
                assert_eq!(line.chars().count(), widest + 2 + 6, "{length}");
            }
            assert_eq!(text.contains(CUT), length > LISTED_CHARS, "{length}");
            let text = Section::new("Image").row("Name:", &long).render();
            assert_eq!(text.contains(CUT), length > VALUE_CHARS, "{length}");
            // Each of these characters is written as eight.
            let hidden = "\u{202e}".repeat(length);
            let text = Section::new("Image").row("Name:", hidden).render();
            assert!(text.lines().all(|line| line.len() <= 9 + 8 * VALUE_CHARS));
        }
    }
}
