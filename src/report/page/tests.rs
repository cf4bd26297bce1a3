use super::*;
use crate::report::synthetic;
use crate::report::{figures, save_analysis};
use crate::vocabulary::Quantity;

fn page(word: &str) -> Page {
    let svg = "<?xml version=\"1.0\"?>\n<svg xmlns=\"http://www.w3.org/2000/svg\"><clipPath id=\"a\"><path d=\"M0 0\"/></clipPath><g clip-path=\"url(#a)\"/></svg>\n";
    let view = |label: &str| View { label: label.into(), svg: svg.into(), caption: word.into() };
    let figure = |views| Some(Part::Figure(Figure { title: word.into(), views }));
    let row = Row { cells: vec![word.into(), "1".into()], converged: false };
    let table = Table::new(&[(word, false), ("λ", true)], vec![row], word);
    let sections = [
        Section::new(word, [figure(vec![view("linear"), view(word)]), figure(vec![view("alone")]), table.part()]),
        Section::folded(word, [Part::text(vec![word.into()]), Some(Part::Links(vec![(word.into(), word.into())]))]),
    ];
    Page {
        title: word.into(),
        subtitle: word.into(),
        cards: vec![Card { label: word.into(), value: word.into(), error: word.into() }],
        sections: sections.into_iter().flatten().collect(),
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
            let void = ["!DOCTYPE", "meta", "input", "br"].contains(&name.as_str()) || tag.ends_with('/');
            (!void).then_some((closing, name))
        })
        .collect()
}

fn assert_sound(html: &str) {
    let mut open: Vec<String> = Vec::new();
    for (closing, name) in tags(html) {
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
    assert!(count >= 5 && names.len() == count, "{names:?}");
    for part in html.split("url(#").skip(1) {
        assert!(names.contains(&part.split(')').next().unwrap()));
    }
    // One main heading, and one for each section below it.
    assert_eq!(html.matches("<h1>").count(), 1);
    assert_eq!(html.matches("<h2 ").count(), html.matches("<section ").count());
}

/// The page of a synthetic analysis with its figures.
fn analysis() -> String {
    let (folder, report) = (tempfile::tempdir().unwrap(), synthetic::report());
    save_analysis(&report, folder.path(), Default::default()).unwrap();
    analysis_page(&report, &folder.path().join("figures"), "flatness analyze").html()
}

#[test]
fn every_element_is_closed_and_every_identifier_is_its_own() {
    assert_sound(&page("plain").html());
    assert_sound(&analysis());
}

#[test]
fn words_of_users_stay_words() {
    let evil = "<script>alert(\"1\")</script> & 'x'";
    let html = page(evil).html();
    // The page's own script is the only one.
    assert_eq!(html.matches("<script>").count(), 1);
    assert!(html.contains("&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt; &amp; 'x'"));
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
    for html in [page("plain").html(), analysis()] {
        let html = html.replace("http://www.w3.org/2000/svg", "");
        assert!(!html.contains("http") && !html.contains("@import") && !html.contains(" src="));
    }
}

#[test]
fn toggles_tables_and_folds_speak() {
    let html = page("plain").html();
    for part in [
        "<html lang=\"en\">",
        "role=\"radiogroup\" aria-label=\"plain\"",
        "type=\"radio\" name=\"f0-0\" id=\"f0-0-0\" checked",
        "<th scope=\"col\" aria-sort=\"none\" class=\"number\"><button type=\"button\">λ",
        "<tr class=\"open\"><th scope=\"row\">plain *</th><td class=\"number\">1</td>",
        "role=\"img\" aria-label=\"plain. alone. plain\"",
        "<details><summary><h2 id=\"s1\">plain</h2></summary>",
        "<li><a href=\"plain\">plain</a></li>",
        "<caption><span>plain</span></caption>",
    ] {
        assert!(html.contains(part), "{part}");
    }
}

#[test]
fn a_table_leaves_out_what_is_empty() {
    let row = |cells: [&str; 3]| Row::new(cells.map(str::to_owned));
    let columns = [("a", false), ("b", true), ("c", true)];
    let Some(Part::Table(table)) = Table::new(&columns, vec![row(["x", "", "1"]), row(["y", "", ""])], "").part()
    else {
        panic!("no table")
    };
    assert_eq!(table.columns, [("a".to_owned(), false), ("c".to_owned(), true)]);
    assert_eq!(table.rows[1].cells, ["y", ""]);
    assert_eq!(Table::new(&columns, Vec::new(), "").part(), None);
}

#[test]
fn what_has_not_converged_is_on_no_card_and_marked_in_tables() {
    let mut report = synthetic::report();
    let trace = report.summary.iter_mut().find(|row| row.quantity == Quantity::Trace).unwrap();
    trace.converged = false;
    let page = analysis_page(&report, Path::new("absent"), "");
    assert!(page.cards.iter().all(|card| !card.label.starts_with("trace")), "{:?}", page.cards);
    let bound = page.cards.iter().find(|card| card.label == "smallest λ, Hessian").unwrap();
    assert_eq!((bound.value.as_str(), bound.error.as_str()), ("≤ -38.0", "a bound"));
    let section = |title: &str| page.sections.iter().find(|section| section.title == title).unwrap();
    let table = |title: &str| {
        let tables = section(title).parts.iter().find_map(|part| match part {
            Part::Table(table) => Some(table),
            _ => None,
        });
        tables.unwrap()
    };
    assert!(table("All numbers").rows.iter().all(|row| row.converged) && !section("All numbers").folded);
    let open = table("Not resolved");
    assert!(section("Not resolved").folded && open.rows.iter().all(|row| !row.converged));
    assert_eq!(open.rows.iter().map(|row| row.cells[0].as_str()).collect::<Vec<_>>(), ["smallest λ", "trace"]);
    // Every eigenvalue of both ends and operators, with the unconverged marked and said.
    let spectrum = table("Spectrum");
    assert_eq!(spectrum.rows.len(), 30);
    assert_eq!(
        spectrum.columns.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>()[2..4],
        ["index", "eigenvalue"]
    );
    assert_eq!(spectrum.rows.iter().filter(|row| !row.converged).count(), 8);
    assert!(spectrum.rows.iter().all(|row| row.converged == (row.cells.last().unwrap() == "yes")));
}

#[test]
fn figures_say_their_values_where_one_points() {
    let folder = tempfile::tempdir().unwrap();
    figures::write_figures(&synthetic::report(), figures::Target::new(folder.path(), Default::default())).unwrap();
    let svg = std::fs::read_to_string(folder.path().join("spectrum.svg")).unwrap();
    // 15 eigenvalues of each operator, each with its own.
    assert_eq!(svg.matches("<title>").count(), 30);
    for words in ["Hessian, 1: largest λᵢ 2100", "GGN, rank i, from the end of the spectrum 1: smallest λᵢ 0"] {
        assert!(svg.contains(&format!("<title>{words}</title>")), "{words}: {svg}");
    }
    assert!(analysis().matches("<title>").count() > 100);
}

#[test]
fn lines_do_not_break_inside_numbers() {
    let page = Page {
        cards: vec![Card { label: "λ₁".into(), value: "7.17".into(), error: "± 0.34 (rows)".into() }],
        sections: Section::new("Verdict", [Part::text(vec!["flatter in average (σ = 0.03), 95 %".into()])])
            .into_iter()
            .collect(),
        ..Page::default()
    };
    let html = page.html();
    assert!(html.contains("±\u{a0}0.34 (rows)") && html.contains("(σ\u{a0}=\u{a0}0.03), 95\u{a0}%"), "{html}");
}
