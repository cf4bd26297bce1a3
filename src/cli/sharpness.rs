//! `flatness sharpness`: how much the loss rises around a minimum.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use super::Ui;
use super::analyze::{Provenance, checkpoint_name};
use super::args::{DtypeArg, argument};
use super::figure_args::FigureArgs;
use super::output::{Existing, claim, remove_outdated};
use super::session::SessionArgs;
use crate::objective::Objective;
use crate::report::figures::{Target, write_sharpness as write_figures};
use crate::report::page::sharpness_page;
use crate::report::tables::write_sharpness as write_tables;
use crate::report::{ReportError, terminal, write_run_json};
use crate::sharpness::{SharpnessOptions, SharpnessRow, survey};
use crate::{Result, path_text};

/// Arguments of `sharpness`.
#[derive(Debug, Args)]
pub(super) struct SharpnessArgs {
    #[command(flatten)]
    pub(super) session: SessionArgs,
    #[command(flatten)]
    pub(super) measures: MeasureArgs,
    #[command(flatten)]
    figures: FigureArgs,
    /// Result folder [default: reports/NAME-sharpness]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Overwrite an existing result
    #[arg(long)]
    force: bool,
}

/// What to measure.
#[derive(Debug, Clone, Args)]
pub(super) struct MeasureArgs {
    /// Perturbations of the average without scaling, with commas between [default: 0.001,0.003,0.01,0.03]
    #[arg(long, value_name = "SIGMAS", value_delimiter = ',')]
    sigma: Vec<f64>,
    /// Perturbations of the average relative to the weights [default: 0.01,0.03,0.1]
    #[arg(long, value_name = "SIGMAS", value_delimiter = ',')]
    relative_sigma: Vec<f64>,
    /// Antithetic pairs of draws for each average
    #[arg(long, value_name = "N", default_value_t = SharpnessOptions::default().average.pairs)]
    pairs: usize,
    /// Radii of the Euclidean ball: unscaled, relative to |θ|, relative to filters [default: 0.1,0.5,0.05]
    #[arg(long, value_name = "RHOS", value_delimiter = ',', num_args = 3)]
    rho: Vec<f64>,
    /// The same for the ball of the largest entry [default: 0.001,0.01,0.002]
    #[arg(long, value_name = "RHOS", value_delimiter = ',', num_args = 3)]
    rho_linf: Vec<f64>,
    /// Gradients of each ascent
    #[arg(long, value_name = "N", default_value_t = SharpnessOptions::default().worst.steps)]
    ascent_steps: usize,
    /// Ascents for each worst case
    #[arg(long, value_name = "N", default_value_t = SharpnessOptions::default().worst.restarts)]
    restarts: usize,
    /// Rows that each worst perturbation is for [default: all rows as one]
    #[arg(long, value_name = "M")]
    batch: Option<usize>,
    /// Rise of the loss that the PAC-Bayes perturbation may cause
    #[arg(long, value_name = "RISE", default_value_t = SharpnessOptions::default().pac_bayes.target)]
    #[arg(allow_negative_numbers = true)]
    target: f64,
    /// Seed of all random numbers
    #[arg(long, value_name = "S", default_value_t = 0)]
    seed: u64,
}

impl MeasureArgs {
    /// Checked.
    pub(super) fn options(&self) -> Result<SharpnessOptions> {
        let mut options = SharpnessOptions { seed: self.seed, batch: self.batch, ..SharpnessOptions::default() };
        let positive = |name, values: &[f64]| match values.iter().find(|value| !(**value > 0.0 && value.is_finite())) {
            Some(value) => Err(argument(name, &value.to_string(), "must be above 0")),
            None => Ok(()),
        };
        positive("--sigma", &self.sigma)?;
        positive("--relative-sigma", &self.relative_sigma)?;
        positive("--rho", &self.rho)?;
        positive("--rho-linf", &self.rho_linf)?;
        positive("--target", &[self.target])?;
        let within = |name, value: usize, least: usize| match (least..=10_000).contains(&value) {
            true => Ok(value),
            false => Err(argument(name, &value.to_string(), &format!("must be {least} to 10000"))),
        };
        options.average.pairs = within("--pairs", self.pairs, 2)?;
        options.worst.steps = within("--ascent-steps", self.ascent_steps, 2)?;
        options.worst.restarts = within("--restarts", self.restarts, 1)?;
        if self.batch == Some(0) {
            return Err(argument("--batch", "0", "must be 1 or more"));
        }
        options.pac_bayes.target = self.target;
        let lists =
            [(&self.sigma, &mut options.average.sigmas), (&self.relative_sigma, &mut options.average.relative_sigmas)];
        for (given, place) in lists.into_iter().filter(|(given, _)| !given.is_empty()) {
            *place = given.clone();
        }
        for (given, place) in [(&self.rho, &mut options.worst.l2), (&self.rho_linf, &mut options.worst.linf)] {
            if let [none, element, filter] = given[..] {
                *place = [none, element, filter];
            }
        }
        Ok(options)
    }
}

pub(super) fn run(args: &SharpnessArgs, arguments: &[OsString], ui: &mut Ui) -> Result<u8> {
    let (options, style) = (args.measures.options()?, args.figures.style()?);
    let name = checkpoint_name(&args.session.model.checkpoint);
    let folder = args.out.clone().unwrap_or_else(|| Path::new("reports").join(format!("{name}-sharpness")));
    let provenance = Provenance::new(arguments);
    let claim = claim(&folder, Existing::of(args.force, false))?;
    let session = args.session.open(DtypeArg::F32, ui)?;
    let objective = Objective::new(&session.checkpoint.network, &session.data, session.options.clone())?;
    let theta = &session.checkpoint.theta;
    let report = survey(&objective, theta, &session.data, &options, &mut ui.progress())?;
    let mut configuration = session.configuration(&objective);
    configuration["sharpness"] = json!(options);
    let output = claim.begin()?;
    let mut written = vec![write_tables(&report.rows, &configuration, output.path())?];
    let figures = output.path().join("figures");
    std::fs::create_dir_all(&figures).map_err(|source| ReportError::Write { path: figures.clone(), source })?;
    let target = Target::new(&figures, style);
    let drawn = write_figures(&report.rows, &session.statement(), target)?.finish(&figures)?;
    remove_outdated(output.path(), (&[], &["sharpness_ratio"]), &drawn);
    written.extend(drawn);
    let (words, command) = (session.statement(), provenance.command());
    let page = sharpness_page(&report, (&name, &words), &figures, (&configuration, &command));
    written.push(output.path().join("report.html"));
    page.write(&output.path().join("report.html"))?;
    let mut run = provenance.json();
    run["complete"] = json!(true);
    run["threads"] = json!(session.options.execution.threads);
    run["checkpoint"] = json!(path_text::to_text(&session.checkpoint.path));
    run["configuration"] = configuration;
    write_run_json(output.path(), &run, &written)?;
    let summary: Vec<_> = report.rows.iter().map(SharpnessRow::summary).collect();
    ui.print_lines(&terminal::summary_table(&summary));
    ui.print("± numeric of a worst case is the spread over its ascents; its value is a lower bound");
    ui.print(&session.statement());
    ui.say(&format!("wrote {}", folder.display()));
    Ok(0)
}
