//! Tables of a page.

use super::{Part, escaped};
use crate::analysis::SummaryRow;
use crate::autodiff::Scope;
use crate::report::terminal::headline;
use crate::vocabulary::Curvature;

/// A table that can be sorted by any column; a long one scrolls.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Table {
    /// Names; whether they hold numbers.
    pub columns: Vec<(String, bool)>,
    /// In their first order.
    pub rows: Vec<Row>,
    /// Above it: what it shows, and what its columns mean.
    pub caption: String,
}

/// A row of a table.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// As many as columns.
    pub cells: Vec<String>,
    /// Whether its numbers stand; others are set in italics, with a star.
    pub converged: bool,
}

impl Row {
    /// Whose numbers stand.
    pub fn new(cells: impl IntoIterator<Item = String>) -> Self {
        Self { cells: cells.into_iter().collect(), converged: true }
    }
}

/// More columns than this take the whole width.
const NARROW: usize = 6;

impl Table {
    /// Columns as `(name, whether it holds numbers)`.
    pub fn new(columns: &[(&str, bool)], rows: Vec<Row>, caption: &str) -> Self {
        let columns = columns.iter().map(|(name, number)| ((*name).to_owned(), *number)).collect();
        Self { columns, rows, caption: caption.into() }
    }

    /// A table of headline numbers; bounds have a sign and no error.
    pub(super) fn of_summary<'a>(rows: impl Iterator<Item = &'a SummaryRow>, caption: &str) -> Self {
        let row = |row: &SummaryRow| {
            let [value, numeric, data] = headline(row);
            let numeric = if row.is_bound() { String::new() } else { numeric };
            let words = |text: &str| text.replace('_', " ");
            let scope = if row.scope == Scope::All { String::new() } else { row.scope.to_string() };
            let products = if row.num_matvecs == 0 { String::new() } else { row.num_matvecs.to_string() };
            let method = words(row.method.name());
            let cells = [
                row.quantity.label(),
                row.operator.map_or("", Curvature::title).to_owned(),
                scope,
                value,
                plain(&numeric),
                plain(&data),
                method,
                products,
            ];
            Row { cells: cells.to_vec(), converged: row.converged }
        };
        let columns = [
            ("quantity", false),
            ("operator", false),
            ("scope", false),
            ("value", true),
            ("± numeric", true),
            ("± rows", true),
            ("method", false),
            ("products", true),
        ];
        Self::new(&columns, rows.map(row).collect(), caption)
    }

    /// Without columns that are empty in every row; `None` without rows.
    pub fn part(mut self) -> Option<Part> {
        let used =
            |column: usize| self.rows.iter().any(|row| row.cells.get(column).is_some_and(|cell| !cell.is_empty()));
        let keep: Vec<bool> = (0..self.columns.len()).map(used).collect();
        let kept = |index: &usize| keep.get(*index).copied().unwrap_or(false);
        let columns = std::mem::take(&mut self.columns).into_iter().enumerate();
        self.columns = columns.filter(|(index, _)| kept(index)).map(|(_, column)| column).collect();
        for row in &mut self.rows {
            let cells = std::mem::take(&mut row.cells).into_iter().enumerate();
            row.cells = cells.filter(|(index, _)| kept(index)).map(|(_, cell)| cell).collect();
        }
        (!self.rows.is_empty()).then_some(Part::Table(self))
    }

    pub(super) fn html(&self) -> String {
        let class = |number: bool| if number { " class=\"number\"" } else { "" };
        let head = self.columns.iter().map(|(name, number)| {
            let (class, name) = (class(*number), escaped(name));
            format!("<th scope=\"col\" aria-sort=\"none\"{class}><button type=\"button\">{name}</button></th>")
        });
        let row = |row: &Row| {
            let star = if row.converged { "" } else { " *" };
            let cells = row.cells.iter().zip(&self.columns).enumerate().map(|(index, (cell, (_, number)))| {
                let cell = escaped(cell);
                match (index, number) {
                    (0, false) => format!("<th scope=\"row\">{cell}{star}</th>"),
                    _ => format!("<td{}>{cell}</td>", class(*number)),
                }
            });
            let open = if row.converged { "" } else { " class=\"open\"" };
            format!("<tr{open}>{}</tr>\n", cells.collect::<String>())
        };
        let wide = if self.columns.len() > NARROW { " span" } else { "" };
        let caption = escaped(&self.caption);
        format!(
            "<div class=\"wide{wide}\" tabindex=\"0\" role=\"group\" aria-label=\"Table: {caption}\"><table>\n\
             <caption><span>{caption}</span></caption>\n<thead><tr>{}</tr></thead>\n<tbody>\n{}</tbody>\n</table></div>\n",
            head.collect::<String>(),
            self.rows.iter().map(row).collect::<String>()
        )
    }
}

/// An error without its sign, for a column that has it.
pub(super) fn plain(error: &str) -> String {
    error.trim_start_matches("± ").to_owned()
}
