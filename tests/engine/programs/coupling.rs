//! Rows that touch one another.

use candle_core::DType;
use flatness::curvature::{Curvature, ExactParams};
use flatness::objective::Objective;
use flatness::program::{Add, BatchNormMode, Linear, Matmul, Mean, Network, Permute, Size, Softmax, Sum, View};

use super::{CROSS_ENTROPY, Writer, differences, options, rows, theta};
use crate::support::*;

/// Programs whose rows touch one another, and a part of the reason; the last two do not.
fn coupled() -> Vec<(Network, Option<&'static str>)> {
    let linear = || Writer::new(&[("w", &[3, 4])]).line("y", Linear {}, &["x", "w", "-"]);
    let along = |dim| Softmax { dim };
    let mean = |dim: i64, keepdim| Mean { dim: vec![dim], keepdim };
    vec![
        (linear().line("m", mean(0, true), &["y"]).line("z", Add {}, &["y", "m"]).output("z"), Some("axis 0")),
        (linear().line("z", along(0), &["y"]).output("z"), Some("axis 0")),
        // Each row's scores with all others, as a contrastive loss has them.
        (
            linear()
                .line("t", Permute { dims: vec![1, 0] }, &["y"])
                .line("s", Matmul {}, &["y", "t"])
                .line("z", Matmul {}, &["s", "y"])
                .output("z"),
            Some("each row with every other"),
        ),
        // The same numbers, cut into other rows.
        (
            linear()
                .line("t", Permute { dims: vec![1, 0] }, &["y"])
                .line("z", View { size: vec![Size::rows(), Size::fixed(3)] }, &["t"])
                .output("z"),
            Some("cuts rows apart"),
        ),
        // Tokens of all rows as one axis, and back: nothing is mixed.
        (
            Writer::new(&[("w", &[3, 2])])
                .line("t", View { size: vec![Size::rows() * Size::fixed(2), Size::fixed(2)] }, &["x"])
                .line("y", Linear {}, &["t", "w", "-"])
                .line("u", View { size: vec![Size::rows(), Size::fixed(2), Size::fixed(3)] }, &["y"])
                .line("z", Sum { dim: vec![1], keepdim: false }, &["u"])
                .output("z"),
            None,
        ),
        // The batch as the second axis for a while.
        (
            linear()
                .line("t", Permute { dims: vec![1, 0] }, &["y"])
                .line("s", along(0), &["t"])
                .line("z", Permute { dims: vec![1, 0] }, &["s"])
                .output("z"),
            None,
        ),
    ]
}

#[test]
fn coupled_rows_are_found_and_go_as_one_batch() {
    let data = rows(&[4], 9);
    for (index, (network, reason)) in coupled().into_iter().enumerate() {
        let objective = Objective::new(&network, &data, options(CROSS_ENTROPY)).unwrap();
        let found = objective.coupling().map(ToString::to_string);
        assert_eq!(found.is_some(), reason.is_some(), "{index}: {found:?}");
        if let (Some(found), Some(reason)) = (&found, reason) {
            assert!(found.contains(reason), "{index}: {found}");
        }
        let theta = theta(&network);
        let dense = dense(&objective, &theta, Curvature::Hessian);
        let expected = differences(&objective, &theta);
        let tolerance = DIFFERENCE_TOLERANCE * largest(&expected).max(1.0);
        for (got, expected) in dense.iter().zip(&expected) {
            assert!((got - expected).abs() <= tolerance, "{index}: {got} {expected}");
        }
        if let Some(found) = found {
            let error = objective.exact_trace(&vector(&theta), &[], &ExactParams::default(), &mut ()).unwrap_err();
            assert!(error.to_string().contains(&found), "{error}");
        }
    }
}

#[test]
fn batch_statistics_couple_rows_in_training_alone() {
    let layers = r#"[{"kind": "batch_norm1d", "channels": 2, "running_mean": "m", "running_var": "v"},
        {"kind": "linear", "in": 2, "out": 3, "weight": "w"}]"#;
    let mut problem = Problem::new(layers, &[2], 5, CROSS_ENTROPY, 95);
    assert!(problem.objective(DType::F64).coupling().is_none());
    problem.train = true;
    let text = problem.objective(DType::F64).coupling().unwrap().to_string();
    assert!(text.starts_with("layers[0] (batch_norm2d): ") && text.contains("whole batch"), "{text}");
    assert_eq!(problem.options(DType::F64).batch_norm, BatchNormMode::Train);
}
