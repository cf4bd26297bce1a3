//! Drawings inside a page.

/// The drawing without its prolog, its identifiers with `prefix` before them, so that two drawings on one page do not
/// answer for each other.
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
    // The element around it says what it shows; with a view box it takes the room that there is.
    let size = ["width", "height"].map(|name| attribute(&text, name).and_then(|value| value.parse::<f64>().ok()));
    let [Some(width), Some(height)] = size else { return text };
    // Letters of 7 points are for print.
    let start = format!(
        "<svg aria-hidden=\"true\" focusable=\"false\" viewBox=\"0 0 {width} {height}\" width=\"{}\"",
        (1.6 * width).round()
    );
    let element = text.find('>').unwrap_or(0);
    let rest = text[..element].replace(&format!(" width=\"{}\"", attribute(&text, "width").unwrap_or_default()), "");
    let rest = rest.replace(&format!(" height=\"{}\"", attribute(&text, "height").unwrap_or_default()), "");
    format!("{start}{}{}", rest.trim_start_matches("<svg"), &text[element..])
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
            inlined.starts_with("<svg aria-hidden") && inlined.contains("viewBox=\"0 0 10 20.5\" width=\"16\""),
            "{inlined}"
        );
        assert!(!inlined.contains("height="));
        assert!(inlined.contains("id=\"p-a\"") && inlined.contains("href=\"#p-a\""));
    }
}
