"""The networks of the comparison, and the files that all tools read."""

import json
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import nn

WEIGHTS, DATA, STATE, REFERENCE = "weights.safetensors", "data.safetensors", "state.pt", "reference.json"
CLASSES = 10


class Block(nn.Module):
    """Two 3x3 convolutions and a shortcut, as in PyHessian's models/resnet.py (He et al. 2016, with projections)."""

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        projection = [nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)]
        self.shortcut = nn.Sequential(*(projection if inputs != outputs else []))

    def forward(self, x):
        main = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(main)) + self.shortcut(x))


class ResNet(nn.Module):
    """`blocks` in each stage, for CIFAR images; three stages of 16, 32, 64 channels make 6 n + 2 layers."""

    def __init__(self, blocks, channels=(16, 32, 64)):
        super().__init__()
        first = channels[0]
        self.conv = nn.Conv2d(3, first, 3, 1, 1, bias=False)
        self.bn = nn.BatchNorm2d(first)
        widths = [(first, first, 1), *((a, b, 2) for a, b in zip(channels, channels[1:]))]
        stages = [[Block(*first), *(Block(first[1], first[1], 1) for _ in range(blocks - 1))] for first in widths]
        self.stages = nn.Sequential(*sum(stages, []))
        self.linear = nn.Linear(channels[-1], CLASSES)

    def forward(self, x):
        x = self.stages(F.relu(self.bn(self.conv(x))))
        return self.linear(F.adaptive_avg_pool2d(x, 1).flatten(1))


def mlp():
    layers = [nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, CLASSES)]
    return nn.Sequential(*layers)


MODELS = {
    "resnet20": lambda: ResNet(3), "resnet8": lambda: ResNet(1), "mlp": mlp,
    "resnet18": lambda: ResNet(2, (64, 128, 256, 512)),
}  # fmt: skip


def load(name, folder):
    """A network with the prepared weights, and its batch `x`, `y`."""
    model = MODELS[name]()
    model.load_state_dict(torch.load(Path(folder) / STATE, weights_only=True))
    data = load_file(Path(folder) / DATA)
    return model, data["x"], data["y"]


def directions(model, num_directions):
    """`v_k[i] = cos((i + 1)(k + 1))` in f64, rounded to f32, as rows [K, P]; every tool makes the same ones."""
    size = sum(p.numel() for p in model.parameters())
    i, k = (torch.arange(1, count + 1, dtype=torch.float64) for count in (size, num_directions))
    return torch.cos(torch.outer(k, i)).float()


def split(model, vector):
    """A flat vector as a list of tensors like the parameters."""
    parts = vector.split([p.numel() for p in model.parameters()])
    return [part.view_as(p) for part, p in zip(parts, model.parameters())]


def flat(tensors):
    return torch.cat([tensor.reshape(-1) for tensor in tensors])


def quadratic_forms(vectors, products):
    """`v . Hv / v . v` for each row of two [K, P], in f64."""
    vectors, products = vectors.double(), products.detach().double()
    return (vectors * products).sum(1) / vectors.square().sum(1)


def write_json(path, value):
    Path(path).write_text(json.dumps(value, indent=1) + "\n")
