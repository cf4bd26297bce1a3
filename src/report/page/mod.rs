//! A report as one HTML file: nothing is fetched, and it can be read on a phone, in the dark, on paper and aloud.
//!
//! A page has a title, cards with the numbers that matter, and sections, of which those that not everybody needs are folded. A
//! section holds figures, tables and words side by side, as many as fit the width.

mod analysis;
mod comparison;
mod dark;
mod figure;
mod landscape;
mod langevin;
mod sharpness;
mod svg;
mod table;

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;

pub use analysis::{analysis_page, provenance};
pub use comparison::{comparison_sections, runs_table};
pub use figure::{Figure, View};
pub use landscape::landscape_page;
pub use langevin::{langevin_figures, langevin_page};
pub use sharpness::sharpness_page;
pub use table::{Row, Table};

use super::terminal::headline;
use crate::analysis::SummaryRow;
use crate::files::{FileError, write_atomic};
use crate::visible::visible;

/// What a page shows, in its order.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Page {
    /// Its heading.
    pub title: String,
    /// One line below.
    pub subtitle: String,
    /// Numbers in large letters.
    pub cards: Vec<Card>,
    /// The rest.
    pub sections: Vec<Section>,
    /// Names and values: hashes, seeds, versions.
    pub provenance: Vec<(String, String)>,
    /// The command that made it.
    pub command: String,
}

/// A number in large letters.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Card {
    /// What it is.
    pub label: String,
    /// Its value, rounded.
    pub value: String,
    /// Its errors in words, such as `± 0.3 (rows)`; may be empty.
    pub error: String,
}

impl Card {
    /// Without an error.
    pub fn new(label: &str, value: impl Into<String>) -> Self {
        Self { label: label.into(), value: value.into(), error: String::new() }
    }

    /// Of a number with its errors, which may be a bound; `None` where it has not converged.
    pub fn of(label: String, row: &SummaryRow) -> Option<Self> {
        if !row.converged && !row.is_bound() {
            return None;
        }
        let [value, numeric, rows] = headline(row);
        let error = match row.is_bound() {
            true => "a bound".to_owned(),
            false => {
                let parts = [(numeric, "numeric"), (rows, "rows")].into_iter().filter(|(error, _)| !error.is_empty());
                parts.map(|(error, of)| format!("{error} ({of})")).collect::<Vec<_>>().join(", ")
            }
        };
        Some(Self { label, value, error })
    }
}

/// A part of a page under a heading.
#[derive(Debug, Clone, PartialEq)]
pub struct Section {
    /// Its heading.
    pub title: String,
    /// Whether one must ask for it.
    pub folded: bool,
    /// Side by side, as many as fit.
    pub parts: Vec<Part>,
}

/// What a section holds.
#[derive(Debug, Clone, PartialEq)]
pub enum Part {
    /// A picture.
    Figure(Figure),
    /// A table that can be sorted by any column.
    Table(Table),
    /// Paragraphs.
    Text(Vec<String>),
    /// Words that lead to other pages of the same result, by paths from this one.
    Links(Vec<(String, String)>),
}

impl Section {
    /// With the parts that are there; `None` where none is.
    pub fn new(title: &str, parts: impl IntoIterator<Item = Option<Part>>) -> Option<Self> {
        let parts: Vec<Part> = parts.into_iter().flatten().collect();
        (!parts.is_empty()).then(|| Self { title: title.into(), folded: false, parts })
    }

    /// The same, folded.
    pub fn folded(title: &str, parts: impl IntoIterator<Item = Option<Part>>) -> Option<Self> {
        Self::new(title, parts).map(|section| Self { folded: true, ..section })
    }

    fn html(&self, index: usize) -> String {
        let parts: String =
            self.parts.iter().enumerate().map(|(part, own)| own.html(&format!("{index}-{part}"))).collect();
        let heading = format!("<h2 id=\"s{index}\">{}</h2>", escaped(&self.title));
        let parts = format!("<div class=\"parts\">\n{parts}</div>\n");
        let inner = match self.folded {
            true => format!("<details>\n<summary>{heading}</summary>\n{parts}</details>\n"),
            false => format!("{heading}\n{parts}"),
        };
        format!("<section aria-labelledby=\"s{index}\">\n{inner}</section>\n")
    }
}

impl Part {
    /// Paragraphs, where there are any.
    pub fn text(paragraphs: Vec<String>) -> Option<Self> {
        (!paragraphs.is_empty()).then_some(Self::Text(paragraphs))
    }

    /// `name` tells its identifiers from those of all other parts.
    fn html(&self, name: &str) -> String {
        match self {
            Self::Figure(figure) => figure.html(name),
            Self::Table(table) => table.html(),
            Self::Text(paragraphs) => {
                let paragraphs = paragraphs.iter().map(|text| format!("<p>{}</p>\n", escaped(text)));
                format!("<div class=\"text\">\n{}</div>\n", paragraphs.collect::<String>())
            }
            Self::Links(links) => {
                let link = |(words, path): &(String, String)| {
                    format!("<li><a href=\"{}\">{}</a></li>\n", escaped(path), escaped(words))
                };
                format!("<ul class=\"text\">\n{}</ul>\n", links.iter().map(link).collect::<String>())
            }
        }
    }
}

impl Page {
    /// Writes the page, atomically.
    ///
    /// # Errors
    /// [`FileError`] where the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), FileError> {
        write_atomic(path, |file| file.write_all(self.html().as_bytes()))
    }

    /// The page as text.
    pub fn html(&self) -> String {
        let mut html = String::from("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n");
        html.push_str("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n");
        let (title, subtitle) = (escaped(&self.title), escaped(&self.subtitle));
        let (style, dark) = (include_str!("style.css"), dark::rules());
        let _ = write!(html, "<title>{title} – flatness</title>\n<style>\n{style}{dark}</style>\n</head>\n<body>\n");
        html.push_str("<a class=\"skip\" href=\"#content\">Skip to the content</a>\n");
        let origin = format!("<a href=\"#origin\">flatness {}</a>", env!("CARGO_PKG_VERSION"));
        let line = if subtitle.is_empty() { origin } else { format!("{subtitle} · {origin}") };
        let _ = write!(
            html,
            "<header>\n<h1>{title}</h1>\n<p class=\"soft\">{line}</p>\n</header>\n<main id=\"content\">\n"
        );
        if !self.cards.is_empty() {
            html.push_str("<section aria-labelledby=\"numbers\">\n<h2 id=\"numbers\" class=\"unseen\">In short</h2>\n");
            let cards = self.cards.iter().map(Card::html).collect::<String>();
            let _ = write!(html, "<dl class=\"numbers\">\n{cards}</dl>\n</section>\n");
        }
        self.sections.iter().enumerate().for_each(|(index, section)| html.push_str(&section.html(index)));
        let _ = write!(html, "</main>\n{}<div id=\"tip\" aria-hidden=\"true\"></div>\n", self.footer());
        let _ = write!(html, "<script>\n{}</script>\n</body>\n</html>\n", include_str!("script.js"));
        html
    }

    fn footer(&self) -> String {
        let rows = self.provenance.iter().map(|(name, value)| {
            format!("<tr><th scope=\"row\">{}</th><td class=\"long\">{}</td></tr>\n", escaped(name), escaped(value))
        });
        let mut inner = rows.collect::<String>();
        if !inner.is_empty() {
            inner = format!(
                "<div class=\"wide\" tabindex=\"0\" role=\"group\" aria-label=\"Table: origin\"><table>\n<tbody>\n{inner}</tbody>\n</table></div>\n"
            );
        }
        let command = escaped(&self.command);
        format!(
            "<footer>\n<section aria-labelledby=\"origin\">\n<details>\n<summary><h2 id=\"origin\">Where it comes \
             from</h2></summary>\n{inner}<p>Command:</p>\n<pre>{command}</pre>\n</details>\n</section>\n</footer>\n"
        )
    }
}

impl Card {
    fn html(&self) -> String {
        let error = if self.error.is_empty() {
            String::new()
        } else {
            format!("<dd class=\"soft\">{}</dd>", escaped(&self.error))
        };
        let (label, value) = (escaped(&self.label), escaped(&self.value));
        format!("<div><dt>{label}</dt><dd class=\"value\">{value}</dd>{error}</div>\n")
    }
}

/// Text without a meaning for HTML.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in visible(text).chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests;
