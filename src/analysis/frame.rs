//! The line or plane that a plan asks for, through checkpoints.

use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use serde_json::{Value, json};

use crate::checkpoint::{Checkpoint, TRAIN_KEY, TensorFile, checked_rows, differences};
use crate::curvature::{Curvature, CurvatureOperator};
use crate::digest::sha256_hex;
use crate::formats::Architecture;
use crate::landscape::{
    DirectionFacts, DirectionKind, Frame, LandscapeError, Normalisation, PathPoint, path_point, principal,
};
use crate::objective::Objective;
use crate::operator::extend;
use crate::plan::{PlanError, Shape, ShapeArgs};
use crate::random::{Purpose, stream};
use crate::spectral::{EigenParams, EigenReport, eigenpairs};
use crate::vocabulary::{End, Scope};
use crate::{Error, Observer, Result};

/// A frame, what goes through it, and what it was made of.
pub struct Framed {
    /// Origin, directions and reach.
    pub frame: Frame,
    /// The checkpoints of a training run in the frame.
    pub path: Vec<PathPoint>,
    /// In words, for captions.
    pub words: String,
    /// Hashes of what went in beside the first checkpoint.
    pub sources: Value,
}

/// What a frame is made of.
#[derive(Clone, Copy)]
pub struct FrameTask<'a> {
    /// What was asked for.
    pub args: &'a ShapeArgs,
    /// The same, checked.
    pub shape: Shape,
    /// The checkpoint that it goes through.
    pub checkpoint: &'a Checkpoint,
    /// Further minima that span it.
    pub others: &'a [Checkpoint],
    /// The loss, for eigenvectors.
    pub objective: &'a Objective<'a>,
}

/// Refuses a checkpoint of another network than the first.
///
/// # Errors
/// [`LandscapeError::OtherNetwork`].
pub fn same_network(first: &Checkpoint, second: &Checkpoint) -> Result<()> {
    let [a, b] = [first, second].map(|checkpoint| &checkpoint.network);
    let what = if a.space() != b.space() {
        format!("{} parameters of {} and {} of {}", a.space().dim(), a.about.name, b.space().dim(), b.about.name)
    } else if a.program().nodes != b.program().nodes {
        "equal parameters in other layers".into()
    } else if a.about.normalisation != b.about.normalisation {
        "inputs normalised differently".into()
    } else {
        return Ok(());
    };
    let [first, second] = [first, second].map(|checkpoint| checkpoint.path.display().to_string());
    Err(LandscapeError::OtherNetwork { first, second, what }.into())
}

/// Refuses a checkpoint that was trained on other data than the first.
///
/// # Errors
/// [`LandscapeError::OtherData`].
pub fn same_data(first: &Checkpoint, second: &Checkpoint) -> Result<()> {
    let data = |checkpoint: &Checkpoint| json!(checkpoint.data().map(|spec| spec.resolved()));
    let differing = differences(&data(first), &data(second));
    if differing.is_empty() {
        return Ok(());
    }
    let [first, second] = [first, second].map(|checkpoint| checkpoint.path.display().to_string());
    Err(LandscapeError::OtherData { first, second, differing }.into())
}

impl FrameTask<'_> {
    /// The frame, with its reach as asked for.
    ///
    /// # Errors
    /// Files that are missing or belong to another checkpoint; directions that are none; an interruption.
    pub fn run(self, observer: &mut dyn Observer) -> Result<Framed> {
        let mut framed = match self.shape.kind {
            DirectionKind::Random => self.random()?,
            DirectionKind::Eigenvectors => self.eigenvectors(observer)?,
            DirectionKind::Between => self.between()?,
            DirectionKind::Pca => self.trajectory()?,
        };
        if let Some(width) = self.args.half_width {
            let reach = &mut framed.frame.reach;
            *reach = match self.shape.kind {
                // By default a line between minima has 0.5, a plane 0.7.
                DirectionKind::Between => stretched(reach, width / if self.shape.dims == 1 { 0.5 } else { 0.7 }),
                _ => vec![(-width, width); self.shape.dims],
            };
        }
        Ok(framed)
    }

    fn random(self) -> Result<Framed> {
        let (checkpoint, normalisation) = (self.checkpoint, self.args.normalisation);
        let (space, theta) = (checkpoint.network.space(), &checkpoint.theta);
        let frame = Frame::random(space, theta, normalisation, self.args.seed, self.shape.dims)?;
        let how = match normalisation {
            Normalisation::None => "not normalised, all parameters move".to_owned(),
            scaled => format!("{}-normalised, biases and norms fixed", scaled.name()),
        };
        let angle = match frame.facts.get(1) {
            Some(second) => format!("s, made orthogonal from {:.1}°", second.angle_before_deg),
            None => String::new(),
        };
        Ok(Framed { frame, path: Vec::new(), words: format!("random direction{angle}, {how}"), sources: json!({}) })
    }

    fn between(self) -> Result<Framed> {
        let minima = std::iter::once(self.checkpoint).chain(self.others);
        let minima: Vec<_> = minima.map(|minimum| (&minimum.theta, minimum.network.buffers())).collect();
        let hashes: Vec<&String> = self.others.iter().map(|other| &other.sha256).collect();
        let frame = Frame::between(&minima)?;
        let words = match frame.facts.get(1) {
            Some(second) => format!("plane of A, B, C ({:.1}° between AB and AC)", second.angle_before_deg),
            None => "line from A to B".to_owned(),
        };
        Ok(Framed { frame, path: Vec::new(), words, sources: json!({ "other_checkpoints_sha256": hashes }) })
    }

    fn eigenvectors(self, observer: &mut dyn Observer) -> Result<Framed> {
        let checkpoint = self.checkpoint;
        let (rows, facts, words, sources) = match &self.args.eigenvectors {
            Some(path) => stored_eigenvectors(path, checkpoint, self.shape.dims)?,
            None => {
                let top = self.computed_eigenvectors(observer)?;
                let words = "unit top eigenvectors of the Hessian".to_owned();
                (top.vectors.to_dtype(DType::F64)?, eigen_facts(&top), words, json!({}))
            }
        };
        let axes: Vec<Tensor> = (0..self.shape.dims).map(|index| Ok(rows.get(index)?)).collect::<Result<_>>()?;
        let mut frame = Frame::through(&checkpoint.theta, axes, facts)?;
        let norm = checkpoint.theta.sqr()?.sum_all()?.to_scalar::<f64>()?.sqrt();
        let here = self.objective.evaluate(&self.objective.place(&checkpoint.theta)?, observer)?;
        let reach = frame.facts.iter().map(|facts| crate::analysis::reach(facts.eigenvalue, here.loss, norm));
        frame.reach = reach.map(|reach| (-reach, reach)).collect();
        Ok(Framed { frame, path: Vec::new(), words, sources })
    }

    fn computed_eigenvectors(self, observer: &mut dyn Observer) -> Result<EigenReport> {
        let operator = CurvatureOperator::new(self.objective, &self.checkpoint.theta, Curvature::Hessian)?;
        let memory_bytes = self.objective.options().execution.memory_bytes / 2;
        let params =
            EigenParams { top: self.shape.dims, bottom: 0, tolerance: 1e-4, memory_bytes, ..EigenParams::default() };
        let mut rng = stream(self.args.seed, Purpose::LandscapeEigenvectors);
        let found = eigenpairs(&operator, &params, &mut rng, observer)?.top;
        if found.interrupted { Err(Error::Interrupted) } else { Ok(found) }
    }

    /// The principal plane of the checkpoints in a folder.
    fn trajectory(self) -> Result<Framed> {
        let checkpoint = self.checkpoint;
        let beside = || checkpoint.path.parent().unwrap_or(Path::new("")).join("snapshots");
        let folder = self.args.trajectory.clone().unwrap_or_else(beside);
        let files = snapshots(&folder)?;
        let bytes = 16usize.saturating_mul(files.len()).saturating_mul(checkpoint.network.space().dim());
        if bytes > self.objective.options().execution.memory_bytes {
            let reason = format!("{} checkpoints take {} MiB: more than --memory", files.len(), bytes >> 20);
            return Err(PlanError::option("--trajectory", folder.display(), reason).into());
        }
        let mut found = Vec::new();
        for (index, path) in files.iter().enumerate() {
            let (origin, description) = (checkpoint.path.display().to_string(), &checkpoint.network.about.description);
            let architecture = Some(Architecture::from_json(description, &origin)?);
            let on_the_way = Checkpoint::read(path, architecture)?;
            found.push((place(&on_the_way).unwrap_or((index, 0)), on_the_way.theta, on_the_way.sha256));
        }
        // By epoch: the name of epoch 1000 comes before that of 999.
        found.sort_by_key(|(place, ..)| *place);
        let thetas: Vec<Tensor> = found.iter().map(|(_, theta, _)| theta.clone()).collect();
        let hashes: Vec<&String> = found.iter().map(|(.., hash)| hash).collect();
        let frame = principal(&checkpoint.theta, &thetas, self.shape.dims)?;
        let path = found.iter().map(|((epoch, step), theta, _)| path_point(&frame, theta, *epoch, *step));
        let words = format!("unit principal directions of {} checkpoints", files.len());
        Ok(Framed { path: path.collect::<Result<_>>()?, frame, words, sources: json!({"trajectory_sha256": hashes}) })
    }
}

/// Each range about its own middle.
fn stretched(reach: &[(f64, f64)], factor: f64) -> Vec<(f64, f64)> {
    let stretch = |(from, to): &(f64, f64)| {
        let (middle, half) = (0.5 * (from + to), 0.5 * (to - from) * factor);
        (middle - half, middle + half)
    };
    reach.iter().map(stretch).collect()
}

fn eigen_facts(report: &EigenReport) -> Vec<DirectionFacts> {
    let of = |list: &[f64], index: usize| list.get(index).copied().unwrap_or(f64::NAN);
    let facts = |(index, eigenvalue): (usize, &f64)| DirectionFacts {
        eigenvalue: *eigenvalue,
        std_err_numeric: of(&report.residual_norms, index),
        std_err_data: of(&report.std_err_data, index),
        converged: report.converged.get(index).copied().unwrap_or(false),
        num_matvecs: report.num_matvecs,
        ..DirectionFacts::new(DirectionKind::Eigenvectors)
    };
    report.ritz_values.iter().enumerate().map(facts).collect()
}

/// The first `count` top eigenvectors that `analyze` left for this very checkpoint, on all parameters.
fn stored_eigenvectors(
    path: &Path,
    checkpoint: &Checkpoint,
    count: usize,
) -> Result<(Tensor, Vec<DirectionFacts>, String, Value)> {
    let path = if path.is_dir() { path.join("eigenvectors.safetensors") } else { path.to_owned() };
    let file = TensorFile::read(&path)?;
    let refuse = |reason: String| LandscapeError::Eigenvectors { path: path.display().to_string(), reason };
    let entry = |key: &str| file.metadata.get(key).cloned().unwrap_or_default();
    if entry("flatness.checkpoint_sha256") != checkpoint.sha256 {
        return Err(refuse(format!("they belong to another checkpoint than {}", checkpoint.path.display())).into());
    }
    let values: Vec<f64> = serde_json::from_str(&entry("flatness.top_eigenvalues"))
        .map_err(|_| refuse("its eigenvalues are missing".into()))?;
    let (space, top) = (checkpoint.network.space(), checked_rows(&file, &path, End::Top.name())?);
    let (scope, operator) = (entry("flatness.scope"), entry("flatness.operator"));
    if operator == Curvature::PreconditionedHessian.name() {
        return Err(refuse(
            "they belong to the preconditioned Hessian, whose units are not those of the weights".into(),
        )
        .into());
    }
    let ranges = scope.parse::<Scope>()?.resolve(space)?;
    let width: usize = ranges.iter().map(|range| range.len()).sum();
    match top.dims() {
        &[rows, columns] if columns == width && rows >= count && values.len() >= count => {}
        dims => return Err(refuse(format!("{count} of length {width} are needed, but there are {dims:?}")).into()),
    }
    let rows = extend(&top.narrow(0, 0, count)?.to_dtype(DType::F64)?, &ranges, space.dim())?;
    let facts = |eigenvalue: &f64| DirectionFacts {
        eigenvalue: *eigenvalue,
        ..DirectionFacts::new(DirectionKind::Eigenvectors)
    };
    let words = format!("unit top eigenvectors of the {operator} (scope {scope}) that analyze found");
    Ok((rows, values.iter().take(count).map(facts).collect(), words, json!({"eigenvectors_sha256": file.sha256})))
}

/// All .safetensors files of a folder, in order of their names.
fn snapshots(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).map_err(|source| {
        if source.kind() == std::io::ErrorKind::NotFound {
            let reason = format!("there is no folder {}", folder.display());
            return Error::from(LandscapeError::NoTrajectory { count: 0, reason });
        }
        Error::Io { path: folder.into(), source }
    })?;
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    files.retain(|path| path.extension().is_some_and(|ending| ending == "safetensors"));
    files.sort();
    Ok(files)
}

/// Epoch and step that the file states.
fn place(checkpoint: &Checkpoint) -> Option<(usize, usize)> {
    let training: Value = serde_json::from_str(checkpoint.metadata.get(TRAIN_KEY)?).ok()?;
    let number = |key: &str| training.get(key).and_then(Value::as_u64).map(|number| number as usize);
    Some((number("epoch")?, number("step").unwrap_or(0)))
}

/// SHA-256 of everything that decides where the points lie: origin, axes, change of statistics, coordinates.
///
/// # Errors
/// Reading its tensors.
pub fn fingerprint(frame: &Frame, points: &[(f64, f64)]) -> Result<String> {
    let mut bytes = Vec::new();
    let mut add = |values: Vec<f64>| bytes.extend(values.into_iter().flat_map(f64::to_le_bytes));
    for vector in std::iter::once(&frame.origin).chain(&frame.axes) {
        add(vector.to_device(&Device::Cpu)?.to_vec1::<f64>()?);
    }
    for buffers in &frame.buffer_axes {
        let mut names: Vec<&String> = buffers.keys().collect();
        names.sort();
        for values in names.into_iter().filter_map(|name| buffers.get(name)) {
            add(values.flatten_all()?.to_dtype(DType::F64)?.to_vec1::<f64>()?);
        }
    }
    add(points.iter().flat_map(|(x, y)| [*x, *y]).collect());
    Ok(sha256_hex(&bytes))
}
