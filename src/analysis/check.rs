//! Self-checks on a user's own model and data.

use candle_core::{DType, Tensor};
use rand_distr::{Distribution, StandardNormal};

use crate::autodiff::{Pattern, Saved, Tape};
use crate::checkpoint::{Checkpoint, TensorFile};
use crate::curvature::{Curvature, CurvatureOperator};
use crate::objective::Objective;
use crate::operator::LinearOperator;
use crate::program::{Input, Kind, Mode, Parameters};
use crate::random::{Purpose, stream};
use crate::{Observer, Result};

/// One tested property.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// The property.
    pub what: &'static str,
    /// What was measured.
    pub figure: String,
    /// Whether it holds; `None` for a figure that is printed, not judged.
    pub passed: Option<bool>,
}

/// If differences disagree at the first step, further steps are tried, each shorter by this factor.
const FINER: f64 = 8.0;
const FINER_STEPS: i32 = 4;
/// An error counts against the product only if it exceeds the error of the differences by this factor.
const DECISIVE: f64 = 4.0;

/// How to draw the test vectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CheckOptions {
    /// Seed of the test vectors.
    pub seed: u64,
}

/// Gradient coverage, symmetry, central differences with frozen and free activation pattern, repeatability.
///
/// The Hessian product is compared with fourth-order central differences of the gradient along a random unit vector,
/// at the activation pattern of `θ`. Their error is about `ε^(4/5)` of the gradient's own scale; tolerance 1e-6 in f64,
/// 1e-2 in f32. If the network bends too sharply for differences, shorter steps are tried; if none of them is exact enough,
/// no judgement is made. Cost: 3 products and 9 gradients; up to 16 more if the first step disagrees.
///
/// # Errors
/// A loss or product that is not finite; an interruption.
pub fn check(
    objective: &Objective<'_>,
    theta: &Tensor,
    options: &CheckOptions,
    observer: &mut dyn Observer,
) -> Result<Vec<Finding>> {
    let theta = objective.place(theta)?;
    let double = objective.options().dtype == DType::F64;
    let mut findings = Vec::new();

    let missing = objective.params_without_gradient(&theta)?;
    findings.push(Finding {
        what: "every parameter receives a gradient",
        figure: if missing.is_empty() { "all do".into() } else { format!("none for {}", missing.join(", ")) },
        passed: Some(missing.is_empty()),
    });

    let operator = CurvatureOperator::new(objective, &theta, Curvature::Hessian)?;
    let vectors = unit_vectors(objective, options.seed)?;
    let products = operator.multiply(&vectors, observer)?;
    let (u, v) = (vectors.get(0)?, vectors.get(1)?);
    let (hu, hv) = (products.get(0)?, products.get(1)?);
    let scale = norm(&hu)?.max(norm(&hv)?);
    let asymmetry = (dot(&u, &hv)? - dot(&v, &hu)?).abs() / scale.max(f64::MIN_POSITIVE);
    findings.push(judged("symmetry |uᵀHv − vᵀHu| / ‖Hv‖", asymmetry, if double { 1e-11 } else { 1e-4 }));

    let again = operator.multiply(&vectors, observer)?;
    let equal = differing(&products, &again)?;
    findings.push(Finding {
        what: "a repeated product is equal bit for bit",
        figure: format!("{equal} entries differ"),
        passed: Some(equal == 0),
    });

    let step = if double { 1e-3 } else { 3e-2 } * norm(&theta)?.max(1e-3) / (objective.dim() as f64).sqrt().max(1.0);
    let mut patterns = Vec::new();
    objective.gradient_with_patterns(&theta, &mut patterns)?;
    let mut crossings = 0;
    let frozen = differences(&theta, &v, step, |point| {
        let mut replayed: Vec<Pattern> = patterns.iter().map(replay).collect();
        let gradient = objective.gradient_with_patterns(point, &mut replayed)?;
        crossings += replayed.iter().map(crossed).sum::<usize>();
        Ok(gradient)
    })?;
    let tolerance = if double { 1e-6 } else { 1e-2 };
    let at = |step| {
        differences(&theta, &v, step, |point| {
            let mut replayed: Vec<Pattern> = patterns.iter().map(replay).collect();
            objective.gradient_with_patterns(point, &mut replayed)
        })
    };
    findings.push(against_differences(&hv, frozen, step, tolerance, at)?);
    let free = differences(&theta, &v, step, |point| Ok(objective.gradient(point, &mut ())?.gradient))?;
    let error = distance(&free, &hv)? / norm(&hv)?.max(f64::MIN_POSITIVE);
    findings.push(Finding {
        what: "Hv against central differences, free pattern (kinks included)",
        figure: format!("{error:.1e}, {crossings} kinks crossed"),
        passed: None,
    });
    Ok(findings)
}

/// Compares the network's outputs, in f64 and eval mode, with the `outputs` or `logits` of a file. The file names the inputs
/// as the program does (a single one may be called `x`). The tolerance is 1e-9 of the norm, or 1e-5 if the outputs are
/// stored in less than f64.
///
/// # Errors
/// Tensors that are missing; inputs that the network cannot take.
pub fn check_outputs(checkpoint: &Checkpoint, file: &TensorFile) -> Result<Finding> {
    let network = &checkpoint.network;
    let logits = file.get("outputs").or_else(|_| file.get("logits"))?;
    let inputs = &network.program().inputs;
    let input = |input: &Input| {
        let dtype = if input.kind == Kind::Float { DType::F64 } else { DType::I64 };
        Ok(stored_input(file, inputs, input)?.to_dtype(dtype)?)
    };
    let inputs = inputs.iter().map(input).collect::<Result<_>>()?;
    let params = network.space().split(&checkpoint.theta)?;
    let mut tape = Tape::<Tensor>::new(Saved::Nothing);
    let output =
        network.forward_with_fixed(&mut tape, Parameters { values: &params, fixed: &[] }, inputs, Mode::Eval)?.output;
    if output.dims()? != logits.dims() {
        let (got, expected) = (output.dims()?, logits.dims());
        let figure = format!("outputs have shape {got:?}, the reference {expected:?}");
        return Ok(Finding { what: "outputs equal the reference", figure, passed: Some(false) });
    }
    let reference = logits.to_dtype(DType::F64)?.flatten_all()?;
    let error = distance(&output.value().flatten_all()?, &reference)? / norm(&reference)?.max(f64::MIN_POSITIVE);
    let tolerance = if logits.dtype() == DType::F64 { 1e-9 } else { 1e-5 };
    Ok(judged("outputs equal the reference", error, tolerance))
}

/// Compares the rows of the data, as the network sees them, with the inputs of the file, if both have the same shape. This
/// detects a normalisation that differs from that of the training.
///
/// # Errors
/// Tensors that are missing; rows that cannot be read.
pub fn check_inputs(objective: &Objective<'_>, file: &TensorFile) -> Result<Option<Finding>> {
    let inputs = &objective.network().program().inputs;
    let batch = objective.batch(&(0..objective.num_rows()).collect::<Vec<_>>())?.inputs();
    let mut largest = 0.0f64;
    for (input, own) in inputs.iter().zip(&batch) {
        let given = stored_input(file, inputs, input)?;
        if given.dims() != own.dims() {
            return Ok(None);
        }
        let error = distance(&given, own)? / norm(&given)?.max(f64::MIN_POSITIVE);
        largest = largest.max(error);
    }
    Ok(Some(judged("rows of the data equal the reference's inputs", largest, 1e-5)))
}

/// An input by its name; a single one may be called `x`.
fn stored_input(file: &TensorFile, inputs: &[Input], input: &Input) -> Result<Tensor> {
    file.get(&input.name).or_else(|error| if inputs.len() == 1 { file.get("x") } else { Err(error) })
}

/// Compares `Hv` with differences of gradients: `first` at `step`, then others at smaller steps if that disagrees. If the
/// network bends so sharply that none is exact enough, their change from step to step, which is about the error of the
/// larger one, exceeds the tolerance too, and no judgement is made.
fn against_differences(
    hv: &Tensor,
    first: Tensor,
    step: f64,
    tolerance: f64,
    at: impl Fn(f64) -> Result<Tensor>,
) -> Result<Finding> {
    let what = "Hv against central differences, frozen pattern";
    let scale = norm(hv)?.max(f64::MIN_POSITIVE);
    let mut error = distance(&first, hv)? / scale;
    let (mut last, mut surest) = (first, (f64::INFINITY, error));
    for finer in 1..=FINER_STEPS {
        if error <= tolerance {
            break;
        }
        let next = at(step / FINER.powi(finer))?;
        let change = distance(&next, &last)? / scale;
        error = distance(&next, hv)? / scale;
        if change < surest.0 {
            surest = (change, error);
        }
        last = next;
    }
    let (change, at_surest) = surest;
    if error <= tolerance || at_surest > DECISIVE * change {
        return Ok(judged(what, if error <= tolerance { error } else { at_surest }, tolerance));
    }
    let figure = format!(
        "not judged: off by {at_surest:.1e}, but the differences themselves change by {change:.1e} with their step"
    );
    Ok(Finding { what, figure, passed: None })
}

fn judged(what: &'static str, error: f64, tolerance: f64) -> Finding {
    Finding { what, figure: format!("{error:.1e} (at most {tolerance:.0e})"), passed: Some(error <= tolerance) }
}

/// Two random unit vectors, `[2, n]`.
fn unit_vectors(objective: &Objective<'_>, seed: u64) -> Result<Tensor> {
    let mut rng = stream(seed, Purpose::Check);
    let n = objective.dim();
    let mut values: Vec<f64> = (0..2 * n).map(|_| StandardNormal.sample(&mut rng)).collect();
    for vector in values.chunks_mut(n) {
        let norm = vector.iter().map(|value| value * value).sum::<f64>().sqrt();
        vector.iter_mut().for_each(|value| *value /= norm);
    }
    objective.place(&Tensor::from_vec(values, (2, n), &candle_core::Device::Cpu)?)
}

/// `d/dt ∇L(θ + t v)` at 0 by fourth-order central differences with step `h`.
fn differences(
    theta: &Tensor,
    v: &Tensor,
    h: f64,
    mut gradient: impl FnMut(&Tensor) -> Result<Tensor>,
) -> Result<Tensor> {
    let mut at = |t: f64| -> Result<Tensor> { Ok(gradient(&(theta + (v * t)?)?)?.to_dtype(DType::F64)?) };
    let near = (at(h)? - at(-h)?)?;
    let far = (at(2.0 * h)? - at(-2.0 * h)?)?;
    Ok((((near * 8.0)? - far)? / (12.0 * h))?)
}

fn replay(pattern: &Pattern) -> Pattern {
    match pattern {
        Pattern::Record(choices) => Pattern::replay(choices.clone()),
        other => other.clone(),
    }
}

fn crossed(pattern: &Pattern) -> usize {
    match pattern {
        Pattern::Replay { crossings, .. } => *crossings,
        _ => 0,
    }
}

fn dot(a: &Tensor, b: &Tensor) -> Result<f64> {
    Ok((a.to_dtype(DType::F64)? * b.to_dtype(DType::F64)?)?.sum_all()?.to_scalar()?)
}

fn norm(a: &Tensor) -> Result<f64> {
    Ok(dot(a, a)?.sqrt())
}

fn distance(a: &Tensor, b: &Tensor) -> Result<f64> {
    norm(&(a.to_dtype(DType::F64)? - b.to_dtype(DType::F64)?)?)
}

fn differing(a: &Tensor, b: &Tensor) -> Result<usize> {
    Ok(a.ne(b)?.to_dtype(DType::F64)?.sum_all()?.to_scalar::<f64>()? as usize)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn differences_judge_only_where_they_are_exact_enough() {
        let vector = |entries: [f64; 2]| Tensor::new(&entries, &Device::Cpu).unwrap();
        // The true product is (1, 0); differences are off by a multiple of the fourth power of their step.
        let off_by = |factor: f64| move |step: f64| Ok(vector([1.0, factor * step.powi(4)]));
        let judge = |hv, factor| {
            let at = off_by(factor);
            against_differences(&vector(hv), at(1.0).unwrap(), 1.0, 1e-6, at).unwrap()
        };
        assert_eq!(judge([1.0, 0.0], 1e-7).passed, Some(true));
        // Wrong at the first step, right at a shorter one.
        assert_eq!(judge([1.0, 0.0], 0.1).passed, Some(true));
        // 4096 times smaller with each step, and still too large at the fifth: nobody knows.
        let unknown = judge([1.0, 0.0], 1e12);
        assert!(unknown.passed.is_none() && unknown.figure.starts_with("not judged"), "{unknown:?}");
        // A product that is wrong by a hundredth stays wrong at every step.
        let wrong = judge([1.01, 0.0], 0.1);
        assert!(wrong.passed == Some(false) && wrong.figure.starts_with("9.9e-3"), "{wrong:?}");
    }
}
