//! Examples at the end of help texts.

pub(super) const ANALYZE: &str = "\
Examples:\n\
\x20 flatness analyze run/checkpoint.safetensors\n\
\x20 flatness analyze weights.pth --arch resnet18.pt2 --data cifar10:data --subset 2000\n\
\x20 flatness analyze net.safetensors --operator both --top 10 --layers --json";

pub(super) const SHARPNESS: &str = "\
Examples:\n\
\x20 flatness sharpness net.safetensors --batch 128";

pub(super) const LANDSCAPE: &str = "\
Examples:\n\
\x20 flatness landscape net.safetensors --out reports/plane\n\
\x20 flatness landscape a.safetensors b.safetensors --out reports/between";

pub(super) const ESTIMATE: &str = "\
Examples:\n\
\x20 flatness estimate net.safetensors --data cifar10:data --top 50";

pub(super) const COMPARE: &str = "\
Examples:\n\
\x20 flatness compare runs/sgd-0 runs/sgd-1 runs/sam-0 runs/sam-1 --baseline sgd\n\
\x20 flatness compare notebooks-out/noisy-labels-cpu --primary lambda_max,test_accuracy";

pub(super) const TRAIN: &str = "\
Examples:\n\
\x20 flatness train --model resnet-cifar:8 --data glyphs --epochs 5 --out runs/sgd\n\
\x20 flatness train --model cnn:8-16 --data mnist:data --optimizer sam:rho=0.1 --noise symmetric:0.2 --out runs/sam\n\
\x20 flatness train --resume --out runs/sam";

pub(super) const RUN: &str = "\
Examples:\n\
\x20 flatness run experiments/glyphs.toml --profile smoke\n\
\x20 flatness run grid.toml --jobs 4\n\
\x20 flatness run grid.toml --emit slurm > job.sh";

pub(super) const INFO: &str = "\
Examples:\n\
\x20 flatness info weights.pth\n\
\x20 flatness info net.pt2 --json";

/// The methods too.
pub(super) fn train() -> String {
    format!("{}\n{TRAIN}", crate::optim::help())
}
