//! Training a part of a network: gradients at fixed tensors.

use candle_core::{DType, Tensor};
use flatness::autodiff::{Dual, ParamTensor, Saved, Tape, Value};
use flatness::data::TargetBatch;
use flatness::formats::family;
use flatness::program::{Loss, Network};
use flatness::program::{Mode, Parameters, per_sample_loss};
use flatness::train::initialise;

use crate::support::{random, tensor, values};

const LOSS: Loss = Loss::cross_entropy();

/// Operations recorded, and the gradient of each tensor.
fn run<V: Value>(network: &Network, params: &[V], fixed: &[bool], train: bool) -> (usize, Vec<Option<V>>) {
    let mode = if train { Mode::Train { draws: None } } else { Mode::Eval };
    let mut tape = Tape::<V>::new(Saved::Everything);
    let x = tensor(&mut random(71), &[3, 3, 16, 16], DType::F32);
    let output =
        network.forward_with_fixed(&mut tape, Parameters { values: params, fixed }, vec![x], mode).unwrap().output;
    let loss = per_sample_loss(&mut tape, &LOSS, &output, &TargetBatch::Classes(vec![1, 0, 3])).unwrap();
    let ones = loss.value().primal().unwrap().ones_like().unwrap();
    (tape.num_operations(), tape.backward(&loss, V::constant(ones)).unwrap())
}

fn network(text: &str) -> (Network, Vec<Tensor>) {
    let architecture = family(text, &[3, 16, 16], 4).unwrap();
    let one = |(name, shape): (String, Vec<usize>)| {
        let fill = if name.ends_with("var") { 1.0 } else { 0.0 };
        (name, Tensor::full(fill as f32, shape, &candle_core::Device::Cpu).unwrap())
    };
    let buffers = architecture.buffers().unwrap().into_iter().map(one).collect();
    let network = architecture.network(buffers).unwrap();
    let params = network.space().split(&initialise(&network, DType::F32, 3).unwrap()).unwrap();
    (network, params)
}

const CASES: [(&str, &str); 3] =
    [("resnet-cifar:8,width=4", "fc"), ("cnn:4-8", "fc"), ("vit:width=12,depth=2", "head")];

#[test]
fn the_other_gradients_are_equal_bit_for_bit() {
    for (text, head) in CASES {
        let (network, params) = network(text);
        let tensors = network.space().tensors();
        let is_head = |tensor: &ParamTensor| tensor.name.starts_with(head);
        let is_late = |tensor: &ParamTensor| {
            ["fc", "head", "norm", "layer3", "conv2", "blocks.1"].iter().any(|start| tensor.name.starts_with(start))
        };
        for train in [false, true] {
            let (whole, full) = run(&network, &params, &[], train);
            let trained: [&dyn Fn(&ParamTensor) -> bool; 3] =
                [&is_head, &is_late, &|tensor| tensor.name.ends_with("bias")];
            for trained in trained {
                let fixed: Vec<bool> = tensors.iter().map(|tensor| !trained(tensor)).collect();
                let (recorded, part) = run(&network, &params, &fixed, train);
                assert!(recorded < whole, "{text}");
                for ((tensor, full), part) in tensors.iter().zip(&full).zip(&part) {
                    match part {
                        None => assert!(!trained(tensor), "{text}: no gradient of {}", tensor.name),
                        Some(part) => {
                            assert!(trained(tensor), "{text}: {} is fixed", tensor.name);
                            assert_eq!(values(part), values(full.as_ref().unwrap()), "{text} {}", tensor.name);
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn nothing_below_the_first_free_tensor_is_recorded() {
    for (text, head) in CASES {
        let (network, params) = network(text);
        let fixed: Vec<bool> = network.space().tensors().iter().map(|tensor| !tensor.name.starts_with(head)).collect();
        let (recorded, _) = run(&network, &params, &fixed, false);
        // Of the last linear layer: two shapes, the product, the sum and its shape. Of the loss: a shift, exp, a sum, log,
        // the product with the targets, and the sum of the two.
        assert_eq!(recorded, 5 + 6, "{text}");
        let (none, _) = run(&network, &params, &vec![true; params.len()], false);
        assert_eq!(none, 0, "{text}: everything is fixed");
    }
}

#[test]
fn fixed_tensors_have_no_tangents() {
    let (network, params) = network("cnn:4-8");
    let is_head: Vec<bool> = network.space().tensors().iter().map(|tensor| tensor.name.starts_with("fc")).collect();
    let dual = |all: bool| -> Vec<Dual> {
        let pairs = params.iter().zip(&is_head).enumerate();
        let tangents =
            |index: usize, dims: &[usize]| tensor(&mut random(index as u64), &[&[2], dims].concat(), DType::F32);
        pairs
            .map(|(index, (primal, &head))| {
                let moves = head || all;
                Dual::new(Some(primal.clone()), moves.then(|| tangents(index, primal.dims())))
            })
            .collect()
    };
    let fixed: Vec<bool> = is_head.iter().map(|head| !head).collect();
    // The block of the head in the Hessian: the other tensors' tangents count as zero.
    let (_, restricted) = run(&network, &dual(true), &fixed, false);
    let (_, expected) = run(&network, &dual(false), &[], false);
    for (index, _) in is_head.iter().enumerate().filter(|(_, head)| **head) {
        let tangents = |gradients: &[Option<Dual>]| values(gradients[index].as_ref().unwrap().tangents().unwrap());
        assert_eq!(tangents(&restricted), tangents(&expected));
    }
}
