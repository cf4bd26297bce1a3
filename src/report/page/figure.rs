//! Figures of a page: inline SVG with captions.

use std::path::Path;

use maud::{Markup, PreEscaped, html};

use super::{Part, svg};
use crate::report::figures::Captions;
use crate::visible::visible;

/// One figure, or several views of the same thing to choose from.
#[derive(Debug, Clone, PartialEq)]
pub struct Figure {
    /// Printed before the caption.
    pub title: String,
    /// At most four.
    pub views: Vec<View>,
}

/// A drawing.
#[derive(Debug, Clone, PartialEq)]
pub struct View {
    /// Distinguishes it from the other views.
    pub label: String,
    /// The file's content.
    pub svg: String,
    /// What it shows and under which conditions; also read aloud by screen readers.
    pub caption: String,
}

impl View {
    /// The figure `name` in `folder`, or `None` if it was not drawn. The caption is taken from the file of captions in the
    /// folder if it has one, otherwise it is `caption`.
    pub fn read(folder: &Path, name: &str, label: &str, caption: &str) -> Option<Self> {
        let svg = crate::input::read_text(&folder.join(format!("{name}.svg"))).ok()?;
        let written = Captions::read(folder);
        let caption = written.of(name).filter(|text| !text.is_empty()).unwrap_or(caption);
        Some(Self { label: label.into(), svg, caption: caption.into() })
    }
}

impl Figure {
    /// Those of the views `(name, label, caption)` that were drawn; `None` if there are none.
    pub fn part(title: &str, folder: &Path, views: &[(&str, &str, &str)]) -> Option<Part> {
        let read = |(name, label, caption): &(&str, &str, &str)| View::read(folder, name, label, caption);
        let views: Vec<View> = views.iter().filter_map(read).take(4).collect();
        (!views.is_empty()).then(|| Part::Figure(Self { title: title.into(), views }))
    }

    /// One drawing, whose title is its label.
    pub fn one(folder: &Path, name: &str, title: &str, caption: &str) -> Option<Part> {
        Self::part(title, folder, &[(name, title, caption)])
    }

    pub(super) fn html(&self, name: &str) -> Markup {
        let span = self.views.iter().any(|view| svg::is_wide(&view.svg)).then_some("span");
        let id = |index: usize| format!("f{name}-{index}");
        // Radio buttons switch the view without a script; the style sheet counts them.
        html! {
            figure class=[span] {
                @if let [view] = self.views.as_slice() { (self.picture(view, &id(0))) } @else {
                    div class="views" role="radiogroup" aria-label=(visible(&self.title)) {
                        @for (index, view) in self.views.iter().enumerate() {
                            input type="radio" name={ "f" (name) } id=(id(index)) checked[index == 0];
                            label for=(id(index)) { (visible(&view.label)) }
                        }
                        @for (index, view) in self.views.iter().enumerate() {
                            div class="view" { (self.picture(view, &id(index))) }
                        }
                    }
                }
            }
        }
    }

    /// One view; the identifiers in its SVG get the prefix `id`.
    fn picture(&self, view: &View, id: &str) -> Markup {
        let alt = [self.title.as_str(), &view.label, &view.caption].join(". ");
        let svg = PreEscaped(svg::inlined(&view.svg, &format!("{id}-")));
        html! {
            div class="picture" role="img" aria-label=(visible(&alt)) { (svg) }
            p class="caption" aria-hidden="true" { strong { (visible(&self.title)) "." } " " (visible(&view.caption)) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_caption_beside_the_figures_goes_first() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        let read = |name| View::read(folder.path(), name, "label", "mine").map(|view| view.caption);
        assert_eq!(read("line"), None);
        ["line.svg", "plane.svg", "bare.svg"].iter().for_each(|name| write(name, "<svg/>"));
        assert_eq!(read("line").as_deref(), Some("mine"));
        write("captions.md", "# Captions\n\n## plane\n\nContours.\n\n## bare\n\n## line\n\nThe loss.\n");
        assert_eq!(["line", "plane", "bare"].map(|name| read(name).unwrap()), ["The loss.", "Contours.", "mine"]);
    }
}
