//! Whole landscapes against closed forms: a linear network with squared error has a quadratic loss.

use candle_core::{DType, Device, Tensor};

use super::grid::convex_share;
use super::*;
use crate::data::{Dataset, Inputs, Targets};
use crate::formats::Architecture;
use crate::objective::{Evaluation, Objective, ObjectiveOptions};
use crate::program::{Loss, Network};
use crate::{Error, Observer, Result, Step};

const INPUTS: usize = 3;
const OUTPUTS: usize = 2;
const ROWS: usize = 12;

fn sample(index: usize) -> f64 {
    (1.7 * index as f64).sin() + 0.2 * (index % 5) as f64
}

fn rows() -> (Vec<f64>, Vec<f64>) {
    ((0..ROWS * INPUTS).map(sample).collect(), (0..ROWS * OUTPUTS).map(|i| sample(3 * i + 1)).collect())
}

fn data() -> Dataset {
    let (x, values) = rows();
    let targets = Targets::Values { values, sample_shape: vec![OUTPUTS] };
    Dataset::new("test".into(), vec![INPUTS], Inputs::Float64(x), targets, None).unwrap()
}

fn network() -> Network {
    let text =
        r#"{"layers": [{"kind": "linear", "in": 3, "out": 2, "weight": "w", "bias": "b"}], "loss": {"kind": "mse"}}"#;
    Architecture::from_json(text, "test").unwrap().network(Buffers::new()).unwrap()
}

/// `(1/NC) Σ (W x + b − y)²`, written out.
fn loss(theta: &[f64]) -> f64 {
    let (x, y) = rows();
    let mut sum = 0.0;
    for row in 0..ROWS {
        for output in 0..OUTPUTS {
            let weights = &theta[output * INPUTS..(output + 1) * INPUTS];
            let inputs = &x[row * INPUTS..(row + 1) * INPUTS];
            let value: f64 = weights.iter().zip(inputs).map(|(w, x)| w * x).sum::<f64>();
            sum += (value + theta[INPUTS * OUTPUTS + output] - y[row * OUTPUTS + output]).powi(2);
        }
    }
    sum / (ROWS * OUTPUTS) as f64
}

fn theta(start: usize) -> Tensor {
    Tensor::from_vec((0..8).map(|i| sample(start + 7 * i)).collect::<Vec<f64>>(), 8, &Device::Cpu).unwrap()
}

fn values(tensor: &Tensor) -> Vec<f64> {
    tensor.to_vec1().unwrap()
}

/// NaN is itself here: squared errors have no accuracy.
fn bits(values: &[Evaluation]) -> Vec<[u64; 4]> {
    let bits = |v: &Evaluation| [v.loss, v.loss_std_err, v.accuracy, v.accuracy_std_err].map(f64::to_bits);
    values.iter().map(bits).collect()
}

fn options(threads: usize) -> ObjectiveOptions {
    let mut options = ObjectiveOptions { dtype: DType::F64, ..ObjectiveOptions::new(Loss::Mse {}) };
    options.execution.threads = threads;
    options
}

#[test]
fn a_quadratic_is_met_at_every_point_of_the_grid() {
    let (network, data) = (network(), data());
    let objective = Objective::new(&network, &data, options(2)).unwrap();
    let frame = Frame::random(network.space(), &theta(0), Normalisation::None, 3, 2).unwrap();
    let [first, second] = [0, 1].map(|axis| values(&frame.axes[axis]));
    let dot: f64 = first.iter().zip(&second).map(|(a, b)| a * b).sum();
    // Eight products of numbers around 1, each rounded.
    assert!(dot.abs() < 64.0 * f64::EPSILON * frame.facts[0].length * frame.facts[1].length, "{dot}");
    let grid = Grid::new(&[(-0.8, 0.8), (-0.4, 1.2)], 5, &[]);
    let points = grid.points();
    assert_eq!((points[0], points[24]), ((-0.8, -0.4), (0.8, 1.2)));
    let surface = Surface::new(&objective, &frame, Statistics::Eval);
    let found = surface.evaluate(&points, Watch { store: &mut (), observer: &mut () }).unwrap();
    for ((x, y), value) in points.iter().zip(&found) {
        let at: Vec<f64> =
            values(&theta(0)).iter().zip(first.iter().zip(&second)).map(|(t, (a, b))| t + x * a + y * b).collect();
        // Sums of 24 squares of numbers of about 10, in another order.
        assert!((value.loss - loss(&at)).abs() < 1e-13 * (1.0 + loss(&at)), "({x}, {y}): {}", value.loss);
    }
    let losses: Vec<f64> = found.iter().map(|value| value.loss).collect();
    assert_eq!(convex_share(&grid, &losses), 1.0);
}

#[test]
fn the_slope_along_an_eigenvector_is_that_of_the_loss() {
    let (network, data) = (network(), data());
    let objective = Objective::new(&network, &data, options(2)).unwrap();
    let axis = theta(3);
    let facts = DirectionFacts { eigenvalue: 1.0, ..DirectionFacts::new(DirectionKind::Eigenvectors) };
    let slope = |facts: DirectionFacts| {
        let frame = Frame::through(&theta(0), vec![axis.clone()], vec![facts]).unwrap();
        let mut report = LandscapeReport::empty("test", &frame, Grid::new(&frame.reach, 3, &[0.0]));
        let surface = Surface::new(&objective, &frame, Statistics::Eval);
        survey(&surface, &frame, &mut report, Watch { store: &mut (), observer: &mut () }).unwrap();
        report.facts[0].slope
    };
    let at = |x: f64| loss(&values(&theta(0)).iter().zip(values(&axis)).map(|(t, d)| t + x * d).collect::<Vec<_>>());
    // The loss is quadratic, so a wide difference is exact but for the rounding of its two losses.
    let (ahead, behind) = (at(1.0), at(-1.0));
    assert!((slope(facts) - 0.5 * (ahead - behind)).abs() < 1e-13 * (1.0 + ahead + behind));
    assert!(slope(DirectionFacts::new(DirectionKind::Random)).is_nan());
}

#[test]
fn numbers_do_not_depend_on_threads_nor_on_how_points_are_shared() {
    let (network, data) = (network(), data());
    let frame = Frame::random(network.space(), &theta(0), Normalisation::Filter, 0, 2).unwrap();
    let points = Grid::new(&frame.reach, 7, &[]).points();
    let of = |threads: usize| {
        let objective = Objective::new(&network, &data, options(threads)).unwrap();
        Surface::new(&objective, &frame, Statistics::Eval)
            .evaluate(&points, Watch { store: &mut (), observer: &mut () })
            .unwrap()
    };
    let one = bits(&of(1));
    assert!(one == bits(&of(2)) && one == bits(&of(5)));
    // More threads than points: the rows are shared instead.
    assert!(one == bits(&of(100)));
}

#[test]
fn a_plane_through_three_points_contains_them_and_their_statistics() {
    let statistics = |shift: f64| {
        let at = |values: [f64; 2]| Tensor::new(&values, &Device::Cpu).unwrap();
        Buffers::from([
            ("bn.running_mean".to_owned(), at([shift, -shift])),
            ("bn.running_var".to_owned(), at([1.0 + shift, 2.0])),
        ])
    };
    let minima = [theta(0), theta(1), theta(2)];
    let buffers = [statistics(0.0), statistics(0.5), statistics(-0.25)];
    let pairs: Vec<(&Tensor, &Buffers)> = minima.iter().zip(&buffers).collect();
    let frame = Frame::between(&pairs).unwrap();
    for (mark, (minimum, statistics)) in frame.marks.iter().zip(&pairs) {
        let there = values(&frame.theta(mark.at).unwrap());
        // Three products and sums of numbers of at most 2, rounded.
        assert!(there.iter().zip(values(minimum)).all(|(a, b)| (a - b).abs() < 1e-14), "{}", mark.name);
        let (at, off) = frame.project(minimum).unwrap();
        assert!(off < 1e-13 && (at.0 - mark.at.0).abs() < 1e-13 && (at.1 - mark.at.1).abs() < 1e-13);
        let found = frame.buffers(&buffers[0], mark.at).unwrap();
        for (name, expected) in *statistics {
            let gap = values(&found[name]).iter().zip(values(expected)).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            assert!(gap < 1e-14, "{name} at {}: {gap}", mark.name);
        }
        let held = |axis: usize, value: f64| (frame.reach[axis].0..=frame.reach[axis].1).contains(&value);
        assert!(held(0, mark.at.0) && held(1, mark.at.1));
    }
    assert!(frame.facts.iter().all(|facts| (facts.length - 1.0).abs() < 1e-14));
    assert!((frame.facts[1].angle_deg - 90.0).abs() < 1e-12);
    // The angle between B − A and C − A by its cosine.
    let [a, b, c] = [0, 1, 2].map(|i| values(&minima[i]));
    let from_a = |v: &[f64]| v.iter().zip(&a).map(|(v, a)| v - a).collect::<Vec<f64>>();
    let dot = |u: &[f64], v: &[f64]| u.iter().zip(v).map(|(u, v)| u * v).sum::<f64>();
    let (u, v) = (from_a(&b), from_a(&c));
    let angle = (dot(&u, &v) / (dot(&u, &u) * dot(&v, &v)).sqrt()).acos().to_degrees();
    assert!((frame.facts[1].angle_before_deg - angle).abs() < 1e-10);
    // Far outside a variance would be negative.
    let far = frame.buffers(&buffers[0], (-100.0, 0.0)).unwrap();
    assert_eq!(values(&far["bn.running_var"])[0], 0.0);
}

#[test]
fn minima_that_span_nothing_are_refused() {
    let none = Buffers::new();
    let (a, b) = (theta(0), theta(1));
    let middle = ((&a + &b).unwrap() * 0.5).unwrap();
    let refused = |minima: &[(&Tensor, &Buffers)]| Frame::between(minima).unwrap_err();
    assert!(refused(&[(&a, &none), (&a, &none)]).to_string().contains("same parameters: they do not span a line"));
    let error = refused(&[(&a, &none), (&b, &none), (&middle, &none)]);
    assert!(error.to_string().contains("lie on one line: they do not span a plane") && error.hint().is_some());
}

#[test]
fn a_convex_loss_has_no_barrier_and_the_ends_are_the_minima() {
    let (network, data, none) = (network(), data(), Buffers::new());
    let objective = Objective::new(&network, &data, options(1)).unwrap();
    let (a, b) = (theta(0), theta(3));
    let frame = Frame::between(&[(&a, &none), (&b, &none)]).unwrap();
    let grid = Grid::new(&frame.reach, 11, &[0.0, 1.0]);
    let mut report = LandscapeReport::empty("test", &frame, grid);
    let surface = Surface::new(&objective, &frame, Statistics::Eval);
    survey(&surface, &frame, &mut report, Watch { store: &mut (), observer: &mut () }).unwrap();
    let barrier = report.barrier.clone().unwrap();
    assert_eq!((barrier.height, barrier.t, barrier.std_err_data), (0.0, 0.0, 0.0));
    for (end, theta) in [(barrier.ends.0, &a), (barrier.ends.1, &b)] {
        assert!((end - loss(&values(theta))).abs() < 1e-13);
    }
    assert_eq!(report.values.len(), 11);
}

#[test]
fn losses_of_rows_agree_with_their_mean_and_its_error() {
    let (network, data, none) = (network(), data(), Buffers::new());
    let objective = Objective::new(&network, &data, options(2)).unwrap();
    let (a, b) = (theta(0), theta(3));
    let frame = Frame::between(&[(&a, &none), (&b, &none)]).unwrap();
    let surface = Surface::new(&objective, &frame, Statistics::Eval);
    let found = surface.row_losses((0.3, 0.0), &mut ()).unwrap();
    let (mean, count) = (found.iter().sum::<f64>() / ROWS as f64, ROWS as f64);
    let at: Vec<f64> = values(&a).iter().zip(values(&b)).map(|(a, b)| a + 0.3 * (b - a)).collect();
    assert!((mean - loss(&at)).abs() < 1e-13);
    // The same standard error as the evaluation has it.
    let variance = found.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (count - 1.0);
    let evaluation = surface.evaluate(&[(0.3, 0.0)], Watch { store: &mut (), observer: &mut () }).unwrap()[0];
    assert!((evaluation.loss_std_err - (variance / count).sqrt()).abs() < 1e-12);
}

/// Keeps what is finished, and breaks after some points.
struct Shelf {
    kept: Vec<Evaluation>,
    loaded: usize,
}

impl PointStore for Shelf {
    fn load(&mut self) -> Result<Vec<Evaluation>> {
        self.loaded = self.kept.len();
        Ok(self.kept.clone())
    }

    fn keep(&mut self, finished: &[Evaluation], _last: bool) {
        self.kept = finished.to_vec();
    }
}

struct Until(usize);

impl Observer for Until {
    fn on_step(&mut self, step: &Step) -> std::ops::ControlFlow<()> {
        if step.done >= self.0 { std::ops::ControlFlow::Break(()) } else { std::ops::ControlFlow::Continue(()) }
    }
}

#[test]
fn an_interrupted_grid_goes_on_to_the_same_numbers() {
    let (network, data) = (network(), data());
    let objective = Objective::new(&network, &data, options(2)).unwrap();
    let frame = Frame::random(network.space(), &theta(0), Normalisation::Layer, 0, 2).unwrap();
    let points = Grid::new(&frame.reach, 9, &[]).points();
    let surface = Surface::new(&objective, &frame, Statistics::Eval);
    let whole = surface.evaluate(&points, Watch { store: &mut (), observer: &mut () }).unwrap();
    let mut shelf = Shelf { kept: Vec::new(), loaded: 0 };
    let outcome = surface.evaluate(&points, Watch { store: &mut shelf, observer: &mut Until(20) });
    assert!(matches!(outcome, Err(Error::Interrupted)));
    let kept = shelf.kept.len();
    assert!((20..81).contains(&kept) && bits(&shelf.kept)[..] == bits(&whole)[..kept], "{kept}");
    assert!(bits(&surface.evaluate(&points, Watch { store: &mut shelf, observer: &mut () }).unwrap()) == bits(&whole));
    assert_eq!(shelf.loaded, kept);
}

/// Statistics of the rows undo any scale of the weights before the normalisation; stored ones do not.
#[test]
fn estimated_statistics_follow_the_weights() {
    let text = r#"{"layers": [
        {"kind": "conv2d", "in": 1, "out": 2, "kernel": 1, "weight": "c"},
        {"kind": "batch_norm2d", "channels": 2, "eps": 1e-12, "weight": "g", "bias": "h", "running_mean": "bn.running_mean",
         "running_var": "bn.running_var"},
        {"kind": "relu"}, {"kind": "flatten"},
        {"kind": "linear", "in": 6, "out": 2, "weight": "w", "bias": "b"}], "loss": {"kind": "mse"}}"#;
    let at = |values: [f64; 2]| Tensor::new(&values, &Device::Cpu).unwrap();
    let buffers =
        Buffers::from([("bn.running_mean".to_owned(), at([0.1, 0.2])), ("bn.running_var".to_owned(), at([1.0, 2.0]))]);
    let network = Architecture::from_json(text, "test").unwrap().network(buffers).unwrap();
    let (x, y) = rows();
    let targets = Targets::Values { values: y, sample_shape: vec![OUTPUTS] };
    let data = Dataset::new("test".into(), vec![1, 1, INPUTS], Inputs::Float64(x), targets, None).unwrap();
    let objective = Objective::new(&network, &data, options(2)).unwrap();
    let dim = network.space().dim();
    let start = Tensor::from_vec((0..dim).map(|i| 0.5 + sample(i)).collect::<Vec<f64>>(), dim, &Device::Cpu).unwrap();
    // The direction is the first tensor itself, so that x scales it by 1 + x.
    let convolution = network.space().tensors().iter().find(|tensor| tensor.name == "c").unwrap();
    let inside = convolution.offset..convolution.offset + convolution.len();
    let direction: Vec<f64> =
        values(&start).iter().enumerate().map(|(i, v)| if inside.contains(&i) { *v } else { 0.0 }).collect();
    let axis = Tensor::from_vec(direction, dim, &Device::Cpu).unwrap();
    let frame = Frame::through(&start, vec![axis], vec![DirectionFacts::new(DirectionKind::Random)]).unwrap();
    let points = [(0.0, 0.0), (3.0, 0.0)];
    let of = |statistics| {
        let surface = Surface::new(&objective, &frame, statistics);
        surface.evaluate(&points, Watch { store: &mut (), observer: &mut () }).unwrap()
    };
    let (estimated, stored) = (of(Statistics::Reestimate), of(Statistics::Eval));
    // Variances of about 0.5 against eps: 1e-12 of them.
    assert!((estimated[0].loss - estimated[1].loss).abs() < 1e-10 * estimated[0].loss, "{estimated:?}");
    assert!((stored[0].loss - stored[1].loss).abs() > 0.1 * stored[0].loss, "{stored:?}");
    let surface = Surface::new(&objective, &frame, Statistics::Reestimate);
    let losses = surface.row_losses((3.0, 0.0), &mut ()).unwrap();
    assert!((losses.iter().sum::<f64>() / ROWS as f64 - estimated[1].loss).abs() < 1e-12);
}
