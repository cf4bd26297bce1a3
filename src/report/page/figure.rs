//! Figures of a page: drawings inside it, with what they show in words.

use std::path::Path;

use super::{Part, escaped, svg};

/// One figure, or several views of the same thing to choose from.
#[derive(Debug, Clone, PartialEq)]
pub struct Figure {
    /// Its name, before the caption.
    pub title: String,
    /// At most four.
    pub views: Vec<View>,
}

/// A drawing.
#[derive(Debug, Clone, PartialEq)]
pub struct View {
    /// What tells it from the other views.
    pub label: String,
    /// The file's content.
    pub svg: String,
    /// What it shows and under which conditions, also for those who do not see it.
    pub caption: String,
}

impl View {
    /// The figure `name` in `folder`; `None` where it was not drawn. Its caption is that of the file of captions beside it,
    /// else `caption`.
    pub fn read(folder: &Path, name: &str, label: &str, caption: &str) -> Option<Self> {
        let svg = crate::input::read_text(&folder.join(format!("{name}.svg"))).ok()?;
        let caption = written(folder, name).unwrap_or_else(|| caption.to_owned());
        Some(Self { label: label.into(), svg, caption })
    }
}

/// The caption of a figure in `captions.md`, where it follows the figure's name as a heading.
fn written(folder: &Path, name: &str) -> Option<String> {
    let text = crate::input::read_text(&folder.join("captions.md")).ok()?;
    let mut lines = text.lines().skip_while(|line| line.strip_prefix("## ") != Some(name)).skip(1);
    lines.find(|line| !line.is_empty()).filter(|line| !line.starts_with('#')).map(str::to_owned)
}

impl Figure {
    /// The views that were drawn, of `(name, label, caption)`; `None` where none was.
    pub fn part(title: &str, folder: &Path, views: &[(&str, &str, &str)]) -> Option<Part> {
        let read = |(name, label, caption): &(&str, &str, &str)| View::read(folder, name, label, caption);
        let views: Vec<View> = views.iter().filter_map(read).take(4).collect();
        (!views.is_empty()).then(|| Part::Figure(Self { title: title.into(), views }))
    }

    /// One drawing, whose title is its label.
    pub fn one(folder: &Path, name: &str, title: &str, caption: &str) -> Option<Part> {
        Self::part(title, folder, &[(name, title, caption)])
    }

    pub(super) fn html(&self, name: &str) -> String {
        let picture = |(number, view): (usize, &View)| {
            let svg = svg::inlined(&view.svg, &format!("f{name}-{number}-"));
            let alt = escaped(&[self.title.as_str(), &view.label, &view.caption].join(". "));
            let (title, caption) = (escaped(&self.title), escaped(&view.caption));
            format!(
                "<div class=\"picture\" role=\"img\" aria-label=\"{alt}\">{svg}</div>\n\
                 <p class=\"caption\" aria-hidden=\"true\"><strong>{title}.</strong> {caption}</p>\n"
            )
        };
        let span = if self.views.iter().any(|view| svg::is_wide(&view.svg)) { " class=\"span\"" } else { "" };
        if let [view] = self.views.as_slice() {
            return format!("<figure{span}>\n{}</figure>\n", picture((0, view)));
        }
        // Radio buttons choose the view without any script; the rules of the style sheet count them.
        let title = escaped(&self.title);
        let button = |(number, view): (usize, &View)| {
            let checked = if number == 0 { " checked" } else { "" };
            let (id, label) = (format!("f{name}-{number}"), escaped(&view.label));
            format!("<input type=\"radio\" name=\"f{name}\" id=\"{id}\"{checked}><label for=\"{id}\">{label}</label>\n")
        };
        let buttons: String = self.views.iter().enumerate().map(button).collect();
        let views: String = self
            .views
            .iter()
            .enumerate()
            .map(|view| format!("<div class=\"view\">{}</div>\n", picture(view)))
            .collect();
        format!(
            "<figure{span}>\n<div class=\"views\" role=\"radiogroup\" aria-label=\"{title}\">\n{buttons}{views}</div>\n\
             </figure>\n"
        )
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
