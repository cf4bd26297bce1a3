//! Networks exported from PyTorch give the same outputs here.
#![allow(clippy::print_stderr)] // a skipped test must say so

use std::path::Path;
use std::process::{Command, Output};

use candle_core::{DType, Tensor};
use flatness::autodiff::{Saved, Tape};
use flatness::checkpoint::{Checkpoint, TensorFile};
use flatness::program::Loss;
use flatness::program::Mode;

/// Between them, every layer kind, in PyTorch's usual ways of writing it.
const NETWORKS: &str = r#"
import torch
import torch.nn.functional as F
from torch import nn


def randomise(model):
    """Fresh values for everything: as made, biases and running statistics are 0 and 1, and hide mistakes."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
            if tensor.is_floating_point():
                values = torch.randn(tensor.shape, generator=generator) * (0.3 if tensor.ndim == 1 else 1.0)
                fan_in = max(tensor[0].numel(), 1)
                shift = 1.0 if tensor.ndim == 1 and name.endswith("weight") else 0.0
                tensor.copy_(0.5 + values.abs() if name.endswith("var") else values / fan_in**0.5 + shift)
    return model


class Plain(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 3, padding="same", dilation=2)
        self.bn1 = nn.BatchNorm2d(6, eps=1e-3)
        self.conv2 = nn.Conv2d(6, 8, (3, 5), stride=(2, 1), padding=(1, 2), bias=False)
        self.bn2 = nn.BatchNorm2d(8, affine=False)
        self.pool = nn.AvgPool2d(3, 2, 1, count_include_pad=False)
        self.conv3 = nn.Conv2d(8, 8, 3, padding=1)
        self.gelu = nn.GELU(approximate="tanh")
        self.fc1 = nn.Linear(16, 12)
        self.bn3 = nn.BatchNorm1d(12)
        self.drop = nn.Dropout(0.2)
        self.fc2 = nn.Linear(12, 12)
        self.norm = nn.LayerNorm(12)
        self.fc3 = nn.Linear(12, 12)
        self.fc3.weight = self.fc2.weight
        self.softplus = nn.Softplus()
        self.head = nn.Linear(12, 5, bias=False)

    def forward(self, x, scale=None):
        x = F.relu(self.bn1(self.conv1(x)), inplace=True)
        x = F.max_pool2d(x, 3, stride=2, padding=1)
        x = F.silu(self.bn2(self.conv2(x)))
        x = torch.sigmoid(self.conv3(self.pool(x)))
        x = F.adaptive_avg_pool2d(x, (2, 1)).view(x.size(0), -1)
        x = F.dropout(self.drop(self.gelu(self.bn3(self.fc1(x)))), 0.3, training=self.training)
        return self.head(F.gelu(self.softplus(self.fc3(self.norm(self.fc2(x)).tanh()))))


class Block(nn.Module):
    def __init__(self, inputs, outputs, stride, shortcut):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.new, self.stride, self.shortcut = outputs - inputs, stride, None
        if shortcut == "conv" and self.new:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x):
        out = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        if self.shortcut is not None:
            out += self.shortcut(x)
        elif self.new:
            small = x[:, :, :: self.stride, :: self.stride]
            out = torch.add(out, F.pad(small, (0, 0, 0, 0, self.new // 2, self.new - self.new // 2)))
        else:
            out = out + x
        return self.relu(out)


class ResNet(nn.Module):
    def __init__(self, shortcut):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(4)
        blocks = Block(4, 4, 1, shortcut), Block(4, 8, 2, shortcut), Block(8, 15, 2, shortcut)
        self.blocks = nn.Sequential(*blocks)
        self.fc = nn.Linear(15, 10)

    def forward(self, x):
        x = self.blocks(F.relu(self.bn1(self.conv1(x))))
        return self.fc(F.avg_pool2d(x, x.size()[3]).squeeze(-1).squeeze(-1))


class Preactivated(nn.Module):
    """The ReLU changes its input in place, before the sum uses it again."""

    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1)
        self.bn, self.relu = nn.BatchNorm2d(3), nn.ReLU(inplace=True)

    def forward(self, x):
        x = self.conv1(x)
        x = x + self.conv2(self.relu(x))
        return sum([x, x.tanh(), self.bn(x)]).mean((2, 3))


class Inception(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 1)
        self.deep = nn.Sequential(
            nn.Conv2d(6, 6, 3, padding=1, groups=3), nn.GroupNorm(3, 6), nn.ReLU(),
            nn.Conv2d(6, 6, 3, padding=2, dilation=2, groups=6), nn.Identity(),
        )
        self.pooled = nn.Sequential(nn.MaxPool2d(3, 1, 1), nn.Conv2d(6, 4, 1))
        self.dense = nn.ModuleList(nn.Conv2d(10 + 2 * i, 2, 3, padding=1) for i in range(12))
        self.pool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(44, 4)

    def forward(self, x):
        x = self.stem(x)
        y = torch.cat([self.deep(x), self.pooled(x)], 1)
        features = [y]
        for layer in self.dense:
            features.append(torch.tanh(layer(torch.cat(features, 1))))
        y = torch.cat([torch.cat(features, 1), y], dim=-3)
        return self.fc(torch.flatten(self.pool(y), 1))


def plain(): return Plain()
def resnet(): return nn.DataParallel(randomise(ResNet("conv")))


class Branching(nn.Module):
    """What it computes depends on the values: no list of operations is the same for all inputs."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 4)

    def forward(self, x):
        return self.fc(x) if x.sum() > 0 else x


def branching(): return Branching()
"#;

const SCRIPT: &str = r#"
import sys
tools, out = sys.argv[1:]
sys.path[:0] = [tools, out]
import torch
from torch import nn
from export_torch import export
from networks import *
x = torch.randn(5, 3, 12, 12, generator=torch.Generator().manual_seed(3))
plain = randomise(Plain())
torch.save({"state_dict": plain.state_dict()}, out + "/plain.pth")
export(plain, x, out + "/plain.safetensors", loss=nn.CrossEntropyLoss(label_smoothing=0.1))
export(randomise(ResNet("conv")), x, out + "/conv.safetensors", name="a name")
export(randomise(ResNet("pad")).double(), x.double(), out + "/pad.safetensors", loss="mse")
export(randomise(Preactivated()), x, out + "/preactivated.safetensors", loss={"kind": "bce_with_logits"})
export(randomise(Inception()), x, out + "/inception.safetensors")
"#;

/// The interpreter named by FLATNESS_PYTHON, else python3; `None`, with a note, where it lacks PyTorch.
fn python() -> Option<String> {
    let program = std::env::var("FLATNESS_PYTHON").unwrap_or_else(|_| "python3".into());
    let probe = Command::new(&program).args(["-c", "import numpy, torch"]).output();
    if probe.is_ok_and(|output| output.status.success()) {
        return Some(program);
    }
    eprintln!("skipped: {program} has no torch and numpy; name one that has in FLATNESS_PYTHON");
    None
}

/// Leaves no `__pycache__` beside the exporter.
fn command(python: &str) -> Command {
    let mut command = Command::new(python);
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

fn tools() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tools"))
}

fn words(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Outputs of the exported network here against those of PyTorch, both in f64.
///
/// 1e-12 of the largest output: two correct evaluations differ by roundings, some 1e-16 per layer and square root of
/// the number of summands.
fn assert_same_outputs(path: &Path) -> Checkpoint {
    let checkpoint = Checkpoint::read(path, None).unwrap();
    let reference = TensorFile::read(&path.with_extension("reference.safetensors")).unwrap();
    let x = reference.get("x").unwrap().to_dtype(DType::F64).unwrap();
    let network = &checkpoint.network;
    assert_eq!(&x.dims()[1..], network.about.input_shape.as_deref().unwrap());
    assert!(network.training_program().is_some());
    let values = network.space().split(&checkpoint.theta).unwrap();
    let mut tape = Tape::<Tensor>::new(Saved::Nothing);
    let output = network.forward(&mut tape, &values, x, Mode::Eval).unwrap().output;
    let expected = reference.get("outputs").unwrap();
    assert_eq!(expected.dtype(), DType::F64);
    assert_eq!(output.dims().unwrap(), expected.dims());
    let flat = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f64>().unwrap();
    let (got, expected) = (flat(output.value()), flat(&expected));
    let scale = expected.iter().fold(0.0f64, |max, value| max.max(value.abs()));
    let error = got.iter().zip(&expected).fold(0.0f64, |max, (a, b)| max.max((a - b).abs())) / scale;
    eprintln!("{}: relative error {error:.1e}", network.about.name);
    assert!(scale > 0.1 && error <= 1e-12, "{}: relative error {error:e}", path.display());
    checkpoint
}

#[test]
fn exported_networks_give_the_same_outputs() {
    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path();
    std::fs::write(out.join("networks.py"), NETWORKS).unwrap();
    let run = command(&python).args(["-c", SCRIPT]).arg(tools()).arg(out).output().unwrap();
    assert!(run.status.success(), "{}", words(&run));

    let plain = assert_same_outputs(&out.join("plain.safetensors"));
    assert_eq!(plain.network.about.loss, Some(Loss::smoothed(0.1)));
    let names: Vec<&str> = plain.network.space().tensors().iter().map(|tensor| tensor.name.as_str()).collect();
    assert!(names.contains(&"fc2.weight") && !names.contains(&"fc3.weight"), "tied weights are one: {names:?}");
    assert_eq!(names[..4], ["conv1.weight", "conv1.bias", "bn1.weight", "bn1.bias"]);
    let conv = assert_same_outputs(&out.join("conv.safetensors"));
    assert_eq!((conv.network.about.name.as_str(), conv.stored_dtype), ("a name", DType::F32));
    let pad = assert_same_outputs(&out.join("pad.safetensors"));
    assert_eq!((pad.network.about.loss, pad.stored_dtype), (Some(Loss::Mse {}), DType::F64));
    assert_same_outputs(&out.join("preactivated.safetensors"));
    assert_same_outputs(&out.join("inception.safetensors"));
}

#[test]
fn the_command_loads_weights_and_names_what_it_cannot_export() {
    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path();
    std::fs::write(out.join("networks.py"), NETWORKS).unwrap();
    let networks = out.join("networks.py").display().to_string();
    let export = |factory: &str, shape: &str, name: &str| {
        let mut command = command(&python);
        command.arg(tools().join("export_torch.py")).arg(format!("{networks}:{factory}"));
        command.args(["--input-shape", shape, "--out"]).arg(out.join(name));
        command
    };
    let script = "import sys, torch; sys.path.insert(0, sys.argv[1]); from networks import *; \
                  m = nn.DataParallel(randomise(Plain())); torch.save({'model': m.state_dict()}, sys.argv[2])";
    let saved = out.join("plain.pth");
    let run = command(&python).args(["-c", script]).args([out, &saved]).output().unwrap();
    assert!(run.status.success(), "{}", words(&run));
    let run = export("plain", "3,12,12", "plain.safetensors").arg("--state-dict").arg(&saved).output().unwrap();
    assert!(run.status.success(), "{}", words(&run));
    let plain = assert_same_outputs(&out.join("plain.safetensors"));
    assert!(plain.network.buffers()["bn1.running_mean"].to_vec1::<f64>().unwrap()[0] != 0.0);

    let run = export("resnet", "3,12,12", "resnet.safetensors").output().unwrap();
    assert!(run.status.success(), "{}", words(&run));
    assert_same_outputs(&out.join("resnet.safetensors"));

    let run = export("branching", "4", "branching.safetensors").output().unwrap();
    assert_eq!(run.status.code(), Some(1));
    let start = "error: torch.export cannot trace the module (Branching, networks.py line ";
    assert!(words(&run).starts_with(start) && words(&run).contains("\nhint: rewrite "), "{}", words(&run));
    assert!(!out.join("branching.safetensors").exists(), "nothing is written for a network that cannot be exported");
    let run = export("plain", "3,12,12", "absent.safetensors").args(["--state-dict", "absent.pth"]).output().unwrap();
    assert!(words(&run).starts_with("error: ") && words(&run).contains("absent.pth"), "{}", words(&run));
}
