use super::*;

fn page(word: &str) -> Page {
    let svg = "<?xml version=\"1.0\"?>\n<svg xmlns=\"http://www.w3.org/2000/svg\"><clipPath id=\"a\"><path d=\"M0 0\"/></clipPath><g clip-path=\"url(#a)\"/></svg>\n";
    let view = |label: &str| FigureView { name: label.into(), label: label.into(), svg: svg.into(), alt: word.into() };
    Page {
        title: word.into(),
        subtitle: word.into(),
        headlines: vec![Headline { label: word.into(), value: word.into(), error: word.into(), converged: false }],
        sections: vec![
            Section::Figure { title: word.into(), views: vec![view("linear"), view(word)], caption: word.into() },
            Section::Figure { title: "one".into(), views: vec![view("alone")], caption: String::new() },
            Section::Table {
                title: word.into(),
                columns: vec![(word.into(), false), ("λ".into(), true)],
                rows: vec![vec![word.into(), "1".into()]],
                caption: word.into(),
            },
            Section::Text { title: word.into(), paragraphs: vec![word.into()] },
        ],
        provenance: vec![(word.into(), word.into())],
        command: word.into(),
    }
}

/// Names of the elements that are opened and closed, in order; void ones are left out.
fn tags(html: &str) -> Vec<(bool, String)> {
    let body = html.replace(include_str!("style.css"), "").replace(include_str!("script.js"), "");
    body.split('<')
        .skip(1)
        .filter_map(|part| {
            let (tag, _) = part.split_once('>')?;
            let closing = tag.starts_with('/');
            let name = tag.trim_start_matches('/').split([' ', '\n']).next()?.to_owned();
            let void = ["!doctype", "meta", "input", "br"].contains(&name.as_str()) || tag.ends_with('/');
            (!void).then_some((closing, name))
        })
        .collect()
}

#[test]
fn every_element_is_closed_and_every_identifier_is_its_own() {
    let html = page("plain").html();
    let mut open: Vec<String> = Vec::new();
    for (closing, name) in tags(&html) {
        if closing {
            assert_eq!(open.pop().as_ref(), Some(&name));
        } else {
            open.push(name);
        }
    }
    assert!(open.is_empty(), "{open:?}");
    let mut names: Vec<&str> = html.split(" id=\"").skip(1).filter_map(|part| part.split('"').next()).collect();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert!(count >= 10 && names.len() == count);
    for part in html.split("url(#").skip(1) {
        assert!(names.contains(&part.split(')').next().unwrap()));
    }
}

#[test]
fn words_of_users_stay_words() {
    let evil = "<script>alert(\"1\")</script> & 'x'";
    let html = page(evil).html();
    // The page's own script is the only one.
    assert_eq!(html.matches("<script>").count(), 1);
    assert!(html.contains("&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt; &amp; &#39;x&#39;"));
}

#[test]
fn what_a_reader_would_obey_is_written_out() {
    let plain = page("plain").html();
    let html = page(crate::visible::HOSTILE).html();
    assert!(html.chars().all(|letter| letter == '\n' || crate::visible::visible(&letter.to_string()).len() < 6));
    assert_eq!((html.matches("<script>").count(), html.lines().count()), (1, plain.lines().count()));
}

#[test]
fn nothing_is_fetched() {
    let html = page("plain").html().replace("http://www.w3.org/2000/svg", "");
    assert!(!html.contains("http") && !html.contains("@import") && !html.contains(" src="));
}

#[test]
fn toggles_tables_and_headings_speak() {
    let html = page("plain").html();
    for part in [
        "<html lang=\"en\">",
        "type=\"radio\" name=\"f0\" id=\"f0-0\" checked",
        "aria-sort=\"none\" class=\"number\"><button type=\"button\">λ",
        "role=\"img\" aria-label=\"plain\"",
        "not converged",
        "<caption>plain</caption>",
    ] {
        assert!(html.contains(part), "{part}");
    }
    // One main heading, and sections below it.
    assert_eq!(html.matches("<h1>").count(), 1);
    assert_eq!(html.matches("<h2 ").count(), html.matches("<section ").count());
}

#[test]
fn a_figure_has_the_captions_beside_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut captions = Captions::of_one("line", "Loss along a line.");
    captions.extend(Captions::of_one("plane", "Loss over a plane."));
    captions.write(folder.path()).unwrap();
    std::fs::write(folder.path().join("line.svg"), "<svg width=\"1\" height=\"1\"></svg>").unwrap();
    let views = [("line", "line", "a line"), ("plane", "plane", "a plane")];
    // The plane was not drawn.
    let Some(Section::Figure { views, caption, .. }) = Section::figure("Loss", folder.path(), &views, "More.") else {
        panic!("no figure")
    };
    assert_eq!((views.len(), caption.as_str()), (1, "Loss along a line. More."));
}
