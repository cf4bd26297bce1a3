//! `flatness langevin`: SGLD and fSGLD where their laws are known.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::Ui;
use super::analyze::Provenance;
use super::args::argument;
use super::figure_args::FigureArgs;
use super::output::{Existing, claim, remove_outdated};
use crate::Result;
use crate::langevin::{Coupling, Dynamics, LangevinReport, Potential, StudyKind, StudyOptions, StudyPlan};
use crate::objective::Execution;
use crate::report::figures::{Target, write_langevin as write_figures};
use crate::report::page::langevin_page;
use crate::report::tables::write_langevin as write_tables;
use crate::report::{ReportError, terminal, write_run_json};

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum PotentialArg {
    /// A sharp and a flat well of equal depth
    DoubleWell,
    /// A parabola of curvature 1
    Gaussian,
    /// A round valley in two dimensions, steeper on one side
    Ring,
}

impl PotentialArg {
    fn potential(self) -> Potential {
        match self {
            Self::DoubleWell => Potential::double_well(),
            Self::Gaussian => Potential::Gaussian { curvatures: vec![1.0] },
            Self::Ring => Potential::ring(),
        }
    }

    /// `β`, `σ` and the time in which the sides exchange their mass.
    fn defaults(self) -> (f64, f64, f64) {
        match self {
            Self::DoubleWell => (2.0, 0.38, 1_000.0),
            Self::Gaussian => (1.0, 0.3, 20.0),
            Self::Ring => (8.0, 0.2, 80.0),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum StudyArg {
    /// Error against the step size
    Rate,
    /// Laws against β, with and without the coupling
    Coupling,
    /// Mass that moves to the flat side
    Mass,
    /// All three
    All,
}

/// Arguments of `langevin`.
#[derive(Debug, Clone, Args)]
pub(super) struct LangevinArgs {
    /// On what the chains move
    #[arg(long, value_enum, default_value_t = PotentialArg::DoubleWell)]
    potential: PotentialArg,
    /// Which question
    #[arg(long, value_enum, default_value_t = StudyArg::All)]
    study: StudyArg,
    /// Independent chains
    #[arg(long, value_name = "N", default_value_t = StudyOptions::default().chains)]
    chains: usize,
    /// Snapshots of the chains in the study of the step size
    #[arg(long, value_name = "N", default_value_t = StudyOptions::default().snapshots)]
    snapshots: usize,
    /// Inverse temperature of the study of mass [default: 2 double-well, 1 gaussian, 8 ring]
    #[arg(long, value_name = "BETA", allow_negative_numbers = true)]
    beta: Option<f64>,
    /// Perturbation of fSGLD [default: 0.38 double-well, 0.3 gaussian, 0.2 ring]
    #[arg(long, value_name = "SIGMA", conflicts_with = "eta", allow_negative_numbers = true)]
    sigma: Option<f64>,
    /// Sets it to β^(−(1+η)/4) instead
    #[arg(long, value_name = "ETA", allow_hyphen_values = true)]
    eta: Option<f64>,
    /// Step size of the study of mass [default: 1/16 of the inverse of the steepest curvature]
    #[arg(long, value_name = "LAMBDA", allow_negative_numbers = true)]
    step_size: Option<f64>,
    /// Time of the study of mass, in units of step size times steps [default: 1000 double-well, 20 gaussian, 80 ring]
    #[arg(long, value_name = "T", allow_negative_numbers = true)]
    time: Option<f64>,
    /// Seed of all random numbers
    #[arg(long, value_name = "S", default_value_t = 0)]
    seed: u64,
    /// Worker threads [default: one per core]; results do not depend on it
    #[arg(long, value_name = "N")]
    pub(super) threads: Option<usize>,
    #[command(flatten)]
    figures: FigureArgs,
    /// Folder of the result [default: reports/langevin-POTENTIAL]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Overwrite an existing result
    #[arg(long)]
    force: bool,
}

impl LangevinArgs {
    fn plan(&self) -> Result<StudyPlan> {
        let potential = self.potential.potential();
        let (beta, sigma, time) = self.potential.defaults();
        let beta = self.beta.unwrap_or(beta);
        let sigma = self.eta.map(|eta| Coupling::Coupled { eta }.sigma(beta)).or(self.sigma).unwrap_or(sigma);
        let step_size = self.step_size.unwrap_or(0.0625 / potential.steepest());
        let time = self.time.unwrap_or(time);
        if !(time > 0.0 && time / step_size < 1e9) {
            return Err(argument("--time", &time.to_string(), "must be above 0 and below 1e9 steps"));
        }
        let threads = match self.threads {
            Some(threads) if threads == 0 || threads > super::MOST_THREADS => {
                return Err(argument("--threads", &threads.to_string(), "must be 1 to 1024"));
            }
            Some(threads) => threads,
            None => Execution::default().threads,
        };
        let options = StudyOptions { chains: self.chains, snapshots: self.snapshots, seed: self.seed, threads };
        let dynamics = Dynamics { step_size, beta, sigma };
        dynamics.check(&potential)?;
        options.check()?;
        let kinds = match self.study {
            StudyArg::All if self.potential == PotentialArg::Gaussian => vec![StudyKind::Rate],
            StudyArg::Coupling | StudyArg::Mass if self.potential == PotentialArg::Gaussian => {
                return Err(argument("--study", "coupling or mass", "a Gaussian has no flat side: study its rate"));
            }
            StudyArg::Rate => vec![StudyKind::Rate],
            StudyArg::Coupling => vec![StudyKind::Coupling],
            StudyArg::Mass => vec![StudyKind::Mass],
            StudyArg::All => StudyKind::ALL.to_vec(),
        };
        Ok(StudyPlan { potential, kinds, dynamics, time, options })
    }

    /// Everything that decides the numbers.
    pub(super) fn configuration(&self) -> Result<Value> {
        let StudyPlan { potential, kinds, dynamics, time, options } = self.plan()?;
        let Dynamics { step_size, beta, sigma } = dynamics;
        Ok(json!({
            "potential": potential, "studies": kinds, "options": options,
            "step_size": step_size, "beta": beta, "sigma": sigma, "time": time,
        }))
    }
}

pub(super) fn run(args: &LangevinArgs, arguments: &[OsString], ui: &mut Ui) -> Result<u8> {
    let (plan, configuration, style) = (args.plan()?, args.configuration()?, args.figures.style()?);
    let name = args.potential.to_possible_value().map_or(String::new(), |value| value.get_name().to_owned());
    let folder = args.out.clone().unwrap_or_else(|| Path::new("reports").join(format!("langevin-{name}")));
    let provenance = Provenance::new(arguments);
    let claim = claim(&folder, Existing::of(args.force, false))?;
    let report = LangevinReport::new(plan, &mut ui.progress())?;
    let output = claim.begin()?;
    let mut written = write_tables(&report, &configuration, output.path())?;
    let figures = output.path().join("figures");
    std::fs::create_dir_all(&figures).map_err(|source| ReportError::Write { path: figures.clone(), source })?;
    let drawn = write_figures(&report, Target::new(&figures, style))?.finish(&figures)?;
    remove_outdated(output.path(), (&[], &["rate", "coupling", "mass", "laws"]), &drawn);
    written.extend(drawn);
    written.push(output.path().join("report.html"));
    langevin_page(&report, &name, &figures, &provenance.command()).write(&output.path().join("report.html"))?;
    let mut run = provenance.json();
    run["complete"] = json!(true);
    run["threads"] = json!(report.options.threads);
    run["configuration"] = configuration;
    write_run_json(output.path(), &run, &written)?;
    let rows: Vec<(&str, f64, f64)> =
        report.summary.iter().map(|row| (row.quantity.as_str(), row.value, row.half_width)).collect();
    ui.print_lines(terminal::interval_table(&rows).trim_end());
    ui.say(&format!("wrote {}", folder.display()));
    Ok(0)
}
