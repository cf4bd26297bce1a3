//! `flatness compare`: groups of minima over their seeds.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};

use super::answer;
use super::figure_args::FigureArgs;
use super::output::{Existing, claim, remove_outdated};
use super::provenance::Provenance;
use super::{Cli, CliError, Ui, dispatch};
use crate::analysis::compare::{Comparison, Member};
use crate::checkpoint::TensorFile;
use crate::experiment::identity;
use crate::files::{make_folder, write_atomic};
use crate::plan::{PlanError, RESULT, command_line};
use crate::report::figures::{Drawn, Style, Target, write_groups};
use crate::report::page::{Page, comparison_sections, provenance};
use crate::report::tables::write_comparison;
use crate::report::{is_complete, latex, terminal, write_run_json};
use crate::visible::visible;
use crate::vocabulary::Quantity;
use crate::{Error, Result, path_text};

mod cells;
mod confounders;
mod found;
mod how;
mod members;
mod numbers;
mod recorded;

use found::Found;
pub(in crate::cli) use how::HowArgs;

/// Arguments of `compare`.
#[derive(Debug, Clone, Args)]
pub(super) struct CompareArgs {
    /// Checkpoints, result folders of `train`, `analyze`, `llc` or `run`, or of an earlier `compare`, whose settings are used again
    #[arg(required = true, value_name = "A B")]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    pub(super) how: HowArgs,
    #[command(flatten)]
    figures: FigureArgs,
    /// Folder of the result [default: reports/compare-NAME of the first]
    #[arg(help_heading = RESULT, long, value_name = "DIR")]
    pub(super) out: Option<PathBuf>,
    /// Overwrite an existing result; analyses in it are kept
    #[arg(help_heading = RESULT, long)]
    force: bool,
    /// Options of `flatness analyze` for networks that have no analysis yet, such as `-- --subset 500`
    #[arg(last = true, value_name = "OPTIONS")]
    analyze: Vec<OsString>,
}

/// Options of the analyses that a comparison makes itself: it needs λ₅ and the GGN.
const ANALYSIS: [&str; 4] = ["--operator=both", "--top=5", "--bottom=1", "--plane-points=0"];

pub(super) fn run(args: &CompareArgs, arguments: &[OsString], ui: &mut Ui) -> Result<u8> {
    let style = args.figures.style();
    let first = args.paths.first().and_then(|path| path.file_stem()).map(|name| name.to_string_lossy().into_owned());
    let name = format!("compare-{}", first.unwrap_or_default());
    let folder = args.out.clone().unwrap_or_else(|| Path::new("reports").join(name));
    let claim = claim(&folder, Existing::of(args.force, false))?;
    let mut found = Vec::new();
    for path in &args.paths {
        found.extend(members::find(path)?);
    }
    let how = args.how.over(&found)?;
    let unknown = members::check_hashes(&found)?;
    if unknown > 0 {
        ui.say(&format!("note: results without hashes: {unknown}; changes to their tables cannot be detected"));
    }
    let origin = Provenance::new(arguments);
    for member in &mut found {
        if let Some(code) = analyze(member, &claim.inside("analyses"), &args.analyze, ui)? {
            return Ok(code);
        }
    }
    let comparison = compare(&found, &how)?;
    let output = claim.begin()?;
    let mut written = write_comparison(&comparison, &how.configuration(&comparison.members), output.path())?;
    let (words, drawn) = save(&comparison, output.path(), style)?;
    written.extend(words);
    written.extend(drawn.finish(&output.path().join("figures"))?);
    let report = output.path().join("report.html");
    page(&comparison, output.path(), &origin.command()).write(&report)?;
    written.push(report);
    let mut run = origin.json();
    run["complete"] = json!(true);
    run["members"] = members::provenance(&found);
    write_run_json(output.path(), &run, &written)?;
    print(&comparison, ui);
    answer::result(&folder, &comparison.verdicts.join("\n"), ui)?;
    ui.say(&format!("wrote {}", folder.display()));
    Ok(0)
}

/// Analyses a member that has no analysis, in a folder of its own in `folder`, unless that was done before; returns an exit
/// code if it was interrupted.
fn analyze(member: &mut Found, folder: &Path, options: &[OsString], ui: &mut Ui) -> Result<Option<u8>> {
    let (None, Some(checkpoint)) = (&member.analysis, &member.checkpoint) else { return Ok(None) };
    let sha256 = TensorFile::read(checkpoint)?.sha256;
    let words: Vec<String> = options.iter().map(path_text::to_text).collect();
    let hash = identity(&json!({"checkpoint": sha256, "options": words}));
    let out = folder.join(format!("{}-{hash}", member.name));
    if !is_complete(&out) {
        let mut line: Vec<OsString> = vec!["flatness".into(), "analyze".into(), checkpoint.into()];
        let own = ANALYSIS.into_iter().filter(|own| {
            let name = own.split('=').next().unwrap_or(own);
            !words.iter().any(|option| option.split('=').next() == Some(name))
        });
        line.extend(own.map(OsString::from));
        line.extend(options.iter().cloned());
        // What a killed analysis left is not a result.
        line.extend(["--force".into(), "--out".into(), out.clone().into()]);
        let cli = command_line::<Cli>(&line).map_err(|error| {
            let text = error.render().to_string();
            let reason = text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned();
            PlanError::option("--", words.join(" "), reason)
        })?;
        ui.say(&format!("analysing {}", member.name));
        let code = dispatch(cli.command, &line, ui)?;
        if code != 0 {
            return Ok(Some(code));
        }
    }
    member.analysis = Some(out);
    Ok(None)
}

/// Reads the networks, checks that they are comparable, and compares them.
fn compare(found: &[Found], how: &HowArgs) -> Result<Comparison> {
    let members = found.iter().map(|found| found.member(how.by.as_deref())).collect::<Result<Vec<Member>>>()?;
    let mut notes = members::check(&members, how.allow_mixed)?;
    let mut groups: Vec<&str> = members.iter().map(|member| member.group.as_str()).collect();
    groups.sort_unstable();
    groups.dedup();
    if let [only] = groups[..] {
        let found = format!("all {} networks belong to group {only}", members.len());
        return Err(CliError::OneGroup { found }.into());
    }
    how.check_groups(&groups)?;
    let numbers = members.iter().flat_map(|member| &member.numbers);
    let names: BTreeSet<String> = numbers.map(|number| number.quantity.to_string()).collect();
    let primary = how.primary.iter().flatten().map(Quantity::to_string);
    if let Some(name) = primary.into_iter().find(|name| !names.contains(name)) {
        let reason =
            format!("unknown quantity; the quantities are {}", names.into_iter().collect::<Vec<_>>().join(", "));
        return Err(PlanError::option("--primary", &name, reason).into());
    }
    let settings: Vec<(&str, &Value)> =
        members.iter().map(|member| (member.group.as_str(), &member.training)).collect();
    let baseline = how.baseline.as_deref().or(settings.first().map(|(group, _)| *group)).unwrap_or_default();
    notes.extend(confounders::confounders(&settings, baseline, how.by.as_deref().unwrap_or("optimizer.kind")));
    Ok(Comparison::new(members, &how.options(), notes))
}

/// Writes LaTeX, verdict and figures; returns the paths of the first two, and the figures.
fn save(comparison: &Comparison, folder: &Path, style: Style) -> Result<([PathBuf; 2], Drawn)> {
    let [table, words] = ["comparison.tex", "verdict.txt"].map(|name| folder.join(name));
    write_atomic(&table, |file| file.write_all(latex::comparison_table(comparison).as_bytes()))?;
    let verdict = comparison
        .verdicts
        .iter()
        .chain(&comparison.notes)
        .fold(String::new(), |text, line| text + &visible(line) + "\n");
    write_atomic(&words, |file| file.write_all(verdict.as_bytes()))?;
    let figures = folder.join("figures");
    make_folder(&figures)?;
    let drawn = write_groups(comparison, &statement(comparison).unwrap_or_default(), Target::new(&figures, style))?;
    remove_outdated(folder, &[], &["groups", "differences"], &drawn.files);
    Ok(([table, words], drawn))
}

fn page(comparison: &Comparison, folder: &Path, command: &str) -> Page {
    let conditions = comparison.members.iter().find(|member| !member.conditions.is_null());
    Page {
        title: comparison.groups.join(", "),
        subtitle: match statement(comparison) {
            Some(statement) => format!("{} networks; curvature of {statement}", comparison.members.len()),
            None => format!("{} networks", comparison.members.len()),
        },
        sections: comparison_sections(comparison, &folder.join("figures")),
        provenance: conditions.map(|member| provenance(&member.conditions)).unwrap_or_default(),
        command: command.into(),
        ..Page::default()
    }
}

/// What the curvature was computed for, in one line; `None` without curvature.
pub(super) fn statement(comparison: &Comparison) -> Option<String> {
    let member = comparison.members.iter().find(|member| !member.conditions.is_null())?;
    let text = |key: &str| match &member.conditions[key] {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let loss = member.conditions["loss"]["kind"].as_str().unwrap_or("loss").replace('_', "-");
    Some(format!("{loss}, {} rows, batch norm {}, {}", text("rows"), text("batch_norm"), text("dtype")))
}

fn print(comparison: &Comparison, ui: &mut Ui) {
    ui.print_lines(terminal::group_means(comparison).trim_end());
    ui.print("± is the standard deviation over the seeds");
    let mut pairs: Vec<(&str, &str)> = Vec::new();
    for row in &comparison.differences {
        if !pairs.contains(&(&row.group, &row.baseline)) {
            pairs.push((&row.group, &row.baseline));
        }
    }
    for (group, baseline) in pairs {
        ui.print("");
        ui.print(&format!("{group} − {baseline}"));
        for (words, is_primary) in [("primary", true), ("exploratory", false)] {
            let table = terminal::pair_differences(comparison, group, baseline, is_primary);
            if !table.is_empty() {
                ui.print(words);
                ui.print_lines(table.trim_end());
            }
        }
    }
    ui.print("");
    comparison.verdicts.iter().chain(&comparison.notes).for_each(|words| ui.print(words));
}

/// The comparison of an experiment, and what was written.
pub(super) struct OfExperiment {
    pub(super) comparison: Comparison,
    /// Among the results.
    pub(super) tables: Vec<PathBuf>,
    /// Beside the figures.
    pub(super) words: [PathBuf; 2],
    pub(super) drawn: Drawn,
}

/// Compares the results of an experiment, with the tables among them and words and figures in `folder`; `None` if there are fewer than two groups.
pub(super) fn of_experiment(
    results: &Path,
    how: &HowArgs,
    folder: &Path,
    style: Style,
) -> Result<Option<OfExperiment>> {
    let found = match members::find(results) {
        Ok(found) => found,
        Err(Error::Cli(CliError::NotComparable { .. })) => return Ok(None),
        Err(error) => return Err(error),
    };
    members::check_hashes(&found)?;
    match compare(&found, how) {
        Ok(comparison) => {
            let tables = write_comparison(&comparison, &how.configuration(&comparison.members), results)?;
            let (words, drawn) = save(&comparison, folder, style)?;
            Ok(Some(OfExperiment { comparison, tables, words, drawn }))
        }
        Err(Error::Cli(CliError::OneGroup { .. })) => Ok(None),
        Err(error) => Err(error),
    }
}
