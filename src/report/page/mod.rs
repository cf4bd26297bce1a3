//! A report as one HTML file: nothing is fetched, and it can be read on a phone, in the dark, on paper and aloud.

mod analysis;
mod comparison;
mod svg;

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;

pub use analysis::{analysis_page, provenance};
pub use comparison::comparison_sections;

use super::figures::Captions;
use super::{ReportError, write_atomic};
use crate::visible::visible;

/// What a page shows, in its order.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Page {
    /// Its heading.
    pub title: String,
    /// One line below.
    pub subtitle: String,
    /// Numbers in large letters.
    pub headlines: Vec<Headline>,
    /// Figures, tables, words.
    pub sections: Vec<Section>,
    /// Names and values: hashes, seeds, versions.
    pub provenance: Vec<(String, String)>,
    /// The command that made it.
    pub command: String,
}

/// A number in large letters.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Headline {
    /// What it is.
    pub label: String,
    /// Its value, rounded.
    pub value: String,
    /// Its errors in words, such as `± 0.3 (data)`; may be empty.
    pub error: String,
    /// Whether its estimate met its tolerance.
    pub converged: bool,
}

/// A part of a page.
#[derive(Debug, Clone, PartialEq)]
pub enum Section {
    /// One figure, or several views of the same thing to choose from.
    Figure {
        /// Its heading.
        title: String,
        /// At most four.
        views: Vec<FigureView>,
        /// Below it.
        caption: String,
    },
    /// A table that can be sorted by any column.
    Table {
        /// Its heading.
        title: String,
        /// Names; whether they hold numbers.
        columns: Vec<(String, bool)>,
        /// As many cells as columns.
        rows: Vec<Vec<String>>,
        /// Below it.
        caption: String,
    },
    /// Paragraphs.
    Text {
        /// Its heading.
        title: String,
        /// Each a paragraph.
        paragraphs: Vec<String>,
    },
}

/// A picture.
#[derive(Debug, Clone, PartialEq)]
pub struct FigureView {
    /// The figure's name.
    pub name: String,
    /// What tells it from the other views.
    pub label: String,
    /// The file's content.
    pub svg: String,
    /// What it shows, for those who do not see it.
    pub alt: String,
}

impl FigureView {
    /// The figure `name` in `folder`; `None` where it was not drawn.
    pub fn read(folder: &Path, name: &str, label: &str, alt: &str) -> Option<Self> {
        let svg = crate::input::read_text(&folder.join(format!("{name}.svg"))).ok()?;
        Some(Self { name: name.into(), label: label.into(), svg, alt: alt.into() })
    }
}

impl Section {
    /// The views that were drawn, of `(name, label, alternative text)`, with the captions that lie beside them and `caption`;
    /// `None` where none was.
    pub fn figure(title: &str, folder: &Path, views: &[(&str, &str, &str)], caption: &str) -> Option<Self> {
        let views: Vec<FigureView> =
            views.iter().filter_map(|(name, label, alt)| FigureView::read(folder, name, label, alt)).collect();
        let written = Captions::read(folder);
        let mut texts: Vec<&str> = views.iter().filter_map(|view| written.of(&view.name)).chain([caption]).collect();
        texts.retain(|text| !text.is_empty());
        // Views of one thing may share their text.
        texts.dedup();
        let caption = texts.join(" ");
        (!views.is_empty()).then(|| Self::Figure { title: title.into(), views, caption })
    }
}

impl Page {
    /// Writes the page, atomically.
    ///
    /// # Errors
    /// [`ReportError::Write`] where the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), ReportError> {
        write_atomic(path, |file| file.write_all(self.html().as_bytes()))
    }

    /// The page as text.
    pub fn html(&self) -> String {
        let mut html = String::new();
        let (title, subtitle) = (escaped(&self.title), escaped(&self.subtitle));
        html.push_str("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n");
        html.push_str("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n");
        html.push_str(&format!(
            "<title>{title} – flatness</title>\n<style>\n{}</style>\n</head>\n<body>\n",
            include_str!("style.css")
        ));
        html.push_str("<a class=\"skip\" href=\"#content\">Skip to the content</a>\n");
        html.push_str(&format!(
            "<header>\n<h1>{title}</h1>\n<p class=\"soft\">{subtitle}</p>\n</header>\n<main id=\"content\">\n"
        ));
        if !self.headlines.is_empty() {
            html.push_str(
                "<section aria-labelledby=\"numbers\">\n<h2 id=\"numbers\">Numbers</h2>\n<dl class=\"numbers\">\n",
            );
            self.headlines.iter().for_each(|headline| html.push_str(&headline.html()));
            html.push_str("</dl>\n</section>\n");
        }
        for (index, section) in self.sections.iter().enumerate() {
            html.push_str(&section.html(index));
        }
        html.push_str(
            "</main>\n<footer>\n<section aria-labelledby=\"origin\">\n<h2 id=\"origin\">Where it comes from</h2>\n",
        );
        html.push_str(&self.origin());
        html.push_str(&format!(
            "</section>\n</footer>\n<script>\n{}</script>\n</body>\n</html>\n",
            include_str!("script.js")
        ));
        html
    }

    fn origin(&self) -> String {
        let rows = self.provenance.iter().map(|(name, value)| {
            format!("<tr><th scope=\"row\">{}</th><td class=\"long\">{}</td></tr>\n", escaped(name), escaped(value))
        });
        let table = rows.collect::<String>();
        let table = if table.is_empty() {
            table
        } else {
            format!("<div class=\"wide\"><table>\n<tbody>\n{table}</tbody>\n</table></div>\n")
        };
        format!("{table}<p>Command:</p>\n<pre>{}</pre>\n", escaped(&self.command))
    }
}

impl Headline {
    fn html(&self) -> String {
        let star = if self.converged { "" } else { " <span class=\"soft\">not converged</span>" };
        let error = if self.error.is_empty() {
            String::new()
        } else {
            format!("<dd class=\"soft\">{}</dd>", escaped(&self.error))
        };
        let (label, value) = (escaped(&self.label), escaped(&self.value));
        format!(
            "<div><dt>{label}</dt><dd class=\"value\">{value}</dd>{error}{}</div>\n",
            if star.is_empty() { String::new() } else { format!("<dd>{star}</dd>") }
        )
    }
}

impl Section {
    fn html(&self, index: usize) -> String {
        let (title, inner) = match self {
            Self::Figure { title, views, caption } => (title, figure(index, views, caption)),
            Self::Table { title, columns, rows, caption } => (title, table(columns, rows, caption)),
            Self::Text { title, paragraphs } => {
                (title, paragraphs.iter().map(|text| format!("<p>{}</p>\n", escaped(text))).collect())
            }
        };
        format!(
            "<section aria-labelledby=\"s{index}\">\n<h2 id=\"s{index}\">{}</h2>\n{inner}</section>\n",
            escaped(title)
        )
    }
}

fn figure(index: usize, views: &[FigureView], caption: &str) -> String {
    let picture = |(number, view): (usize, &FigureView)| {
        let svg = svg::inlined(&view.svg, &format!("f{index}v{number}-"));
        format!("<div class=\"picture\" role=\"img\" aria-label=\"{}\">{svg}</div>", escaped(&view.alt))
    };
    let caption =
        if caption.is_empty() { String::new() } else { format!("<figcaption>{}</figcaption>\n", escaped(caption)) };
    if let [view] = views {
        return format!("<figure>\n{}\n{caption}</figure>\n", picture((0, view)));
    }
    // Radio buttons choose the view without any script; the rules of the style sheet count them.
    let mut html = String::from("<figure>\n<div class=\"views\">\n");
    for (number, view) in views.iter().enumerate().take(4) {
        let checked = if number == 0 { " checked" } else { "" };
        let label = escaped(&view.label);
        let _ = writeln!(
            html,
            "<input type=\"radio\" name=\"f{index}\" id=\"f{index}-{number}\"{checked}><label for=\"f{index}-{number}\">{label}</label>"
        );
    }
    for (number, view) in views.iter().enumerate().take(4) {
        let _ = writeln!(html, "<div class=\"view\">{}</div>", picture((number, view)));
    }
    format!("{html}</div>\n{caption}</figure>\n")
}

fn table(columns: &[(String, bool)], rows: &[Vec<String>], caption: &str) -> String {
    let class = |number: bool| if number { " class=\"number\"" } else { "" };
    let head = columns.iter().map(|(name, number)| {
        format!(
            "<th scope=\"col\" aria-sort=\"none\"{}><button type=\"button\">{}</button></th>",
            class(*number),
            escaped(name)
        )
    });
    let row = |cells: &Vec<String>| {
        let cells = cells
            .iter()
            .zip(columns)
            .map(|(cell, (_, number))| format!("<td{}>{}</td>", class(*number), escaped(cell)));
        format!("<tr>{}</tr>\n", cells.collect::<String>())
    };
    format!(
        "<div class=\"wide\" tabindex=\"0\" role=\"region\" aria-label=\"Table, scrolls sideways\"><table>\n<caption>{}</caption>\n\
         <thead><tr>{}</tr></thead>\n<tbody>\n{}</tbody>\n</table></div>\n",
        escaped(caption),
        head.collect::<String>(),
        rows.iter().map(row).collect::<String>()
    )
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
