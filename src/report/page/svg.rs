//! SVG files inside a page.

/// The SVG element without its prolog. Its identifiers get a prefix, so that those of two figures on one page do not
/// collide.
pub(super) fn inlined(svg: &str, prefix: &str) -> String {
    let start = svg.find("<svg").unwrap_or(0);
    let mut text = svg[start..].trim_end().to_owned();
    for (before, after) in [
        (" id=\"", format!(" id=\"{prefix}")),
        ("url(#", format!("url(#{prefix}")),
        ("href=\"#", format!("href=\"#{prefix}")),
    ] {
        text = text.replace(before, &after);
    }
    // The element around it has the description. With a view box it scales to the available width.
    let (Some(width), Some(height)) = (size(&text, "width"), size(&text, "height")) else { return text };
    let most = (LARGEST * width).round();
    let start = format!(
        "<svg aria-hidden=\"true\" focusable=\"false\" viewBox=\"0 0 {width} {height}\" style=\"max-width: {most}px\""
    );
    let element = text.find('>').unwrap_or(0);
    let mut rest = text[..element].to_owned();
    for name in ["width", "height"] {
        rest = rest.replace(&format!(" {name}=\"{}\"", attribute(&text, name).unwrap_or_default()), "");
    }
    format!("{start}{}{}", rest.trim_start_matches("<svg"), &text[element..])
}

/// The largest magnification: letters of 7 points are then as large as headings.
const LARGEST: f64 = 2.0;
/// In pixels of the SVG: between the widths of one and two columns of a paper.
const WIDE: f64 = 450.0;

/// Whether the figure spans both columns of a paper.
pub(super) fn is_wide(svg: &str) -> bool {
    size(&svg[svg.find("<svg").unwrap_or(0)..], "width").is_some_and(|width| width > WIDE)
}

fn size(svg: &str, name: &str) -> Option<f64> {
    attribute(svg, name)?.parse().ok()
}

/// The value of an attribute of the first element.
fn attribute<'a>(svg: &'a str, name: &str) -> Option<&'a str> {
    let (element, _) = svg.split_once('>')?;
    let (_, rest) = element.split_once(&format!(" {name}=\""))?;
    rest.split('"').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drawing_gets_a_view_box_and_names_of_its_own() {
        let svg = "<?xml?>\n<svg width=\"10\" height=\"20.5\"><g id=\"a\"/><use href=\"#a\"/></svg>";
        let inlined = inlined(svg, "p-");
        assert!(
            inlined.starts_with("<svg aria-hidden")
                && inlined.contains("viewBox=\"0 0 10 20.5\" style=\"max-width: 20px\""),
            "{inlined}"
        );
        assert!(!inlined.contains("height="));
        assert!(inlined.contains("id=\"p-a\"") && inlined.contains("href=\"#p-a\""));
        assert!(!is_wide(svg) && is_wide("<?xml?><svg width=\"662.39996\" height=\"1\"/>"));
    }
}
