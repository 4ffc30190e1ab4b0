//! The two shapes of the guide's tables, as pure functions from cells to text.

use std::fmt::Write;

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
        self.rows.push((label, printable(&value.to_string())));
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
            self.rows.push((label, printable(&value)));
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
        let _ = writeln!(text, " {:<title_width$} ", self.title);
        for (label, value) in &self.rows {
            let _ = writeln!(text, " {label:<labels$}  {value:<values$} ");
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
        self.rows.push(row.map(|cell| printable(&cell)));
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
                let _ = write!(text, " {cell:<width$} ");
            }
            text.push('\n');
        }
        text
    }
}

fn widest<'a>(cells: impl Iterator<Item = &'a str>) -> usize {
    cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
}

/// Names and metadata come from images and other people's programs: control characters in them must not reach a
/// terminal.
pub(super) fn printable(text: &str) -> String {
    if !text.chars().any(char::is_control) {
        return text.to_owned();
    }
    text.chars()
        .flat_map(|c| {
            if c.is_control() {
                c.escape_default().collect::<Vec<_>>()
            } else {
                vec![c]
            }
        })
        .collect()
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
    fn control_characters_are_escaped() {
        assert_eq!(printable("a\u{1b}[31mb\nc\té"), "a\\u{1b}[31mb\\nc\\té");
    }
}
