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
    // The element around it says what it shows.
    text.replacen("<svg", "<svg aria-hidden=\"true\" focusable=\"false\"", 1)
}
