//! Tables of a page.

use maud::{Markup, html};

use super::Part;
use crate::report::terminal::headline;
use crate::visible::visible;
use crate::vocabulary::{Curvature, Scope, SummaryRow};

/// A table that can be sorted by any column; long tables scroll.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Table {
    /// Names, and whether the columns hold numbers.
    pub columns: Vec<(String, bool)>,
    /// In their initial order.
    pub rows: Vec<Row>,
    /// What the table shows, and what its columns mean; printed above it.
    pub caption: String,
}

/// A row of a table.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// One per column.
    pub cells: Vec<String>,
    /// Whether its numbers have converged; other rows are in italics with a star.
    pub converged: bool,
}

impl Row {
    /// A row whose numbers have converged.
    pub fn new(cells: impl IntoIterator<Item = String>) -> Self {
        Self { cells: cells.into_iter().collect(), converged: true }
    }
}

/// Tables with more columns take the full width.
const NARROW: usize = 6;

impl Table {
    /// Columns as `(name, whether it holds numbers)`.
    pub fn new(columns: &[(&str, bool)], rows: Vec<Row>, caption: &str) -> Self {
        let columns = columns.iter().map(|(name, number)| ((*name).to_owned(), *number)).collect();
        Self { columns, rows, caption: caption.into() }
    }

    /// A table of headline numbers; bounds are shown with `≥` or `≤` and without an error.
    pub(super) fn of_summary<'a>(rows: impl Iterator<Item = &'a SummaryRow>, caption: &str) -> Self {
        let row = |row: &SummaryRow| {
            let [value, numeric, data] = headline(row);
            let numeric = if row.is_bound() { String::new() } else { numeric };
            let scope = if row.scope == Scope::All { String::new() } else { row.scope.to_string() };
            let products = if row.num_matvecs == 0 { String::new() } else { row.num_matvecs.to_string() };
            let operator = row.operator.map_or("", Curvature::title).to_owned();
            let (quantity, method) = (row.quantity.label(), row.method.name().replace('_', " "));
            let cells = vec![quantity, operator, scope, value, plain(&numeric), plain(&data), method, products];
            Row { cells, converged: row.converged }
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

    /// The table without columns that are empty in every row; `None` if it has no rows.
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

    pub(super) fn html(&self) -> Markup {
        let caption = visible(&self.caption);
        let width = if self.columns.len() > NARROW { "wide span" } else { "wide" };
        let class = |number: &bool| number.then_some("number");
        html! {
            div class=(width) tabindex="0" role="group" aria-label={ "Table: " (caption) } {
                table {
                    caption { span { (caption) } }
                    thead { tr { @for (name, number) in &self.columns {
                        th scope="col" aria-sort="none" class=[class(number)] { button type="button" { (visible(name)) } }
                    } } }
                    tbody { @for row in &self.rows {
                        tr class=[(!row.converged).then_some("open")] {
                            @for (index, (cell, (_, number))) in row.cells.iter().zip(&self.columns).enumerate() {
                                @if index == 0 && !number {
                                    th scope="row" { (visible(cell)) @if !row.converged { " *" } }
                                } @else { td class=[class(number)] { (visible(cell)) } }
                            }
                        }
                    } }
                }
            }
        }
    }
}

/// An error without its `±`, for columns whose heading has it.
pub(super) fn plain(error: &str) -> String {
    error.trim_start_matches("± ").to_owned()
}
