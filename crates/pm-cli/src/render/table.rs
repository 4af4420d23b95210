//! Tables: with box drawing on a terminal, with spaces otherwise.

use crate::text::{cut, printable, width};

/// A column is not cut below this width while other columns have a shorter form.
const COMFORTABLE: usize = 20;
/// A column is never cut below this width.
const NARROWEST: usize = 8;

/// The capabilities of stdout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Screen {
    /// The width in columns, if it is a terminal.
    pub(crate) width: Option<usize>,
    /// Whether to use colours.
    pub(crate) colour: bool,
}

/// A human-readable table.
pub(crate) struct Table {
    columns: Vec<Column>,
}

/// A column of a table, and how it may shrink on a narrow terminal.
pub(crate) struct Column {
    title: &'static str,
    cells: Vec<String>,
    is_number: bool,
    shrinks: Shrinks,
    colours: fn(&str) -> Colour,
}

/// How a column may shrink.
enum Shrinks {
    Never,
    /// Its cells may be cut.
    Cut,
    /// Its cells have a shorter form.
    To(Vec<String>),
}

/// The colour of a cell, from the terminal's theme; all are readable in light and dark themes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Colour {
    Plain,
    Dim,
    Red,
    Bold,
    Magenta,
}

impl Colour {
    /// Returns the text in this colour.
    fn paint(self, text: &str) -> String {
        let code = match self {
            Colour::Plain => return text.to_owned(),
            Colour::Dim => "2",
            Colour::Red => "31",
            Colour::Bold => "1",
            Colour::Magenta => "35",
        };
        format!("\u{1b}[{code}m{text}\u{1b}[0m")
    }
}

impl Column {
    /// Returns a column of texts; unsafe characters are escaped.
    pub(crate) fn new(title: &'static str, cells: impl Iterator<Item = String>) -> Self {
        let cells = cells.map(|cell| printable(&cell).into_owned()).collect();
        Column { title, cells, is_number: false, shrinks: Shrinks::Never, colours: |_| Colour::Plain }
    }

    /// Returns a right-aligned column of numbers.
    pub(crate) fn numbers(title: &'static str, cells: impl Iterator<Item = String>) -> Self {
        Column { is_number: true, ..Column::new(title, cells) }
    }

    /// Returns the column that says which rows are paused.
    pub(crate) fn states(are_paused: impl Iterator<Item = bool>) -> Self {
        let cells = are_paused.map(|is_paused| if is_paused { "paused" } else { "active" }.to_owned());
        let colour = |state: &str| if state == "paused" { Colour::Magenta } else { Colour::Plain };
        Column::new("state", cells).coloured(colour)
    }

    /// Allows its cells to be cut.
    pub(crate) fn may_be_cut(mut self) -> Self {
        self.shrinks = Shrinks::Cut;
        self
    }

    /// Gives its cells a shorter form.
    pub(crate) fn or_shorter(mut self, cells: impl Iterator<Item = String>) -> Self {
        self.shrinks = Shrinks::To(cells.collect());
        self
    }

    /// Colours its cells.
    pub(crate) fn coloured(mut self, colours: fn(&str) -> Colour) -> Self {
        self.colours = colours;
        self
    }

    fn width(&self) -> usize {
        self.cells.iter().map(|cell| width(cell)).max().unwrap_or_default().max(width(self.title))
    }
}

impl Table {
    /// Returns a table.
    pub(crate) fn new(columns: Vec<Column>) -> Self {
        Table { columns }
    }

    /// Draws the table for the screen; in full width when it is not a terminal.
    pub(crate) fn draw(mut self, screen: Screen) -> String {
        match screen.width {
            Some(columns) => {
                self.fit(columns);
                self.boxed(screen.colour)
            }
            None => self.plain(),
        }
    }

    /// Uses shorter forms until the columns that may be cut have a comfortable width, then cuts. Both go from right to
    /// left.
    fn fit(&mut self, columns: usize) {
        let room = columns.saturating_sub(3 * self.columns.len() + 1);
        for index in (0..self.columns.len()).rev() {
            let comfortable: usize = self.columns.iter().map(Column::comfortable_width).sum();
            if comfortable > room
                && let Shrinks::To(shorter) = &mut self.columns[index].shrinks
            {
                self.columns[index].cells = std::mem::take(shorter);
                self.columns[index].shrinks = Shrinks::Never;
            }
        }
        for least in [COMFORTABLE, NARROWEST] {
            for index in (0..self.columns.len()).rev() {
                let over = self.widths().iter().sum::<usize>().saturating_sub(room);
                let column = &mut self.columns[index];
                if over > 0 && matches!(column.shrinks, Shrinks::Cut) {
                    column.cut(column.width().saturating_sub(over).max(least));
                }
            }
        }
    }

    fn widths(&self) -> Vec<usize> {
        self.columns.iter().map(Column::width).collect()
    }

    fn plain(&self) -> String {
        let titles = self.columns.iter().map(|column| (column.title.to_uppercase(), Colour::Plain)).collect();
        let lines = std::iter::once(titles).chain((0..self.rows()).map(|row| self.cells(row, false)));
        self.lines(lines, ["", "  ", ""])
    }

    fn boxed(&self, colour: bool) -> String {
        const EDGES: [&str; 3] = ["│ ", " │ ", " │"];
        let bars: Vec<_> = self.widths().into_iter().map(|width| "─".repeat(width + 2)).collect();
        let rule = |left: &str, between: &str, right: &str| format!("{left}{}{right}\n", bars.join(between));
        let bold = if colour { Colour::Bold } else { Colour::Plain };
        let titles = self.columns.iter().map(|column| (column.title.to_owned(), bold)).collect();
        let titles = self.lines(std::iter::once(titles), EDGES);
        let rows = self.lines((0..self.rows()).map(|row| self.cells(row, colour)), EDGES);
        [rule("┌", "┬", "┐"), titles, rule("├", "┼", "┤"), rows, rule("└", "┴", "┘")].concat()
    }

    fn rows(&self) -> usize {
        self.columns.first().map_or(0, |column| column.cells.len())
    }

    fn cells(&self, row: usize, colour: bool) -> Vec<(String, Colour)> {
        let colour_of = |column: &Column, cell| if colour { (column.colours)(cell) } else { Colour::Plain };
        self.columns.iter().map(|column| (column.cells[row].clone(), colour_of(column, &column.cells[row]))).collect()
    }

    /// Returns lines of cells, each padded to the width of its column.
    fn lines(&self, lines: impl Iterator<Item = Vec<(String, Colour)>>, [left, between, right]: [&str; 3]) -> String {
        let widths = self.widths();
        let padded = |(index, (cell, colour)): (usize, (String, Colour))| {
            let padding = " ".repeat(widths[index].saturating_sub(width(&cell)));
            let cell = colour.paint(&cell);
            if self.columns[index].is_number { padding + &cell } else { cell + &padding }
        };
        let line = |cells: Vec<_>| cells.into_iter().enumerate().map(padded).collect::<Vec<_>>().join(between);
        lines.map(|cells| format!("{left}{}{right}", line(cells)).trim_end().to_owned() + "\n").collect()
    }
}

impl Column {
    /// Returns the width below which the column is cut only if necessary.
    fn comfortable_width(&self) -> usize {
        match self.shrinks {
            Shrinks::Cut => self.width().min(COMFORTABLE.max(width(self.title))),
            Shrinks::Never | Shrinks::To(_) => self.width(),
        }
    }

    fn cut(&mut self, columns: usize) {
        let columns = columns.max(width(self.title));
        self.cells.iter_mut().for_each(|cell| *cell = cut(cell, columns).into_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let texts = |texts: [&'static str; 2]| texts.into_iter().map(str::to_owned);
        Table::new(vec![
            Column::new("id", texts(["0123456789abcdef", "fedcba9876543210"]))
                .or_shorter(texts(["89abcdef", "76543210"])),
            Column::new("queue", texts(["日本", "b"])).may_be_cut(),
            Column::new("status", texts(["in_progress", "failed"])).coloured(|status| match status {
                "failed" => Colour::Red,
                _ => Colour::Plain,
            }),
            Column::numbers("retries", texts(["3", "10"])),
            Column::new("description", texts(["a rather long\ndescription of it", ""])).may_be_cut(),
        ])
    }

    #[test]
    fn without_a_terminal_it_is_plain_and_complete() {
        let expected = "\
ID                QUEUE  STATUS       RETRIES  DESCRIPTION
0123456789abcdef  日本   in_progress        3  a rather long\\ndescription of it
fedcba9876543210  b      failed            10
";
        assert_eq!(table().draw(Screen { width: None, colour: false }), expected);
    }

    #[test]
    fn on_a_terminal_it_has_a_box() {
        let expected = "\
┌──────────────────┬───────┬─────────────┬─────────┬──────────────────────────────────┐
│ id               │ queue │ status      │ retries │ description                      │
├──────────────────┼───────┼─────────────┼─────────┼──────────────────────────────────┤
│ 0123456789abcdef │ 日本  │ in_progress │       3 │ a rather long\\ndescription of it │
│ fedcba9876543210 │ b     │ failed      │      10 │                                  │
└──────────────────┴───────┴─────────────┴─────────┴──────────────────────────────────┘
";
        assert_eq!(table().draw(Screen { width: Some(200), colour: false }), expected);
    }

    #[test]
    fn it_fits_any_width_and_never_cuts_a_status() {
        for columns in 65..200 {
            let drawn = table().draw(Screen { width: Some(columns), colour: false });
            assert!(drawn.lines().all(|line| width(line) <= columns), "{columns}\n{drawn}");
            assert!(drawn.contains("│ in_progress │") && drawn.contains("89abcdef │"), "{columns}\n{drawn}");
            assert_eq!(drawn.lines().count(), 6, "no cell is wrapped");
        }
    }

    #[test]
    fn colours_do_not_shift_columns() {
        let [plain, coloured] = [false, true].map(|colour| table().draw(Screen { width: Some(120), colour }));
        assert!(coloured.contains("\u{1b}[31mfailed\u{1b}[0m      │"));
        let mut bare = coloured;
        for code in ["\u{1b}[31m", "\u{1b}[1m", "\u{1b}[0m"] {
            bare = bare.replace(code, "");
        }
        assert_eq!(bare, plain);
    }
}
