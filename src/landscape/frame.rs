//! A line or plane through parameter space: origin, directions, and facts about them.

use std::collections::HashMap;

use candle_core::{DType, Tensor};
use serde::Serialize;

use super::directions::{Normalisation, orthogonalise, random_direction};
use super::error::LandscapeError;
use crate::Result;
use crate::autodiff::ParamSpace;
use crate::kernels::dot;
use crate::random::{Purpose, substream};
use crate::vocabulary::Minimum;

/// Running statistics by name.
pub type Buffers = HashMap<String, Tensor>;

/// Where directions come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DirectionKind {
    /// Random, normalised as --normalisation says
    Random,
    /// The eigenvectors of the two largest eigenvalues of the Hessian
    Eigenvectors,
    /// From A to B (and C)
    Between,
    /// Principal directions of a training trajectory
    Pca,
}

impl DirectionKind {
    /// The word in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Random => "random",
            Self::Eigenvectors => "eigenvectors",
            Self::Between => "between",
            Self::Pca => "pca",
        }
    }
}

/// A direction as it is used. Numbers that do not apply are NaN.
#[derive(Debug, Clone, PartialEq)]
pub struct DirectionFacts {
    /// Where it comes from.
    pub kind: DirectionKind,
    /// Of a random direction.
    pub normalisation: Option<Normalisation>,
    /// `‖d‖`: a coordinate of 1 is that far away in parameter space.
    pub length: f64,
    /// Angle to the first direction in degrees, before the second one was made orthogonal to it.
    pub angle_before_deg: f64,
    /// The same as used.
    pub angle_deg: f64,
    /// Share of the trajectory's variance along it.
    pub explained_variance: f64,
    /// Eigenvalue along it.
    pub eigenvalue: f64,
    /// Its residual norm.
    pub std_err_numeric: f64,
    /// Its standard error from the choice of rows.
    pub std_err_data: f64,
    /// Slope of the loss along it at the origin, where there is an eigenvalue.
    pub slope: f64,
    /// Whether the eigenpair is within its tolerance; true for other directions.
    pub converged: bool,
    /// Products with the Hessian that it took.
    pub num_matvecs: usize,
}

impl DirectionFacts {
    /// Of a direction `kind`; the frame fills in length and angles.
    pub fn new(kind: DirectionKind) -> Self {
        let nan = f64::NAN;
        Self {
            kind,
            normalisation: None,
            length: nan,
            angle_before_deg: nan,
            angle_deg: nan,
            explained_variance: nan,
            eigenvalue: nan,
            std_err_numeric: nan,
            std_err_data: nan,
            slope: nan,
            converged: true,
            num_matvecs: 0,
        }
    }
}

/// A checkpoint in the frame.
#[derive(Debug, Clone, PartialEq)]
pub struct Mark {
    /// Which.
    pub name: Minimum,
    /// Its coordinates.
    pub at: (f64, f64),
}

/// The points `θ₀ + x d₁ + y d₂`; a line has one direction.
#[derive(Debug, Clone)]
pub struct Frame {
    /// `θ₀`, `[n]` f64.
    pub origin: Tensor,
    /// `d₁`, and `d₂` of a plane, `[n]` f64.
    pub axes: Vec<Tensor>,
    /// Change of the running statistics along each axis, which are those of the network at the origin; empty: none.
    pub buffer_axes: Vec<Buffers>,
    /// One for each axis.
    pub facts: Vec<DirectionFacts>,
    /// Checkpoints that lie in it exactly.
    pub marks: Vec<Mark>,
    /// From where to where each axis goes by default.
    pub reach: Vec<(f64, f64)>,
}

impl Frame {
    /// A frame through `origin` alone.
    pub fn through(origin: &Tensor, axes: Vec<Tensor>, facts: Vec<DirectionFacts>) -> Result<Self> {
        let reach = vec![(-1.0, 1.0); axes.len()];
        let marks = vec![Mark { name: Minimum::A, at: (0.0, 0.0) }];
        let mut frame = Self { origin: wide(origin)?, axes, buffer_axes: Vec::new(), facts, marks, reach };
        frame.measure()?;
        Ok(frame)
    }

    /// `count` random directions, the second one made orthogonal to the first at its length. Direction `i` depends on
    /// the seed, the architecture and the normalisation alone. Without normalisation the default reach is `‖θ‖ / ‖d₁‖`,
    /// as far as a normalised direction goes.
    ///
    /// # Errors
    /// Reading the parameters.
    pub fn random(
        space: &ParamSpace,
        origin: &Tensor,
        normalisation: Normalisation,
        seed: u64,
        count: usize,
    ) -> Result<Self> {
        let draw = |index: usize| {
            let mut rng = substream(seed, Purpose::LandscapeDirections, index as u64);
            random_direction(space, origin, normalisation, &mut rng)
        };
        let drawn: Vec<Tensor> = (0..count).map(draw).collect::<Result<_>>()?;
        let facts = DirectionFacts { normalisation: Some(normalisation), ..DirectionFacts::new(DirectionKind::Random) };
        let mut frame = Self::through(origin, drawn, vec![facts; count])?;
        if let [first, second] = frame.axes.as_mut_slice() {
            *second = orthogonalise(first, second)?;
        }
        frame.measure()?;
        if let (Normalisation::None, Some(first)) = (normalisation, frame.facts.first()) {
            let far = dot(&frame.origin, &frame.origin)?.sqrt() / first.length;
            let far = if far > 0.0 && far.is_finite() { far } else { 1.0 };
            frame.reach = vec![(-far, far); count];
        }
        Ok(frame)
    }

    /// The line from `a` to `b`, with `x` from 0 to 1, or the plane through three minima in orthonormal coordinates with
    /// `A` at the origin and `B` on the `x` axis (Garipov et al. 2018). Running statistics go with the parameters.
    ///
    /// # Errors
    /// [`LandscapeError::NoSpan`] for minima that coincide or lie on a line.
    pub fn between(minima: &[(&Tensor, &Buffers)]) -> Result<Self> {
        let none = |what: &str, shape| LandscapeError::NoSpan { what: what.to_owned(), shape };
        let [(a, at_a), (b, at_b), rest @ ..] = minima else {
            return Err(none("one checkpoint alone", "line").into());
        };
        let (origin, to_b) = (wide(a)?, (wide(b)? - wide(a)?)?);
        let (first, change) = (dot(&to_b, &to_b)?.sqrt(), difference(at_b, at_a)?);
        if first == 0.0 {
            return Err(none("A and B have the same parameters", "line").into());
        }
        let facts = DirectionFacts::new(DirectionKind::Between);
        let mark = |name, at| Mark { name, at };
        let Some((c, at_c)) = rest.first() else {
            let mut frame = Self::through(&origin, vec![to_b], vec![facts])?;
            frame.marks.push(mark(Minimum::B, (1.0, 0.0)));
            (frame.buffer_axes, frame.reach) = (vec![change], vec![(0.0, 1.0)]);
            return Ok(frame);
        };
        let e1 = (to_b / first)?;
        let change = scaled(&change, 1.0 / first)?;
        let to_c = (wide(c)? - &origin)?;
        let (along, whole) = (dot(&e1, &to_c)?, dot(&to_c, &to_c)?.sqrt());
        let off = (&to_c - (&e1 * along)?)?;
        let height = dot(&off, &off)?.sqrt();
        // Below it the direction would be rounding.
        if height <= 1e-7 * whole.max(first) {
            return Err(none("A, B and C lie on one line", "plane").into());
        }
        let e2 = (off / height)?;
        let second = scaled(&plus(&difference(at_c, at_a)?, &change, -along)?, 1.0 / height)?;
        let mut frame = Self::through(&origin, vec![e1, e2], vec![facts.clone(), facts])?;
        if let Some(facts) = frame.facts.get_mut(1) {
            facts.angle_before_deg = (along / whole).clamp(-1.0, 1.0).acos().to_degrees();
        }
        frame.marks.extend([mark(Minimum::B, (first, 0.0)), mark(Minimum::C, (along, height))]);
        frame.buffer_axes = vec![change, second];
        frame.reach = around(&frame.marks.iter().map(|mark| mark.at).collect::<Vec<_>>(), 0.7);
        Ok(frame)
    }

    /// Fills in lengths, and the angle before the first time and as used.
    fn measure(&mut self) -> Result<()> {
        for (index, (axis, facts)) in self.axes.iter().zip(&mut self.facts).enumerate() {
            facts.length = dot(axis, axis)?.sqrt();
            if let (1, Some(first)) = (index, self.axes.first()) {
                let cosine = dot(first, axis)? / (dot(first, first)?.sqrt() * facts.length);
                facts.angle_deg = cosine.clamp(-1.0, 1.0).acos().to_degrees();
                if facts.angle_before_deg.is_nan() {
                    facts.angle_before_deg = facts.angle_deg;
                }
            }
        }
        Ok(())
    }

    /// `θ₀ + x d₁ + y d₂`, `[n]` f64.
    ///
    /// # Errors
    /// A tensor operation that fails.
    pub fn theta(&self, (x, y): (f64, f64)) -> Result<Tensor> {
        // Points are made in f64 and rounded once, so that small steps do not vanish in f32 weights.
        let mut point = self.origin.clone();
        for (axis, coordinate) in self.axes.iter().zip([x, y]) {
            point = (point + (axis * coordinate)?)?;
        }
        Ok(point)
    }

    /// The running statistics there, from those at the origin. Variances that an extrapolation would make negative are 0.
    ///
    /// # Errors
    /// A tensor operation that fails.
    pub fn buffers(&self, origin: &Buffers, (x, y): (f64, f64)) -> Result<Buffers> {
        let mut buffers = origin.clone();
        for (change, coordinate) in self.buffer_axes.iter().zip([x, y]) {
            buffers = plus(&buffers, change, coordinate)?;
        }
        let hold = |(name, values): (String, Tensor)| {
            let values = if name.ends_with("running_var") { values.maximum(0.0)? } else { values };
            Ok((name, values))
        };
        buffers.into_iter().map(hold).collect()
    }

    /// Coordinates of `theta` in the frame, whose axes are orthogonal, and its distance from the line or plane.
    ///
    /// # Errors
    /// A tensor operation that fails.
    pub(crate) fn project(&self, theta: &Tensor) -> Result<((f64, f64), f64)> {
        let mut rest = (wide(theta)? - &self.origin)?;
        let mut at = [0.0; 2];
        for (axis, coordinate) in self.axes.iter().zip(&mut at) {
            *coordinate = dot(axis, &rest)? / dot(axis, axis)?;
            rest = (rest - (axis * *coordinate)?)?;
        }
        Ok(((at[0], at[1]), dot(&rest, &rest)?.sqrt()))
    }
}

/// A square around the points: the centre of their box, and `share` of its longer side to each side of it.
pub(super) fn around(points: &[(f64, f64)], share: f64) -> Vec<(f64, f64)> {
    let ends = |pick: fn(&(f64, f64)) -> f64| {
        let values = points.iter().map(pick);
        values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)))
    };
    let (x, y) = (ends(|point| point.0), ends(|point| point.1));
    let half = share * (x.1 - x.0).max(y.1 - y.0);
    [x, y].map(|(low, high)| (0.5 * (low + high) - half, 0.5 * (low + high) + half)).to_vec()
}

pub(super) fn wide(theta: &Tensor) -> Result<Tensor> {
    Ok(theta.to_dtype(DType::F64)?)
}

fn difference(to: &Buffers, from: &Buffers) -> Result<Buffers> {
    let pairs = to.iter().filter_map(|(name, to)| from.get(name).map(|from| (name, to, from)));
    pairs.map(|(name, to, from)| Ok((name.clone(), (wide(to)? - wide(from)?)?))).collect()
}

fn scaled(buffers: &Buffers, factor: f64) -> Result<Buffers> {
    buffers.iter().map(|(name, values)| Ok((name.clone(), (values * factor)?))).collect()
}

/// `a + factor b`.
fn plus(a: &Buffers, b: &Buffers, factor: f64) -> Result<Buffers> {
    let sum = |(name, values): (&String, &Tensor)| {
        let sum = match b.get(name) {
            Some(change) => (wide(values)? + (change * factor)?)?,
            None => values.clone(),
        };
        Ok((name.clone(), sum))
    };
    a.iter().map(sum).collect()
}
