//! Numbers for people: aligned text of at most 80 columns.
//!
//! Errors are rounded to two significant digits. A value ends at the place of the second digit of its smaller error.

use crate::spectral::EigenReport;
use crate::visible::visible;
use crate::vocabulary::{End, Quantity, Scope, SummaryRow};

mod compare;
mod llc;

pub(in crate::report) use compare::{effect, p_value};
pub use compare::{group_means, pair_differences};
pub use llc::llc_settings;

/// Maximum width of a line.
const WIDTH: usize = 80;

/// The summary as a table: quantity, value, numeric error, error from the choice of data rows; the numbers of a matrix stand
/// below its name. Columns that would be empty in every row are left out. A star marks numbers that did not converge, except
/// for outermost eigenvalues, which are then bounds.
pub fn summary_table(rows: &[SummaryRow]) -> String {
    let mut lines = vec![["quantity", "value", "± numeric", "± data"].map(str::to_owned).to_vec()];
    let open = |row: &SummaryRow| !row.converged && !row.is_bound();
    let mut above = String::new();
    for row in rows {
        let of = matrix(row);
        if of != above && !of.is_empty() {
            lines.push(vec![of.clone(), String::new(), String::new(), String::new()]);
        }
        let indent = if of.is_empty() { "" } else { INDENT };
        let star = if open(row) { "*" } else { " " };
        let [value, numeric, data] = headline(row);
        lines.push(vec![format!("{indent}{}", row.quantity), value + star, numeric, data]);
        above = of;
    }
    let (lines, words) = without_empty(lines, 1);
    let mut text = aligned(&lines, words);
    if rows.iter().any(open) {
        text.push_str(NOT_CONVERGED);
    }
    text
}

/// The matrix that a number is of, and on which parameters; empty for numbers of no matrix.
fn matrix(row: &SummaryRow) -> String {
    match &row.scope {
        Scope::All => row.operator_name().to_owned(),
        scope if row.operator.is_some() => format!("{}, {scope}", row.operator_name()),
        _ => String::new(),
    }
}

const INDENT: &str = "  ";

/// The eigenvalues that were asked for, with their errors: the largest ones descending, then the smallest ones ascending.
/// A star marks those that did not converge.
pub fn eigenvalue_table(ends: [&EigenReport; 2]) -> String {
    let mut lines = vec![["eigenvalue", "value", "± numeric", "± data"].map(str::to_owned).to_vec()];
    for (end, name) in ends.into_iter().zip(["largest", "smallest"]) {
        for (index, value) in end.ritz_values.iter().enumerate() {
            let of = |errors: &[f64]| errors.get(index).copied().unwrap_or(f64::NAN);
            let [value, numeric, data] = measured(*value, [of(&end.residual_norms), of(&end.std_err_data)]);
            let star = if end.converged.get(index) == Some(&false) { "*" } else { " " };
            lines.push(vec![format!("{INDENT}{name} {}", index + 1), value + star, numeric, data]);
        }
    }
    let (lines, words) = without_empty(lines, 1);
    let mut text = aligned(&lines, words);
    if ends.iter().any(|end| end.converged.contains(&false)) {
        text.push_str(NOT_CONVERGED);
    }
    text
}

/// The value of a row with its two errors; `≥ 1930`, without errors, where it is only a bound.
pub(super) fn headline(row: &SummaryRow) -> [String; 3] {
    let [mut value, numeric, data] = measured(row.value, [row.std_err_numeric, row.std_err_data]);
    if row.quantity == Quantity::Loss {
        // Compared with other programs' value on the same rows: the choice of rows says nothing about its digits.
        value = measured(row.value, [row.std_err_numeric, f64::NAN])[0].clone();
    }
    if !row.is_bound() {
        return [value, numeric, data];
    }
    let sign = if row.quantity.end() == Some(End::Top) { '≥' } else { '≤' };
    [format!("{sign} {value}"), "not converged".into(), String::new()]
}

/// `value` and its `spread`, both to the place of the spread's second digit; only the value if the spread is not known.
pub fn rounded(value: f64, spread: f64) -> (String, Option<String>) {
    let [value, spread, _] = measured(value, [spread, f64::NAN]);
    let known = Some(spread.trim_start_matches("± ").to_owned()).filter(|spread| !spread.is_empty());
    (value.trim().to_owned(), known)
}

/// Names, values and half widths of their 95 % intervals, which are left out if they are 0 or unknown.
pub fn interval_table(rows: &[(&Quantity, f64, f64)]) -> String {
    let line = |(quantity, value, half_width): &(&Quantity, f64, f64)| {
        let known = if *half_width > 0.0 { *half_width } else { f64::NAN };
        let [value, half_width, _] = measured(*value, [known, f64::NAN]);
        vec![quantity.to_string(), value, half_width]
    };
    let header = ["quantity", "value", "± 95 %"].map(str::to_owned).to_vec();
    aligned(&std::iter::once(header).chain(rows.iter().map(line)).collect::<Vec<_>>(), 1)
}

/// The summaries of several runs side by side: a line per quantity, a column per run, `value ± error`. The error combines
/// both sources, `sqrt(numeric² + data²)`; numbers that have not converged are not given. Runs that do not fit into 80
/// columns go to a further table below.
pub fn comparison_table(runs: &[(String, Vec<SummaryRow>)]) -> String {
    let cells = |rows: &[SummaryRow]| rows.iter().map(|row| (label(row), cell(row))).collect();
    side_by_side(&runs.iter().map(|(name, rows)| (name.clone(), cells(rows))).collect::<Vec<_>>())
}

/// Runs with their cells by label: a line per label, a column per run.
fn side_by_side(runs: &[(String, Vec<(String, String)>)]) -> String {
    let mut names: Vec<&str> = Vec::new();
    for (name, _) in runs.iter().flat_map(|(_, cells)| cells) {
        if !names.contains(&name.as_str()) {
            names.push(name);
        }
    }
    let labels: Vec<String> =
        std::iter::once(String::new()).chain(names.iter().map(|name| shorten(name, 36))).collect();
    let columns: Vec<Vec<String>> = runs
        .iter()
        .map(|(run, cells)| {
            let found = |name: &&str| cells.iter().find(|(own, _)| own == name);
            let cells = names.iter().map(|name| found(name).map_or(String::new(), |(_, cell)| cell.clone()));
            std::iter::once(shorten(run, 24)).chain(cells).collect()
        })
        .collect();
    let widest = |column: &[String]| column.iter().map(|cell| cell.chars().count()).max().unwrap_or(0);
    let mut blocks: Vec<Vec<&Vec<String>>> = Vec::new();
    let mut used = WIDTH;
    for column in &columns {
        if used + GAP + widest(column) > WIDTH {
            blocks.push(Vec::new());
            used = widest(&labels);
        }
        used += GAP + widest(column);
        if let Some(block) = blocks.last_mut() {
            block.push(column);
        }
    }
    let table = |block: &Vec<&Vec<String>>| {
        let line =
            |i: usize| std::iter::once(labels[i].clone()).chain(block.iter().map(move |column| column[i].clone()));
        aligned(&(0..labels.len()).map(|i| line(i).collect()).collect::<Vec<_>>(), 1)
    };
    blocks.iter().map(table).collect::<Vec<_>>().join("\n")
}

const GAP: usize = 2;
const NOT_CONVERGED: &str = "* not converged\n";
pub(in crate::report) const NOT_RESOLVED: &str = "not resolved";

fn label(row: &SummaryRow) -> String {
    let scope = if row.scope == Scope::All { String::new() } else { row.scope.to_string() };
    let words = [row.operator_name().to_owned(), row.quantity.to_string(), scope];
    words.into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

/// `value ± error`, where the error combines both sources; words if it has not converged.
pub(super) fn cell(row: &SummaryRow) -> String {
    if row.is_bound() {
        return headline(row)[0].clone();
    }
    if !row.converged {
        return NOT_RESOLVED.into();
    }
    let known = [row.std_err_numeric, row.std_err_data].into_iter().filter(|error| error.is_finite());
    let total = known.map(|error| error * error).reduce(|a, b| a + b).map_or(f64::NAN, f64::sqrt);
    with_error(row.value, total)
}

/// `value ± error`; only the value if its error is not known.
fn with_error(value: f64, error: f64) -> String {
    match measured(value, [error, f64::NAN]) {
        [value, error, _] if error.is_empty() => value,
        [value, error, _] => format!("{value} {error}"),
    }
}

/// A value with its two errors as text; an unknown error is empty.
pub(super) fn measured(value: f64, errors: [f64; 2]) -> [String; 3] {
    let place = |error: f64| {
        // Two significant digits of the error; rounding first, since 0.0996 is 0.10.
        let rounded = format!("{error:.1e}").parse().ok().filter(|rounded: &f64| rounded.is_finite());
        rounded.unwrap_or(error).log10().floor() as i32 - 1
    };
    let known = errors.into_iter().filter(|error| *error > 0.0 || *error == 0.0 && value != 0.0);
    let known = known.filter(|error| error.is_finite());
    // The smaller error determines the digits. Below the seventh digit, the last of an f32, it says nothing about them, and
    // an error of 0 says nothing about rounding.
    let least = |error: f64| if error == 0.0 { 1e-4 * value.abs() } else { 1e-6 * value.abs() };
    let known = known.map(|error| place(error.max(least(error)))).reduce(i32::min);
    let text = match known {
        Some(place) => at_place(value, place),
        None => at_place(value, if value == 0.0 { 0 } else { value.abs().log10().floor() as i32 - 5 }),
    };
    let error = |error: f64| match error {
        error if error.is_nan() => String::new(),
        error if error == 0.0 || error.is_infinite() => format!("± {error}"),
        error => format!("± {}", at_place(error, place(error))),
    };
    [text, error(errors[0]), error(errors[1])]
}

/// `value` rounded to a multiple of `10^place`, in plain or scientific notation, whichever is readable.
fn at_place(value: f64, place: i32) -> String {
    if value.is_nan() {
        return "-".into();
    }
    if value.is_infinite() {
        return value.to_string();
    }
    let size = if value == 0.0 { place } else { value.abs().log10().floor() as i32 };
    if value != 0.0 && !(-4..7).contains(&size) || place > 3 {
        return format!("{value:.*e}", (size - place).clamp(0, 8) as usize);
    }
    if place <= 0 {
        return format!("{value:.*}", place.unsigned_abs().min(12) as usize);
    }
    let unit = 10f64.powi(place);
    format!("{:.0}", (value / unit).round() * unit)
}

fn shorten(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width - 1).chain(std::iter::once('…')).collect()
}

/// Leaves out columns that are empty below their header; also counts how many of the first `words` columns stay.
fn without_empty(mut lines: Vec<Vec<String>>, words: usize) -> (Vec<Vec<String>>, usize) {
    let used = |column: usize| lines.len() < 2 || lines[1..].iter().any(|line| !line[column].is_empty());
    let keep: Vec<bool> = (0..lines[0].len()).map(used).collect();
    for line in &mut lines {
        let mut column = keep.iter();
        line.retain(|_| column.next() == Some(&true));
    }
    let words = keep.iter().take(words).filter(|keep| **keep).count();
    (lines, words)
}

/// Joins cells to lines; the first `words` columns are aligned left, numbers right. Words are shortened if a line is too long.
fn aligned(lines: &[Vec<String>], words: usize) -> String {
    let seen = |line: &Vec<String>| line.iter().map(|cell| visible(cell).into_owned()).collect();
    let lines: Vec<Vec<String>> = lines.iter().map(seen).collect();
    let count = |cell: &String| cell.chars().count();
    let columns = lines.first().map_or(0, Vec::len);
    let mut widths: Vec<usize> =
        (0..columns).map(|i| lines.iter().map(|line| count(&line[i])).max().unwrap_or(0)).collect();
    let words = words.min(columns);
    let total: usize = widths.iter().sum::<usize>() + GAP * columns.saturating_sub(1);
    if let Some(widest) = (0..words).max_by_key(|i| widths[*i]) {
        widths[widest] = widths[widest].saturating_sub(total.saturating_sub(WIDTH)).max(8);
    }
    let mut text = String::new();
    for line in &lines {
        let cells = line.iter().zip(&widths).enumerate().map(|(i, (cell, width))| {
            let cell = shorten(cell, *width);
            if i < words { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
        });
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::synthetic;

    #[test]
    fn errors_have_two_digits_and_values_end_where_the_smaller_one_does() {
        assert_eq!(measured(2103.4271, [0.012, 41.3]), ["2103.427", "± 0.012", "± 41"]);
        assert_eq!(measured(0.012345678, [f64::NAN, 0.000413]), ["0.01235", "", "± 0.00041"]);
        assert_eq!(measured(0.5, [0.0996, f64::NAN]), ["0.50", "± 0.10", ""]);
        assert_eq!(measured(14_210.0, [1870.0, f64::NAN]), ["14200", "± 1900", ""]);
        assert_eq!(measured(2064.123456, [2e-11, f64::NAN])[1], "± 2.0e-11");
        assert_eq!(measured(-3.21e-9, [4.4e-11, f64::NAN]), ["-3.210e-9", "± 4.4e-11", ""]);
        assert_eq!(measured(0.0521, [f64::NAN, f64::NAN])[0], "0.0521000");
        assert_eq!(measured(f64::NAN, [f64::INFINITY, 0.0]), ["-", "± inf", "± 0"]);
    }

    #[test]
    fn the_summary_fits_and_marks_what_did_not_converge() {
        let mut rows = synthetic::summary(1.0);
        let text = summary_table(&rows);
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
        // The smallest eigenvalue found lies above the smallest.
        let line = text.lines().find(|line| line.trim_start().starts_with("lambda_min")).unwrap();
        assert!(line.contains("≤ -38.0 ") && line.contains("not converged") && !line.contains('±'), "{text}");
        assert!(!text.contains('*'), "{text}");
        rows[5].converged = false;
        assert!(summary_table(&rows).ends_with("* not converged\n"), "{}", summary_table(&rows));
        rows[3].scope = Scope::Params("a.very.long.glob.that.never.ends.*.weight.and.some.more".into());
        assert!(summary_table(&rows).lines().all(|line| line.chars().count() <= WIDTH), "{}", summary_table(&rows));
        assert_eq!(summary_table(&[]).lines().count(), 1);
    }

    #[test]
    fn a_hostile_name_stays_in_its_line() {
        let named = || vec![SummaryRow::exact(crate::visible::HOSTILE, 1.0), SummaryRow::exact("plain", 2.0)];
        assert_eq!(summary_table(&named()).lines().count(), 3);
        assert_eq!(comparison_table(&[(crate::visible::HOSTILE.into(), named())]).lines().count(), 3);
        assert_eq!(interval_table(&[(&crate::visible::HOSTILE.into(), 1.0, 0.1)]).lines().count(), 2);
    }

    #[test]
    fn many_runs_break_into_blocks() {
        let runs: Vec<_> = (0..7).map(|i| (format!("run {i}"), synthetic::summary(1.0 + f64::from(i)))).collect();
        let text = comparison_table(&runs);
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
        assert!((0..7).all(|i| text.contains(&format!("run {i}"))), "{text}");
        assert!(text.contains("2100 ± 41"), "{text}");
        assert_eq!(comparison_table(&[]), "");
    }

    #[test]
    fn awkward_numbers_are_written_somehow() {
        for number in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.0, 5e-324, f64::MAX, -1e-300] {
            for error in [f64::NAN, f64::INFINITY, 0.0, 5e-324, f64::MAX, 1.0] {
                let cells = measured(number, [error, error]);
                assert!(cells.iter().all(|cell| cell.chars().count() < 30), "{number} {error} {cells:?}");
            }
        }
    }
}
