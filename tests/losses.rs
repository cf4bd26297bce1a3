//! Every loss against PyTorch's float64 values: value, gradient, Hessian and Gauss-Newton products, and the exact trace.
//! `tools/loss_fixture.py` made them.

use candle_core::{DType, Device, Tensor};
use flatness::curvature::{Curvature, CurvatureOperator, ExactParams, OuterRows};
use flatness::data::{Dataset, Inputs, Targets};
use flatness::formats::Architecture;
use flatness::objective::{Execution, Objective, ObjectiveOptions};
use flatness::operator::{LinearOperator, OuterProducts};
use flatness::program::{Loss, Network};
use flatness::vocabulary::Scope;
use serde_json::{Value, json};

struct Case {
    value: Value,
    network: Network,
    data: Dataset,
}

impl Case {
    fn all() -> Vec<Self> {
        let cases: Vec<Value> = serde_json::from_str(include_str!("fixtures/losses.json")).unwrap();
        cases.into_iter().map(Self::new).collect()
    }

    fn new(value: Value) -> Self {
        let (hidden, outputs) = (&value["hidden"], &value["outputs"]);
        let layers = json!({"loss": value["loss"], "layers": [
            {"kind": "linear", "in": 4, "out": hidden, "weight": "a", "bias": "b"},
            {"kind": "tanh"},
            {"kind": "linear", "in": hidden, "out": outputs, "weight": "c", "bias": "d"},
        ]});
        let network =
            Architecture::from_json(&layers.to_string(), "test").unwrap().network(Default::default()).unwrap();
        let sample: Vec<usize> = serde_json::from_value(value["sample"].clone()).unwrap();
        let target = &value["target"];
        let shape: Vec<usize> = serde_json::from_value(target["shape"].clone()).unwrap();
        let targets = match target["kind"].as_str() {
            Some("values") => Targets::Values { values: numbers(&target["entries"]), sample_shape: shape },
            _ => {
                let labels =
                    target["entries"].as_array().unwrap().iter().map(|label| label.as_i64().unwrap()).collect();
                Targets::Tokens { labels, sample_shape: shape, num_classes: 9 }
            }
        };
        let data = Dataset::new("test".into(), sample, Inputs::Float64(numbers(&value["x"])), targets, None).unwrap();
        Self { value, network, data }
    }

    fn objective(&self, dtype: DType, execution: Execution) -> Objective<'_> {
        let loss: Loss = self.network.about.loss.clone().unwrap();
        Objective::new(&self.network, &self.data, ObjectiveOptions { dtype, execution, ..ObjectiveOptions::new(loss) })
            .unwrap()
    }

    fn theta(&self) -> Tensor {
        let theta = numbers(&self.value["theta"]);
        let n = theta.len();
        Tensor::from_vec(theta, n, &Device::Cpu).unwrap()
    }
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
}

fn flat(tensor: &Tensor) -> Vec<f64> {
    tensor.flatten_all().unwrap().to_dtype(DType::F64).unwrap().to_vec1().unwrap()
}

/// The norm of the difference, relative to numbers of size 1.
fn error(got: &[f64], expected: &[f64]) -> f64 {
    assert_eq!(got.len(), expected.len());
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|value| value * value).sum::<f64>().sqrt();
    norm(&mut got.iter().zip(expected).map(|(a, b)| a - b)) / norm(&mut expected.iter().copied()).max(1.0)
}

#[test]
fn values_are_those_of_pytorch_however_rows_are_cut() {
    // All rows at once; one row at a time.
    let memories = [Execution::default().memory_bytes, 1];
    for case in Case::all() {
        for (dtype, tolerance) in [(DType::F64, 1e-13), (DType::F32, 1e-5)] {
            for memory_bytes in memories {
                let objective = case.objective(dtype, Execution { memory_bytes, threads: 2 });
                let theta = objective.place(&case.theta()).unwrap();
                let report = objective.gradient(&theta, &mut ()).unwrap();
                let block = Tensor::from_vec(numbers(&case.value["v"]), (2, theta.elem_count()), &Device::Cpu).unwrap();
                let block = objective.place(&block).unwrap();
                let product = |curvature| {
                    let operator = CurvatureOperator::new(&objective, &theta, curvature).unwrap();
                    flat(&operator.apply(&block, &mut ()).unwrap().block)
                };
                let groups = [(0..4).collect()];
                let trace = objective.exact_trace(&theta, &groups, &ExactParams::default(), &mut ()).unwrap();
                let found = [
                    ("value", vec![report.evaluation.loss]),
                    ("gradient", flat(&report.gradient)),
                    ("hv", product(Curvature::Hessian)),
                    ("ggn_v", product(Curvature::Ggn)),
                    ("ggn_trace", vec![trace.total.trace]),
                ];
                for (name, got) in found {
                    let expected = &case.value[name];
                    let expected = expected.as_f64().map_or_else(|| numbers(expected), |number| vec![number]);
                    let error = error(&got, &expected);
                    assert!(error <= tolerance, "{}: {name} in {dtype:?}: {error:.1e}", case.value["name"]);
                }
            }
        }
    }
}

/// The outer products of a row for each output or sample that counts add up to the matrices: PyTorch's Gauss-Newton products,
/// and the operators' own.
#[test]
fn rows_of_outputs_and_samples_square_to_the_matrices() {
    for case in Case::all() {
        for (dtype, tolerance) in [(DType::F64, 1e-13), (DType::F32, 1e-5)] {
            let objective = case.objective(dtype, Execution { threads: 2, ..Execution::default() });
            let theta = objective.place(&case.theta()).unwrap();
            let n = theta.elem_count();
            let v = Tensor::from_vec(numbers(&case.value["v"]), (2, n), &Device::Cpu).unwrap();
            let fishers = [Curvature::EmpiricalFisher, Curvature::GradientCovariance, Curvature::McFisher];
            for curvature in [Curvature::Ggn].into_iter().chain(fishers) {
                // The loss may have no labels to draw.
                let Ok(operator) = CurvatureOperator::new(&objective, &theta, curvature) else { continue };
                let every = Scope::All.resolve(case.network.space()).unwrap();
                let rows = OuterRows::new(&operator, every).unwrap().unwrap();
                let count = rows.num_rows();
                let all = rows.rows(0..count, &mut ()).unwrap();
                let factor = all.to_dtype(DType::F64).unwrap();
                let found = v.matmul(&factor.t().unwrap()).unwrap().matmul(&factor).unwrap();
                let expected = match curvature {
                    Curvature::Ggn => numbers(&case.value["ggn_v"]),
                    _ => flat(&operator.multiply(&objective.place(&v).unwrap(), &mut ()).unwrap()),
                };
                let error = error(&flat(&found), &expected);
                assert!(error <= tolerance, "{}: {curvature:?} in {dtype:?}: {error:.1e}", case.value["name"]);
                // A part of the rows, which may begin and end among those of one sample, has the same bits.
                let some = rows.rows(1..count - 1, &mut ()).unwrap();
                assert_eq!(flat(&some), flat(&all.narrow(0, 1, count - 2).unwrap()));
            }
        }
    }
}

/// The labels that the model draws make the Gauss-Newton matrix on average, also under weights and at several places; where
/// a loss has no such labels it says so.
#[test]
fn drawn_labels_make_the_gauss_newton_matrix_on_average() {
    const DRAWS: usize = 600;
    for case in Case::all() {
        let objective = case.objective(DType::F64, Execution { threads: 1, ..Execution::default() });
        let (theta, loss) = (case.theta(), objective.options().loss.clone());
        let fisher = || CurvatureOperator::new(&objective, &theta, Curvature::McFisher);
        if !matches!(loss, Loss::CrossEntropy(_)) {
            let refusal = fisher().err().unwrap().to_string();
            assert!(refusal.contains(&loss.describe()), "{refusal}");
            continue;
        }
        let v = Tensor::from_vec(numbers(&case.value["v"]), (2, theta.elem_count()), &Device::Cpu).unwrap();
        let form = |product: &[f64]| product.iter().zip(flat(&v)).map(|(a, b)| a * b).sum::<f64>();
        let of_draw = |seed| form(&flat(&fisher().unwrap().with_label_seed(seed).apply(&v, &mut ()).unwrap().block));
        let forms: Vec<f64> = (0..DRAWS as u64).map(of_draw).collect();
        let mean = forms.iter().sum::<f64>() / DRAWS as f64;
        let variance = forms.iter().map(|form| (form - mean).powi(2)).sum::<f64>() / (DRAWS - 1) as f64;
        let gap = (mean - form(&numbers(&case.value["ggn_v"]))).abs();
        assert!(gap <= 4.0 * (variance / DRAWS as f64).sqrt(), "{}: {gap}", case.value["name"]);
    }
}

#[test]
fn shapes_that_leave_the_class_axis_open_ask_for_it() {
    let mut case = Case::all().into_iter().find(|case| case.value["name"] == "both axes fit, last").unwrap();
    let open = |loss: Loss, data: &Dataset| {
        Objective::new(&case.network, data, ObjectiveOptions { dtype: DType::F64, ..ObjectiveOptions::new(loss) }).err()
    };
    let error = open(Loss::cross_entropy(), &case.data).unwrap();
    assert!(error.to_string().contains("outputs of shape [1, 3, 3]") && error.hint().unwrap().contains("--class-axis"));
    let weighted = |weight: &[f64]| {
        serde_json::from_value(json!({"kind": "cross_entropy", "class_axis": 1, "weight": weight})).unwrap()
    };
    let error = open(weighted(&[1.0, 2.0]), &case.data).unwrap().to_string();
    assert!(error.ends_with("there are 2 weights for 3 classes"), "{error}");
    case.data.targets = Targets::Tokens { labels: vec![-100; 21], sample_shape: vec![3], num_classes: 0 };
    let error = open(weighted(&[1.0; 3]), &case.data).unwrap().to_string();
    assert!(error.contains("no target counts"), "{error}");
    case.data.targets = Targets::Tokens { labels: vec![7; 21], sample_shape: vec![3], num_classes: 8 };
    let error = open(weighted(&[1.0; 3]), &case.data).unwrap().to_string();
    assert!(error.contains("row 0 has label 7, but the model has 3 classes"), "{error}");
    case.data.targets = Targets::Values { values: vec![0.5; 14], sample_shape: vec![2] };
    let error = open(Loss::Mse {}, &case.data).unwrap().to_string();
    assert!(error.contains("real targets [N, 2] for outputs of shape [1, 3, 3]"), "{error}");
}

/// Files of earlier versions are read, and say nothing that they did not say before; what is not known is refused.
#[test]
fn descriptions_stay_readable_and_refuse_unknown_fields() {
    for text in [
        r#"{"kind":"cross_entropy","label_smoothing":0.1}"#,
        r#"{"kind":"cross_entropy","label_smoothing":0.0}"#,
        r#"{"kind":"mse"}"#,
        r#"{"kind":"bce_with_logits"}"#,
        r#"{"kind":"program"}"#,
    ] {
        let loss: Loss = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&loss).unwrap(), text);
    }
    assert_eq!(serde_json::from_str::<Loss>(r#"{"kind":"cross_entropy"}"#).unwrap(), Loss::cross_entropy());
    for (text, part) in [
        (
            r#"{"kind":"cross_entropy","label_smooting":0.5}"#,
            "`label_smooting`, expected one of `weight`, `ignore_index`",
        ),
        (r#"{"kind":"mse","reduction":"sum"}"#, "`reduction`"),
        (r#"{"kind":"huber","beta":1}"#, "`beta`, expected `delta`"),
        (r#"{"kind":"cross_entropie"}"#, "`cross_entropie`"),
    ] {
        let error = serde_json::from_str::<Loss>(text).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
}
