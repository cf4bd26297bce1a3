//! Small runs for the tests of training.

use candle_core::{DType, Tensor};
use flatness::data::{DataSpec, Glyphs, Split};
use flatness::formats::{Architecture, family};
use flatness::plan::{NormStatistics, TrainConfig};
use flatness::train::{TrainOutcome, Training, train};

pub const MLP: &str = "mlp:24";
pub const BATCH_NORM: &str = "resnet-cifar:8,width=4";

/// Glyphs of a split.
pub fn glyphs(split: Split, count: usize) -> DataSpec {
    let mut spec = DataSpec::new(Glyphs.into());
    spec.split = split;
    spec.glyphs.count = Some(count);
    spec
}

/// A family on glyphs.
pub fn model(text: &str) -> Architecture {
    family(text, &[1, 16, 16], 10).unwrap()
}

/// Two epochs of four batches, the last one smaller.
pub fn short(optimizer: &str) -> TrainConfig {
    let mut config = TrainConfig {
        epochs: 2,
        batch_size: 32,
        learning_rate: 0.1,
        optimizer: optimizer.parse().unwrap(),
        ..TrainConfig::default()
    };
    config.execution.threads = 2;
    config
}

/// With the running statistics in the outcome.
pub fn running(config: TrainConfig) -> TrainConfig {
    TrainConfig { norm_statistics: NormStatistics::Running, ..config }
}

/// Training on 100 glyphs, tested on 50.
pub fn run(config: &TrainConfig, text: &str) -> TrainOutcome {
    let (data, test) = (glyphs(Split::Train, 100).load().unwrap(), glyphs(Split::Test, 50).load().unwrap());
    train(Training { test: Some(&test), ..Training::new(config, model(text), &data) }, &mut ()).unwrap()
}

/// The bits of all weights and buffers.
pub fn bits(outcome: &TrainOutcome) -> Vec<u64> {
    let mut names: Vec<&String> = outcome.network.buffers().keys().collect();
    names.sort();
    let tensors = std::iter::once(&outcome.theta).chain(names.into_iter().map(|name| &outcome.network.buffers()[name]));
    tensors.flat_map(values).map(f64::to_bits).collect()
}

/// All elements.
pub fn values(tensor: &Tensor) -> Vec<f64> {
    tensor.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}
