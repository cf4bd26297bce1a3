//! A report as one HTML file that loads nothing. It works on a phone, in dark mode, on paper and with a screen reader.
//!
//! A page has a title, cards with the main numbers, and sections, some of which are folded. A section holds figures, tables and
//! text side by side, as many as fit the width. Text is escaped by maud, after `visible` has replaced control characters.

mod analysis;
mod comparison;
mod dark;
mod evaluation;
mod figure;
mod landscape;
mod langevin;
mod llc;
mod sharpness;
mod svg;
mod table;

use std::io::Write as _;
use std::path::Path;

use maud::{DOCTYPE, Markup, PreEscaped, html};

pub use analysis::{analysis_page, provenance};
pub use comparison::{comparison_sections, runs_table};
pub use evaluation::evaluation_page;
pub use figure::{Figure, View};
pub use landscape::landscape_page;
pub use langevin::{langevin_figures, langevin_page};
pub use llc::llc_page;
pub use sharpness::{Measured, sharpness_page};
pub use table::{Row, Table};

use super::terminal::headline;
use crate::files::{FileError, write_atomic};
use crate::visible::visible;
use crate::vocabulary::SummaryRow;

/// The content of a page, in the order shown.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Page {
    /// Its heading.
    pub title: String,
    /// One line below the heading.
    pub subtitle: String,
    /// The main numbers.
    pub cards: Vec<Card>,
    /// Everything else.
    pub sections: Vec<Section>,
    /// Names and values: hashes, seeds, versions.
    pub provenance: Vec<(String, String)>,
    /// The command line that made it.
    pub command: String,
}

/// A number in large type.
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

    /// A number with its errors, or a bound; `None` if it has not converged.
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
    /// Whether it is closed until the reader opens it.
    pub folded: bool,
    /// Shown side by side, as many as fit.
    pub parts: Vec<Part>,
}

/// What a section holds.
#[derive(Debug, Clone, PartialEq)]
pub enum Part {
    /// A figure.
    Figure(Figure),
    /// A table that can be sorted by any column.
    Table(Table),
    /// Paragraphs.
    Text(Vec<String>),
    /// Links to other pages of the same result: text and relative path.
    Links(Vec<(String, String)>),
}

impl Section {
    /// A section with the parts that exist; `None` if there are none.
    pub fn new(title: &str, parts: impl IntoIterator<Item = Option<Part>>) -> Option<Self> {
        let parts: Vec<Part> = parts.into_iter().flatten().collect();
        (!parts.is_empty()).then(|| Self { title: title.into(), folded: false, parts })
    }

    /// The same, folded.
    pub fn folded(title: &str, parts: impl IntoIterator<Item = Option<Part>>) -> Option<Self> {
        Self::new(title, parts).map(|section| Self { folded: true, ..section })
    }

    fn html(&self, index: usize) -> Markup {
        let heading = html! { h2 id={ "s" (index) } { (visible(&self.title)) } };
        let parts = self.parts.iter().enumerate().map(|(part, own)| own.html(&format!("{index}-{part}")));
        let parts = html! { div class="parts" { @for part in parts { (part) } } };
        html! {
            section aria-labelledby={ "s" (index) } {
                @if self.folded { details { summary { (heading) } (parts) } } @else { (heading) (parts) }
            }
        }
    }
}

impl Part {
    /// Paragraphs; `None` if there are none.
    pub fn text(paragraphs: Vec<String>) -> Option<Self> {
        (!paragraphs.is_empty()).then_some(Self::Text(paragraphs))
    }

    /// `name` makes its identifiers unique on the page.
    fn html(&self, name: &str) -> Markup {
        match self {
            Self::Figure(figure) => figure.html(name),
            Self::Table(table) => table.html(),
            Self::Text(paragraphs) => html! {
                div class="text" { @for text in paragraphs { p { (unbroken(text)) } } }
            },
            Self::Links(links) => html! {
                ul class="text" { @for (words, path) in links { li { a href=(visible(path)) { (visible(words)) } } } }
            },
        }
    }
}

impl Page {
    /// Writes the page, atomically.
    ///
    /// # Errors
    /// [`FileError`] if the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), FileError> {
        write_atomic(path, |file| file.write_all(self.html().as_bytes()))
    }

    /// The page as text.
    pub fn html(&self) -> String {
        let (title, subtitle) = (visible(&self.title), visible(&self.subtitle));
        let page = html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    title { (title) " – flatness" }
                    style { (PreEscaped(include_str!("style.css"))) (PreEscaped(dark::rules())) }
                }
                body {
                    a class="skip" href="#content" { "Skip to the content" }
                    header {
                        h1 { (title) }
                        p class="soft" {
                            @if !subtitle.is_empty() { (subtitle) " · " }
                            a href="#origin" { "flatness " (env!("CARGO_PKG_VERSION")) }
                        }
                    }
                    main id="content" {
                        @if !self.cards.is_empty() {
                            section aria-labelledby="numbers" {
                                h2 id="numbers" class="unseen" { "In short" }
                                dl class="numbers" { @for card in &self.cards { (card.html()) } }
                            }
                        }
                        @for (index, section) in self.sections.iter().enumerate() { (section.html(index)) }
                    }
                    (self.footer())
                    div id="tip" aria-hidden="true" {}
                    script { (PreEscaped(include_str!("script.js"))) }
                }
            }
        };
        page.into_string() + "\n"
    }

    fn footer(&self) -> Markup {
        html! {
            footer { section aria-labelledby="origin" { details {
                summary { h2 id="origin" { "Provenance" } }
                @if !self.provenance.is_empty() {
                    div class="wide" tabindex="0" role="group" aria-label="Table: origin" {
                        table { tbody { @for (name, value) in &self.provenance {
                            tr { th scope="row" { (visible(name)) } td class="long" { (visible(value)) } }
                        } } }
                    }
                }
                p { "Command:" }
                pre { (visible(&self.command)) }
            } } }
        }
    }
}

impl Card {
    fn html(&self) -> Markup {
        html! {
            div {
                dt { (visible(&self.label)) }
                dd class="value" { (visible(&self.value)) }
                @if !self.error.is_empty() { dd class="soft" { (unbroken(&self.error)) } }
            }
        }
    }
}

/// [`visible`], with no line breaks inside numbers.
fn unbroken(text: &str) -> String {
    const SPACES: [(&str, &str); 3] = [("± ", "±\u{a0}"), (" %", "\u{a0}%"), (" = ", "\u{a0}=\u{a0}")];
    SPACES.iter().fold(visible(text).into_owned(), |text, (from, to)| text.replace(from, to))
}

#[cfg(test)]
mod tests;
