//! What does not fit is an error that names the place, never a panic.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use candle_core::{DType, Device, Tensor};
use flatness::Error;
use flatness::curvature::{Curvature, CurvatureOperator};
use flatness::data::{Dataset, Inputs, Targets};
use flatness::formats::Architecture;
use flatness::objective::{Objective, ObjectiveOptions};
use flatness::operator::LinearOperator;
use flatness::program::ProgramError;
use flatness::program::{BatchNormMode, Loss, Network};

use crate::support::{Problem, random, uniform, vector};

fn classes(labels: &[u32], num_classes: usize) -> Targets {
    Targets::Classes { labels: labels.to_vec(), num_classes }
}

fn dataset(shape: &[usize], targets: Targets) -> Dataset {
    let rows = match &targets {
        Targets::Classes { labels, .. } => labels.len(),
        Targets::Tokens { labels, sample_shape, .. } => labels.len() / sample_shape.iter().product::<usize>(),
        Targets::Values { values, sample_shape } => values.len() / sample_shape.iter().product::<usize>(),
    };
    let inputs = Inputs::Float64(uniform(&mut random(41), rows * shape.iter().product::<usize>(), -1.0, 1.0));
    Dataset::new("test".into(), shape.to_vec(), inputs, targets, None).unwrap()
}

/// From text to a gradient, in eval or training mode; zeros and ones for the buffers.
fn run(layers: &str, data: &Dataset, loss: Loss, batch_norm: BatchNormMode) -> Result<f64, Error> {
    let architecture = Architecture::from_json(&format!("{{\"layers\": {layers}}}"), "test")?;
    let ones = |(name, shape): (String, Vec<usize>)| Ok((name, Tensor::ones(shape, DType::F64, &Device::Cpu)?));
    let buffers = architecture.buffers()?.into_iter().map(ones).collect::<Result<HashMap<_, _>, Error>>()?;
    let network = architecture.network(buffers)?;
    let options = ObjectiveOptions { dtype: DType::F64, batch_norm, ..ObjectiveOptions::new(loss) };
    let objective = Objective::new(&network, data, options)?;
    let theta = vector(&uniform(&mut random(42), objective.dim(), -0.5, 0.5));
    Ok(objective.gradient(&theta, &mut ())?.evaluation.loss)
}

const CROSS_ENTROPY: Loss = Loss::cross_entropy();

/// Layers for images `[2, 5, 6]`, the place that the error must name, and a part of its text.
#[rustfmt::skip]
const MISFITS: &[(&str, &str, &str)] = &[
    (r#"[{"kind": "conv2d", "in": 2, "out": 3, "kernel": 7, "weight": "w"}]"#, "layers[0]", "window of 7"),
    (r#"[{"kind": "conv2d", "in": 2, "out": 3, "kernel": [3, 4], "dilation": 2, "weight": "w"}]"#, "layers[0]", "7"),
    (r#"[{"kind": "relu"}, {"kind": "conv2d", "in": 3, "out": 3, "kernel": 1, "weight": "w"}]"#, "layers[1]", "3, H, W"),
    (r#"[{"kind": "conv2d", "in": 2, "out": 3, "kernel": 1, "stride": 0, "weight": "w"}]"#, "layers[0]", "stride"),
    (r#"[{"kind": "conv2d", "in": 2, "out": 3, "kernel": 0, "weight": "w"}]"#, "layers[0]", "kernel"),
    (r#"[{"kind": "conv2d", "in": 2, "out": 3, "kernel": [1, 2], "dilation": [1, 0], "weight": "w"}]"#, "layers[0]", "dilation"),
    (r#"[{"kind": "conv2d", "in": 2, "out": 3, "kernel": 1, "groups": 2, "weight": "w"}]"#, "layers[0]", "groups"),
    (r#"[{"kind": "conv2d", "in": 2, "out": 3, "kernel": 1, "groups": 0, "weight": "w"}]"#, "layers[0]", "groups"),
    (r#"[{"kind": "conv2d", "in": 2, "out": 0, "kernel": 1, "weight": "w"}]"#, "layers[0]", "at least 1"),
    (r#"[{"kind": "flatten"}, {"kind": "linear", "in": 60, "out": 0, "weight": "w"}]"#, "layers[1]", "at least 1"),
    (r#"[{"kind": "flatten"}, {"kind": "linear", "in": 61, "out": 3, "weight": "w"}]"#, "layers[1]", "61"),
    (r#"[{"kind": "batch_norm2d", "channels": 3, "running_mean": "m", "running_var": "v"}]"#, "layers[0]", "3"),
    (r#"[{"kind": "group_norm", "groups": 3, "channels": 2}]"#, "layers[0]", "groups"),
    (r#"[{"kind": "group_norm", "groups": 0, "channels": 2}]"#, "layers[0]", "groups"),
    (r#"[{"kind": "group_norm", "groups": 1, "channels": 4}]"#, "layers[0]", "4"),
    (r#"[{"kind": "layer_norm", "dim": 5}]"#, "layers[0]", "5"),
    (r#"[{"kind": "patch_embedding", "in": 2, "dim": 4, "patch": 2, "weight": "w"}]"#, "layers[0]", "do not tile"),
    (r#"[{"kind": "patch_embedding", "in": 2, "dim": 4, "patch": 0, "weight": "w"}]"#, "layers[0]", "at least 1"),
    (r#"[{"kind": "patch_embedding", "in": 3, "dim": 4, "patch": 1, "weight": "w"}]"#, "layers[0]", "3, H, W"),
    (r#"[{"kind": "class_token", "dim": 6, "token": "t"}]"#, "layers[0]", "tokens [N, T, 6]"),
    (r#"[{"kind": "sequence", "layers": [{"kind": "attention", "heads": 1}]}]"#, "layers[0].layers[0]", "tokens"),
    (r#"[{"kind": "patch_embedding", "in": 2, "dim": 4, "patch": [5, 2], "weight": "w"}, {"kind": "attention", "heads": 1}]"#, "layers[1]", "1 heads"),
    (r#"[{"kind": "patch_embedding", "in": 2, "dim": 6, "patch": [5, 2], "weight": "w"}, {"kind": "attention", "heads": 0}]"#, "layers[1]", "0 heads"),
    (r#"[{"kind": "patch_embedding", "in": 2, "dim": 6, "patch": [5, 2], "weight": "w"}, {"kind": "select_token", "index": 3}]"#, "layers[1]", "no token 3"),
    (r#"[{"kind": "patch_embedding", "in": 2, "dim": 6, "patch": [5, 2], "weight": "w"}, {"kind": "position_embedding", "tokens": 4, "embedding": "p"}]"#, "layers[1]", "4 tokens"),
    (r#"[{"kind": "max_pool2d", "kernel": 6}]"#, "layers[0]", "window of 6"),
    (r#"[{"kind": "max_pool2d", "kernel": 2, "padding": 2}]"#, "layers[0]", "padding"),
    (r#"[{"kind": "avg_pool2d", "kernel": 2, "stride": 0}]"#, "layers[0]", "stride"),
    (r#"[{"kind": "avg_pool2d", "kernel": 0}]"#, "layers[0]", "kernel"),
    (r#"[{"kind": "flatten"}, {"kind": "avg_pool2d", "kernel": 1}]"#, "layers[1]", "images"),
    (r#"[{"kind": "flatten"}, {"kind": "global_avg_pool2d"}]"#, "layers[1]", "images"),
    (r#"[{"kind": "subsample_pad", "in": 2, "out": 1, "stride": 1}]"#, "layers[0]", "out"),
    (r#"[{"kind": "subsample_pad", "in": 2, "out": 2, "stride": 0}]"#, "layers[0]", "stride"),
    (r#"[{"kind": "residual", "main": [{"kind": "max_pool2d", "kernel": 2}]}]"#, "layers[0]", "shortcut"),
    (r#"[{"kind": "residual", "main": [{"kind": "relu"}, {"kind": "max_pool2d", "kernel": 9}]}]"#, "layers[0].main[1]", "9"),
    (r#"[{"kind": "residual", "main": [], "shortcut": [{"kind": "flatten"}]}]"#, "layers[0]", "shortcut"),
    (r#"[{"kind": "concat", "branches": [[], [{"kind": "max_pool2d", "kernel": 2}]]}]"#, "layers[0]", "join"),
    (r#"[{"kind": "concat", "branches": [[], [{"kind": "flatten"}]]}]"#, "layers[0]", "join"),
    (r#"[{"kind": "concat", "axis": 4, "branches": [[], []]}]"#, "layers[0]", "axis 4"),
    (r#"[{"kind": "concat", "axis": 0, "branches": [[], []]}]"#, "layers[0]", "axis 0"),
    (r#"[{"kind": "concat", "branches": [[{"kind": "max_pool2d", "kernel": 9}]]}]"#, "layers[0].branches[0][0]", "9"),
    (r#"[{"kind": "dropout", "p": 1.5}]"#, "layers[0]", "p"),
    (r#"[{"kind": "dropout", "p": -0.5}]"#, "layers[0]", "p"),
];

#[test]
fn misfits_name_the_place() {
    let data = dataset(&[2, 5, 6], classes(&[0, 1, 2], 3));
    for &(layers, place, part) in MISFITS {
        match run(layers, &data, CROSS_ENTROPY, BatchNormMode::Eval) {
            Err(Error::Program(error @ ProgramError::Shape { .. })) => {
                let ProgramError::Shape { at, .. } = &error else { unreachable!("matched above") };
                assert_eq!(at, place, "{layers}: {error}");
                assert!(error.to_string().contains(part), "{layers}: {error}");
                assert!(error.hint().is_some());
            }
            other => panic!("{layers} gave {other:?}"),
        }
    }
}

/// Texts that are refused before they run, or numbers that no machine can hold.
#[rustfmt::skip]
const MALFORMED: &[&str] = &[
    "[]",
    "3",
    "[3]",
    "[{}]",
    r#"[{"kind": "convv2d"}]"#,
    r#"[{"kind": "relu", "extra": 1}]"#,
    r#"[{"kind": "residual"}]"#,
    r#"[{"kind": "residual", "main": 3}]"#,
    r#"[{"kind": "residual", "main": [], "shortcut": {}}]"#,
    r#"[{"kind": "concat", "branches": []}]"#,
    r#"[{"kind": "concat"}]"#,
    r#"[{"kind": "concat", "branches": [3]}]"#,
    r#"[{"kind": "concat", "axis": -1, "branches": [[]]}]"#,
    r#"[{"kind": "concat", "axis": 18446744073709551615, "branches": [[], []]}]"#,
    r#"[{"kind": "conv2d", "in": -2, "out": 3, "kernel": 1, "weight": "w"}]"#,
    r#"[{"kind": "conv2d", "in": 2, "out": 3, "kernel": [1, 1, 1], "weight": "w"}]"#,
    r#"[{"kind": "conv2d", "in": 2, "out": 3, "kernel": 1.5, "weight": "w"}]"#,
    r#"[{"kind": "linear", "in": 6, "out": 3}]"#,
    r#"[{"kind": "linear", "in": 6, "out": 3, "weight": "w", "bias": "w"}]"#,
    r#"[{"kind": "flatten"}, {"kind": "linear", "in": 4294967296, "out": 4294967296, "weight": "w"}]"#,
    r#"[{"kind": "flatten"}, {"kind": "linear", "in": 60, "out": 18446744073709551615, "weight": "w"}]"#,
    r#"[{"kind": "flatten"}, {"kind": "linear", "in": 60, "out": 576460752303423488, "weight": "w"}]"#,
    r#"[{"kind": "conv2d", "in": 2, "out": 9223372036854775808, "kernel": 1, "weight": "w"}]"#,
    r#"[{"kind": "conv2d", "in": 2, "out": 1, "kernel": 4294967296, "padding": 2147483648, "weight": "w"}]"#,
    r#"[{"kind": "conv2d", "in": 2, "out": 1, "kernel": 1, "padding": 9223372036854775808, "weight": "w"}]"#,
    r#"[{"kind": "conv2d", "in": 2, "out": 1, "kernel": 1, "padding": 4611686018427387904, "weight": "w"}]"#,
    r#"[{"kind": "conv2d", "in": 2, "out": 1, "kernel": 3, "dilation": 9223372036854775808, "weight": "w"}]"#,
    r#"[{"kind": "conv2d", "in": 2, "out": 2, "kernel": 1, "groups": 18446744073709551615, "weight": "w"}]"#,
    r#"[{"kind": "max_pool2d", "kernel": 9223372036854775808, "padding": 4611686018427387904}]"#,
    r#"[{"kind": "avg_pool2d", "kernel": 9223372036854775809, "padding": 4611686018427387904}]"#,
    r#"[{"kind": "subsample_pad", "in": 2, "out": 4611686018427387904, "stride": 1}]"#,
    r#"[{"kind": "subsample_pad", "in": 2, "out": 1099511627776, "stride": 1}]"#,
    r#"[{"kind": "subsample_pad", "in": 2, "out": 2, "stride": 18446744073709551615}, {"kind": "flatten"}]"#,
    r#"[{"kind": "batch_norm2d", "channels": 0, "running_mean": "m", "running_var": "v"}]"#,
    r#"[{"kind": "batch_norm2d", "channels": 4611686018427387904, "running_mean": "m", "running_var": "v"}]"#,
    r#"[{"kind": "group_norm", "groups": 1, "channels": 0}]"#,
    r#"[{"kind": "layer_norm", "dim": 0}]"#,
    r#"[{"kind": "class_token", "token": "t"}]"#,
    r#"[{"kind": "position_embedding", "embedding": "p"}]"#,
    r#"[{"kind": "patch_embedding", "in": 2, "dim": 2147483647, "patch": 65536, "weight": "w"}, {"kind": "class_token", "token": "t"}]"#,
    r#"[{"kind": "transformer_block", "prefix": "b", "dim": 6, "heads": 0, "mlp_dim": 4}]"#,
    r#"[{"kind": "transformer_block", "prefix": "b", "dim": 2147483647, "heads": 1, "mlp_dim": 2147483647}]"#,
    r#"[{"kind": "transformer_block", "prefix": "b", "dim": 6, "heads": 1, "mlp_dim": 4, "norm": "none"}]"#,
    r#"[{"kind": "transformer_block", "prefix": "b", "dim": 6, "heads": 1, "mlp_dim": 4, "colour": 1}]"#,
    r#"[{"kind": "sequence"}]"#,
    r#"[{"kind": "sequence", "layers": []}]"#,
    r#"[{"kind": "relu"}]"#,
];

#[test]
fn malformed_architectures_are_errors_and_never_panics() {
    let data = dataset(&[2, 5, 6], classes(&[0, 1, 2], 3));
    let empty = dataset(&[0, 5, 6], classes(&[0, 1, 2], 3));
    let texts = MALFORMED.iter().chain(MISFITS.iter().map(|(text, ..)| text));
    for (text, data) in texts.flat_map(|text| [(text, &data), (text, &empty)]) {
        for mode in [BatchNormMode::Eval, BatchNormMode::Train] {
            match catch_unwind(AssertUnwindSafe(|| run(text, data, CROSS_ENTROPY, mode))) {
                Ok(Err(error)) => assert!(!error.to_string().is_empty()),
                Ok(Ok(loss)) => panic!("{text} ran, with the loss {loss}"),
                Err(_) => panic!("{text} panicked"),
            }
        }
    }
}

const HEAD: &str = r#"[{"kind": "linear", "in": 2, "out": 3, "weight": "w", "bias": "b"}]"#;

#[test]
fn targets_that_a_loss_cannot_take() {
    let labels = dataset(&[2], classes(&[0, 1, 2], 3));
    let real = dataset(&[2], Targets::Values { values: vec![0.5; 6], sample_shape: vec![2] });
    let negative = dataset(&[2], Targets::Values { values: vec![-0.5; 9], sample_shape: vec![3] });
    for (data, loss, word) in [
        (&labels, Loss::Mse {}, "class labels"),
        (&labels, Loss::bce_with_logits(), "class labels"),
        (&real, CROSS_ENTROPY, "real targets"),
        (&real, Loss::Mse {}, "real targets"),
    ] {
        match run(HEAD, data, loss.clone(), BatchNormMode::Eval) {
            Err(Error::Program(error @ ProgramError::Targets { .. })) => {
                assert!(error.to_string().contains(word), "{error}");
                assert!(error.hint().is_some());
            }
            other => panic!("{loss:?} gave {other:?}"),
        }
    }
    let error = run(HEAD, &negative, CROSS_ENTROPY, BatchNormMode::Eval).unwrap_err();
    assert_eq!(error.to_string(), "loss: the target probabilities of row 0 contain -0.5");
    // Labels that no output stands for are found before the first pass, whichever row they are in.
    let wide = dataset(&[2], classes(&[0, 1, 3], 4));
    let error = run(HEAD, &wide, CROSS_ENTROPY, BatchNormMode::Eval).unwrap_err();
    assert_eq!(error.to_string(), "data: row 2 has label 3, but the model has 3 classes");
}

#[test]
fn one_logit_tells_two_classes_apart() {
    let layers = r#"[{"kind": "linear", "in": 2, "out": 1, "weight": "w", "bias": "b"}]"#;
    let data = dataset(&[2], classes(&[0, 1, 1, 0], 2));
    let from_labels = run(layers, &data, Loss::bce_with_logits(), BatchNormMode::Eval).unwrap();
    let real = dataset(&[2], Targets::Values { values: vec![0.0, 1.0, 1.0, 0.0], sample_shape: vec![1] });
    assert_eq!(run(layers, &real, Loss::bce_with_logits(), BatchNormMode::Eval).unwrap(), from_labels);
    let three = dataset(&[2], classes(&[0, 1, 2], 3));
    assert!(run(layers, &three, Loss::bce_with_logits(), BatchNormMode::Eval).is_err());
}

#[test]
fn outputs_that_are_no_matrix() {
    let data = dataset(&[2, 5, 6], classes(&[0, 1, 1], 2));
    let error = run(r#"[{"kind": "relu"}]"#, &data, CROSS_ENTROPY, BatchNormMode::Eval).unwrap_err();
    assert!(matches!(&error, Error::Program(ProgramError::Targets { outputs, .. }) if *outputs == [1, 2, 5, 6]));
}

#[test]
fn missing_buffers_and_broken_weights() {
    let layers = r#"[
        {"kind": "batch_norm1d", "channels": 2, "running_mean": "m", "running_var": "v"},
        {"kind": "linear", "in": 2, "out": 3, "weight": "w"}, {"kind": "relu"},
        {"kind": "linear", "in": 3, "out": 3, "weight": "u"}]"#;
    let mut problem = Problem::new(layers, &[2], 4, CROSS_ENTROPY, 43);
    let whole = problem.network.buffers().clone();
    let with = |network: &Network, v: Option<Tensor>| {
        let mut buffers = whole.clone();
        match v {
            Some(v) => buffers.insert("v".into(), v),
            None => buffers.remove("v"),
        };
        network.with_buffers(buffers).unwrap()
    };
    problem.network = with(&problem.network, None);
    let error = Objective::new(&problem.network, &problem.data, problem.options(DType::F64)).err().unwrap();
    assert!(matches!(&error, Error::Program(ProgramError::MissingTensor { name }) if name == "v"), "{error}");
    problem.network = with(&problem.network, Some(Tensor::ones(3, DType::F64, &Device::Cpu).unwrap()));
    assert!(Objective::new(&problem.network, &problem.data, problem.options(DType::F64)).is_err(), "3 variances for 2");
    problem.network = problem.network.with_buffers(whole).unwrap();

    // A broken weight is found at its first pass, behind a ReLU too.
    let objective = problem.objective(DType::F64);
    for broken in [f64::NAN, f64::INFINITY] {
        let mut theta = problem.theta.clone();
        theta[0] = broken;
        let error = objective.gradient(&vector(&theta), &mut ()).unwrap_err();
        assert!(matches!(error, Error::Program(ProgramError::NonFinite { .. })), "{error}");
        let operator = CurvatureOperator::new(&objective, &vector(&theta), Curvature::Hessian).unwrap();
        let block = Tensor::ones((2, problem.dim()), DType::F64, &Device::Cpu).unwrap();
        assert!(operator.apply(&block, &mut ()).is_err());
    }
}

#[test]
fn batch_statistics_need_two_values() {
    let layers = r#"[
        {"kind": "batch_norm1d", "channels": 2, "running_mean": "m", "running_var": "v"},
        {"kind": "linear", "in": 2, "out": 3, "weight": "w"}]"#;
    let one = dataset(&[2], classes(&[1], 3));
    let error = run(layers, &one, CROSS_ENTROPY, BatchNormMode::Train).unwrap_err();
    assert!(matches!(&error, Error::Program(ProgramError::Shape { at, .. }) if at == "layers[0]"), "{error}");
    assert!(run(layers, &one, CROSS_ENTROPY, BatchNormMode::Eval).is_ok());
}

#[test]
fn vectors_and_rows_of_the_wrong_number() {
    let problem = Problem::new(HEAD, &[2], 4, CROSS_ENTROPY, 44);
    let objective = problem.objective(DType::F64);
    let operator = CurvatureOperator::new(&objective, &vector(&problem.theta), Curvature::Ggn).unwrap();
    for shape in [vec![9], vec![1, 8], vec![2, 10], vec![0, 9], vec![1, 1, 9]] {
        let block = Tensor::zeros(shape.as_slice(), DType::F64, &Device::Cpu).unwrap();
        match operator.apply(&block, &mut ()) {
            Err(Error::VectorShape { got, dim: 9 }) => assert_eq!(got, shape),
            other => panic!("{shape:?} gave {:?}", other.map(|product| product.block)),
        }
    }
    let short = vector(&problem.theta[1..]);
    assert!(objective.gradient(&short, &mut ()).is_err());
    assert!(CurvatureOperator::new(&objective, &short, Curvature::Hessian).is_err());
    assert!(objective.batch(&[0, 4]).is_err());
    let none = dataset(&[2], classes(&[], 3));
    assert!(Objective::new(&problem.network, &none, problem.options(DType::F64)).is_err());
}
