//! `flatness landscape`: loss and accuracy along lines and over planes, as tables and figures.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Instant;

use candle_core::{Device, Tensor};
use serde_json::{Value, json};

use super::Ui;
use super::answer;
use super::landscape_args::LandscapeArgs;
use super::output::{Existing, POINTS, claim, remove_outdated};
use super::provenance::Provenance;
use super::session::{Session, share_rows};
use super::state::Saving;
use crate::analysis::{FrameTask, Framed, fingerprint, same_data, same_network};
use crate::checkpoint::{Checkpoint, read_state, write_state};
use crate::digest::sha256_hex;
use crate::landscape::{Grid, LandscapeReport, Mark, PointStore, Statistics, Surface, Watch, survey};
use crate::objective::{Evaluation, Objective};
use crate::plan::{Precision, Shape};
use crate::report::page::landscape_page;
use crate::report::{save_landscape, terminal, write_run_json};
use crate::team::team;
use crate::{Error, Result, path_text};

pub(super) fn run(args: &LandscapeArgs, arguments: &[OsString], ui: &mut Ui) -> Result<u8> {
    let provenance = Provenance::new(arguments);
    let (shape, saving) = (args.shape.shape(args.checkpoints.len())?, args.saving());
    let style = args.figures.style();
    let claim = claim(&args.out, Existing::of(args.force, args.resume))?;
    let mut session = args.session(0).open(Precision::F32, ui)?;
    session.options.seed = args.shape.seed;
    let others = others(args, &session.checkpoint)?;
    let objective = Objective::new(&session.checkpoint.network, &session.data, session.options.clone())?;
    let checkpoint = &session.checkpoint;
    let task = FrameTask { args: &args.shape, shape, checkpoint, others: &others, objective: &objective };
    let framed = task.run(&mut ui.progress())?;
    let marks: Vec<f64> = framed.frame.marks.iter().map(|mark: &Mark| mark.at.0).collect();
    let grid = Grid::new(&framed.frame.reach, shape.num_points, &marks);
    let mut configuration = session.configuration(&objective);
    configuration["landscape"] = of_landscape(args, shape, &framed, &grid)?;
    configuration["inputs_sha256"] = json!(sha256_hex(configuration.to_string().as_bytes()));
    share_rows(&objective, &configuration)?;
    if claim.is_complete_for_all()? {
        claim.same_configuration(&configuration)?;
        ui.say(&claim.complete_already(&args.out));
        answer::result(&args.out, &session.statement(), ui)?;
        return Ok(0);
    }
    let output = claim.begin()?;
    let Framed { frame, path, words, .. } = framed;
    let mut report = LandscapeReport {
        directions: words + &batch_norm(args, &session),
        statement: session.statement().replace(", batch norm eval", ""),
        path,
        configuration,
        ..LandscapeReport::empty(&name(args), &frame, grid)
    };
    let mut points = PointsFile::new(output.path(), &report.configuration, saving);
    let surface = Surface::new(&objective, &frame, args.batch_norm);
    let outcome = survey(&surface, &frame, &mut report, Watch { store: &mut points, observer: &mut ui.progress() });
    points.tell(ui);
    if let Err(Error::Interrupted) = outcome {
        ui.say("interrupted: repeat the command with --resume to continue");
    }
    outcome?;
    if !team().leads() {
        return Ok(0);
    }
    let mut written = save_landscape(&report, output.path(), style)?;
    remove_outdated(output.path(), &[], &["line", "contour", "surface"], &written);
    let page = landscape_page(&report, &output.path().join("figures"), &provenance.command());
    written.push(output.path().join("report.html"));
    page.write(&output.path().join("report.html"))?;
    let mut run = provenance.json();
    run["complete"] = json!(true);
    run["threads"] = json!(session.options.execution.threads);
    run["checkpoints"] = args.checkpoints.iter().map(path_text::to_text).collect();
    run["configuration"] = report.configuration.clone();
    write_run_json(output.path(), &run, &written)?;
    points.remove();
    tell(&report, ui);
    answer::result(&args.out, &report.statement, ui)?;
    ui.say(&format!("wrote {}", args.out.display()));
    Ok(0)
}

/// The other minima, of the same network and data as the first.
fn others(args: &LandscapeArgs, first: &Checkpoint) -> Result<Vec<Checkpoint>> {
    let read = |index: usize| {
        let other = args.session(index).read_checkpoint()?;
        same_network(first, &other)?;
        if args.data.data.is_none() && args.given.is_empty() {
            same_data(first, &other)?;
        }
        Ok(other)
    };
    (1..args.checkpoints.len()).map(read).collect()
}

/// What decides where the points lie and how the loss is found there.
fn of_landscape(args: &LandscapeArgs, shape: Shape, framed: &Framed, grid: &Grid) -> Result<Value> {
    Ok(json!({
        "directions": shape.kind,
        "normalisation": args.shape.normalisation,
        "reach": framed.frame.reach,
        "points": shape.num_points,
        "batch_norm": args.batch_norm,
        "sources": framed.sources,
        "points_sha256": fingerprint(&framed.frame, &grid.points())?,
    }))
}

/// The names of the checkpoints, for titles; of an experiment's `RUN/train` that of the run.
fn name(args: &LandscapeArgs) -> String {
    let name = |path: &PathBuf| match super::analyze::checkpoint_name(path) {
        name if name == "train" => {
            let run = path.parent().and_then(Path::parent).and_then(Path::file_name);
            run.map_or(name, |run| run.to_string_lossy().into_owned())
        }
        name => name,
    };
    let names: Vec<String> = args.checkpoints.iter().map(name).collect();
    if let [one] = names.as_slice() {
        return one.clone();
    }
    names.iter().zip(["A", "B", "C"]).map(|(name, letter)| format!("{letter} {name}")).collect::<Vec<_>>().join(", ")
}

/// What becomes of running statistics, where there are any.
fn batch_norm(args: &LandscapeArgs, session: &Session) -> String {
    if !session.checkpoint.network.program().has_batch_norm() {
        return String::new();
    }
    let statistics = match (args.batch_norm, args.checkpoints.len()) {
        (Statistics::Reestimate, _) => "re-estimated at each point",
        (Statistics::Eval, 1) => "fixed",
        (Statistics::Eval, _) => "interpolated",
    };
    format!(", batch norm {statistics}")
}

fn tell(report: &LandscapeReport, ui: &mut Ui) {
    ui.print_lines(&terminal::summary_table(&report.summary));
    if let Some(barrier) = &report.barrier {
        ui.print(&format!(
            "barrier {:.4} ± {:.4} (s.e. over the rows) at t = {:.3}, over the straight line from {:.4} to {:.4}",
            barrier.height, barrier.std_err_data, barrier.t, barrier.ends.0, barrier.ends.1
        ));
    }
    ui.print(&report.directions);
    ui.print(&report.statement);
}

/// Finished points on disk, with the configuration that they belong to.
struct PointsFile {
    path: PathBuf,
    configuration: Value,
    saving: Saving,
    last: Instant,
    /// Points that an earlier run left.
    resumed: usize,
    /// What went wrong with writing, once.
    complaint: Option<String>,
}

impl PointsFile {
    fn new(folder: &Path, configuration: &Value, saving: Saving) -> Self {
        let (path, configuration) = (folder.join(POINTS), configuration.clone());
        Self { path, configuration, saving, last: Instant::now(), resumed: 0, complaint: None }
    }

    fn tell(&self, ui: &mut Ui) {
        if self.resumed > 0 {
            ui.say(&format!("note: continuing after the {} points in {}", self.resumed, self.path.display()));
        }
        if let Some(complaint) = &self.complaint {
            ui.say(&format!(
                "note: the points could not be saved, so --resume would start from the beginning: {complaint}"
            ));
        }
    }

    /// The result is complete: its tables have the points.
    fn remove(&self) {
        let _ = std::fs::remove_file(&self.path);
    }

    fn write(&self, finished: &[Evaluation]) -> Result<()> {
        let numbers = |v: &Evaluation| [v.loss, v.loss_std_err, v.accuracy, v.accuracy_std_err];
        let values: Vec<f64> = finished.iter().flat_map(numbers).collect();
        let tensor = Tensor::from_vec(values, (finished.len(), 4), &Device::Cpu)?;
        write_state(&self.path, &[("points".into(), tensor)], &self.configuration, &Value::Null)
    }
}

impl PointStore for PointsFile {
    fn load(&mut self) -> Result<Vec<Evaluation>> {
        let found = if team().leads() { self.read() } else { Ok(Vec::new()) };
        team().of_leader(found)
    }

    fn keep(&mut self, finished: &[Evaluation], last: bool) {
        let due = self.last.elapsed() >= self.saving.every || last;
        if !due || finished.is_empty() || self.complaint.is_some() || !team().leads() {
            return;
        }
        if let Err(error) = self.write(finished) {
            self.complaint = Some(error.to_string());
        }
        self.last = Instant::now();
    }
}

impl PointsFile {
    fn read(&mut self) -> Result<Vec<Evaluation>> {
        if !self.saving.resume || !self.path.exists() {
            return Ok(Vec::new());
        }
        let (file, _) = read_state(&self.path, &self.configuration)?;
        let rows = file.get("points")?.to_vec2::<f64>()?;
        let evaluation = |row: &Vec<f64>| match row.as_slice() {
            &[loss, loss_std_err, accuracy, accuracy_std_err] => {
                Some(Evaluation { loss, loss_std_err, accuracy, accuracy_std_err })
            }
            _ => None,
        };
        let kept: Vec<Evaluation> = rows.iter().map_while(evaluation).collect();
        self.resumed = kept.len();
        Ok(kept)
    }
}
