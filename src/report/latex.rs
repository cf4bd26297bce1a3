//! A comparison as a LaTeX table with the package `booktabs`.

use crate::analysis::compare::{Comparison, GroupNumbers, QuantityNumbers};
use crate::report::terminal::rounded;
use crate::visible::visible;

/// Quantities as rows, groups as columns, `mean ± standard deviation` over the seeds. A dagger marks significant differences
/// from the baseline after Holm's correction. Quantities that did not converge for every member are listed in a comment.
pub fn comparison_table(comparison: &Comparison) -> String {
    let columns = "r".repeat(comparison.groups.len());
    let heads: Vec<String> = comparison.groups.iter().map(|group| escaped(group)).collect();
    let resolved = comparison.quantities.iter().filter(|row| row.groups.iter().any(GroupNumbers::is_resolved));
    let rows: Vec<String> = resolved.map(|row| line(comparison, row)).collect();
    let seeds =
        comparison.quantities.iter().flat_map(|row| &row.groups).map(|group| group.sample.count).max().unwrap_or(0);
    let baseline = comparison.differences.first().map_or("", |row| &row.baseline);
    // One line each: anything after a line break would not be a comment.
    let comment = |line: &String| format!("%   {}\n", visible(line));
    let notes: Vec<String> = comparison.notes.iter().map(comment).collect();
    let verdicts: Vec<String> = comparison.verdicts.iter().map(comment).collect();
    format!(
        "% \\usepackage{{booktabs}}\n{}{}\\begin{{tabular}}{{l{columns}}}\n\\toprule\n & {} \\\\\n\\midrule\n{}\\bottomrule\n\
         \\end{{tabular}}\n% Caption: mean $\\pm$ standard deviation over {seeds} seeds; $\\dagger$: differs from {} at 95\\,\\% \
         ($t$ test, Holm).\n",
        notes.concat(),
        verdicts.concat(),
        heads.join(" & "),
        rows.concat(),
        escaped(baseline),
    )
}

fn line(comparison: &Comparison, row: &QuantityNumbers) -> String {
    let cell = |(name, group): (&String, &GroupNumbers)| {
        if !group.is_resolved() {
            return "--".to_owned();
        }
        let (value, spread) = rounded(group.sample.mean, group.sample.std_dev);
        let spread = spread.map_or(String::new(), |spread| format!(" \\pm {spread}"));
        let differs = comparison.differences.iter().any(|difference| {
            difference.quantity == row.quantity && difference.group == *name && difference.is_significant()
        });
        let mark = if differs { "^{\\dagger}" } else { "" };
        format!("${value}{spread}{mark}$")
    };
    let cells: Vec<String> = comparison.groups.iter().zip(&row.groups).map(cell).collect();
    format!("{} & {} \\\\\n", math(&escaped(&row.quantity.label())), cells.join(" & "))
}

/// Letters that LaTeX does not know outside of formulas.
fn math(label: &str) -> String {
    let formulas = [
        ("λ₁/λ₅", "$\\lambda_1/\\lambda_5$"),
        ("λ₁", "$\\lambda_1$"),
        ("λ", "$\\lambda$"),
        ("σ", "$\\sigma$"),
        ("ρ", "$\\rho$"),
        ("l∞", "$\\ell_\\infty$"),
    ];
    formulas.iter().fold(label.to_owned(), |label, (letters, formula)| label.replace(letters, formula))
}

fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for letter in visible(text).chars() {
        match letter {
            '\\' => escaped.push_str("\\textbackslash{}"),
            '~' => escaped.push_str("\\textasciitilde{}"),
            '^' => escaped.push_str("\\textasciicircum{}"),
            '#' | '$' | '%' | '&' | '_' | '{' | '}' => escaped.extend(['\\', letter]),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::compare::{CompareOptions, Member, MemberNumber};
    use crate::visible::HOSTILE;
    use crate::vocabulary::Quantity;

    #[test]
    fn a_table_of_two_groups() {
        let member = |group: &str, seed: u64, value: f64| Member {
            group: group.into(),
            seed,
            numbers: [(Quantity::LambdaMax, true), (Quantity::NuclearNorm, seed > 0)]
                .map(|(quantity, converged)| MemberNumber {
                    quantity,
                    value,
                    std_err_numeric: 0.0,
                    std_err_data: f64::NAN,
                    converged,
                })
                .into(),
            ..Member::default()
        };
        let members = (0..3).flat_map(|seed| {
            let value = 10.0 + seed as f64;
            [member("sam_1", seed, value), member("fsgld", seed, value - 5.0 - 0.01 * seed as f64)]
        });
        let options = CompareOptions::default();
        let table = comparison_table(&Comparison::new(members.collect(), &options, vec!["a note".into()]));
        assert!(table.contains("\\begin{tabular}{lrr}") && table.contains(" & sam\\_1 & fsgld \\\\"), "{table}");
        assert!(table.contains("$\\lambda_1$ & $11.0 \\pm 1.0$ & $5.99 \\pm 0.99^{\\dagger}$ \\\\"), "{table}");
        assert!(
            table.contains("%   not resolved, so not compared: nuclear norm (2 of 6 networks)\n")
                && table.matches(" \\pm ").count() == 2,
            "{table}"
        );
        assert!(table.contains("%   a note") && table.contains("\\bottomrule"));
    }

    #[test]
    fn a_hostile_name_gives_no_line_and_no_command() {
        let member = |group: &str| Member { group: group.into(), ..Member::default() };
        let options = CompareOptions::default();
        let mut comparison = Comparison::new(vec![member(HOSTILE), member("plain")], &options, vec![HOSTILE.into()]);
        comparison.verdicts.push(HOSTILE.into());
        let table = comparison_table(&comparison);
        assert_eq!(table.matches("evil").count(), 4, "{table}");
        // Live lines hold no command of the name; comments end where they should.
        let live = table.lines().filter(|line| !line.starts_with('%'));
        assert!(live.clone().all(|line| !line.contains("\\input")) && live.count() < 9, "{table}");
        assert!(table.chars().all(|letter| letter == '\n' || !letter.is_control()), "{table}");
    }

    #[test]
    fn letters_outside_of_latex_become_formulas() {
        assert_eq!(math("worst l∞ relative (ρ = 0.5)"), "worst $\\ell_\\infty$ relative ($\\rho$ = 0.5)");
        assert!(math("λ₁/λ₅ smallest λ PAC-Bayes σ").is_ascii());
    }

    #[test]
    fn letters_with_a_meaning_are_escaped() {
        assert_eq!(
            escaped("a_b & 5 % \\x^~"),
            "a\\_b \\& 5 \\% \\textbackslash{}x\\textasciicircum{}\\textasciitilde{}"
        );
    }
}
