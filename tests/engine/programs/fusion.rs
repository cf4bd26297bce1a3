//! Fused programs against the same without fusion.

use std::collections::HashMap;

use candle_core::{DType, Device, Tensor};
use flatness::curvature::Curvature;
use flatness::objective::Objective;
use flatness::program::{Add, Clamp, Fused, Linear, Mul, Network, Node, Op, Program, fuse};

use super::{CROSS_ENTROPY, Writer, gradient, options, rows, theta};
use crate::support::*;

#[test]
fn fusion_changes_results_by_rounding_alone() {
    for (layers, shape, fused_nodes) in [
        (
            r#"[{"kind": "conv2d", "in": 2, "out": 3, "kernel": 3, "padding": 1, "weight": "a.w", "bias": "a.b"}, {"kind": "relu"},
                {"kind": "residual", "main": [
                    {"kind": "conv2d", "in": 3, "out": 3, "kernel": 3, "padding": 1, "weight": "b.w"},
                    {"kind": "batch_norm2d", "channels": 3, "weight": "n.w", "bias": "n.b", "running_mean": "n.mean", "running_var": "n.var"},
                    {"kind": "relu"},
                    {"kind": "conv2d", "in": 3, "out": 3, "kernel": 3, "padding": 1, "weight": "c.w"},
                    {"kind": "batch_norm2d", "channels": 3, "weight": "o.w", "bias": "o.b", "running_mean": "o.mean", "running_var": "o.var"}]},
                {"kind": "relu"}, {"kind": "global_avg_pool2d"}, {"kind": "linear", "in": 3, "out": 3, "weight": "f.w", "bias": "f.b"}]"#,
            &[2, 6, 5][..],
            3,
        ),
        // Used twice, a normalisation must not be joined with the ReLU behind it; nor the sum of two normalisations twice.
        (
            r#"[{"kind": "residual",
                 "main": [{"kind": "batch_norm2d", "channels": 2, "weight": "n.w", "bias": "n.b", "running_mean": "n.mean", "running_var": "n.var"},
                          {"kind": "residual", "main": [{"kind": "relu"}]}],
                 "shortcut": [{"kind": "batch_norm2d", "channels": 2, "running_mean": "o.mean", "running_var": "o.var"}]},
                {"kind": "tanh"}, {"kind": "flatten"}, {"kind": "linear", "in": 60, "out": 3, "weight": "f.w", "bias": "f.b"}]"#,
            &[2, 6, 5],
            1,
        ),
    ] {
        for train in [false, true] {
            let mut problem = Problem::new(layers, shape, 7, CROSS_ENTROPY, 93);
            problem.train = train;
            let count =
                |program: &Program| program.nodes.iter().filter(|n| matches!(n.operation, Op::Fused(_))).count();
            assert_eq!((count(problem.network.program()), count(problem.network.fused())), (0, fused_nodes));
            let plain = problem.network.unfused().unwrap();
            assert_eq!(count(plain.fused()), 0);
            let theta = &problem.theta;
            let block = Tensor::from_vec(
                uniform(&mut random(94), 2 * problem.dim(), -1.0, 1.0),
                (2, problem.dim()),
                &Device::Cpu,
            );
            let block = block.unwrap();
            let of = |network: &Network| {
                let objective = Objective::new(network, &problem.data, problem.options(DType::F64)).unwrap();
                let mut all = gradient(&objective, theta);
                for curvature in [Curvature::Hessian, Curvature::Ggn, Curvature::Residual] {
                    all.extend(products(&objective, theta, curvature, &block));
                }
                all
            };
            let (joined, apart) = (of(&problem.network), of(&plain));
            // Each pass that is joined saves two roundings of numbers of the results' size, over a few hundred additions.
            let tolerance = 512.0 * f64::EPSILON * largest(&joined);
            for (a, b) in joined.iter().zip(&apart) {
                assert!((a - b).abs() <= tolerance, "{a:e} {b:e}, tolerance {tolerance:e}");
            }
        }
    }
}

#[test]
fn fusing_twice_changes_nothing_and_every_value_keeps_its_name() {
    let architecture = flatness::formats::family("resnet-cifar:8", &[3, 8, 8], 4).unwrap();
    let network = architecture.network(HashMap::new()).unwrap();
    let once = fuse(network.program());
    assert_eq!(fuse(&once).nodes, once.nodes);
    let is_fused = |node: &&Node| matches!(&node.operation, Op::Fused(Fused { relu: true, .. }));
    // The stem, two per block of three: each ends in a ReLU.
    assert_eq!(once.nodes.iter().filter(is_fused).count(), 7);
    let names: Vec<&String> = network.program().nodes.iter().map(|node| &node.name).collect();
    assert!(once.nodes.iter().all(|node| names.contains(&&node.name)));
}

/// `hardswish` and `hardsigmoid` as the front ends write them, each joined to one operation, and left alone where a part of them
/// is used elsewhere too.
#[test]
fn hard_gates_become_one_operation_and_stay_what_they_are() {
    let program = |reused: bool| {
        let writer = Writer::new(&[("a", &[5, 4]), ("b", &[3, 5])])
            .line("hidden", Linear {}, &["x", "a"])
            .line("wide", Mul {}, &["hidden", "4"])
            .line("shifted", Add {}, &["wide", "3"])
            .line("cut", Clamp { min: Some(0.0), max: Some(6.0), closed: false }, &["shifted"])
            .line("gate", Mul {}, &["cut", "0.16666666666666666"])
            .line("swish", Mul {}, &["wide", "gate"])
            .line("out", Linear {}, &["swish", "b"])
            .line("shifted2", Add {}, &["out", "3"])
            .line("cut2", Clamp { min: Some(0.0), max: Some(6.0), closed: false }, &["shifted2"])
            .line("gate2", Mul {}, &["cut2", "0.16666666666666666"]);
        let last = if reused { "shifted2" } else { "out" };
        writer.line("sum", Add {}, &["gate2", last]).output("sum")
    };
    let gates = |network: &Network| -> Vec<&'static str> {
        let names = network.fused().nodes.iter().map(|node| node.operation.name());
        names.filter(|name| ["hardswish", "hardsigmoid"].contains(name)).collect()
    };
    assert_eq!(gates(&program(false)), ["hardswish", "hardsigmoid"]);
    assert_eq!(gates(&program(true)), ["hardswish"]);
    let (network, data) = (program(false), rows(&[4], 9));
    let plain = network.unfused().unwrap();
    let theta = theta(&network);
    let block = Tensor::from_vec(uniform(&mut random(95), 2 * theta.len(), -1.0, 1.0), (2, theta.len()), &Device::Cpu);
    let of = |network: &Network| {
        let objective = Objective::new(network, &data, options(CROSS_ENTROPY)).unwrap();
        let mut all = gradient(&objective, &theta);
        for curvature in [Curvature::Hessian, Curvature::Ggn] {
            all.extend(products(&objective, &theta, curvature, block.as_ref().unwrap()));
        }
        all
    };
    let (joined, apart) = (of(&network), of(&plain));
    // A few roundings for each of the three factors, over sums of 9 rows and 5 channels.
    let tolerance = 256.0 * f64::EPSILON * largest(&joined);
    assert!(joined.iter().zip(&apart).all(|(a, b)| (a - b).abs() <= tolerance), "{joined:?} {apart:?}");
}
