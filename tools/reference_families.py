"""Reference values of the families `resnet18`, `resnet34`, `resnet50` and `vit`, for tests/families.rs.

    python tools/reference_families.py tests/fixtures/families

needs torch, torchvision and timm. Writes `names.json`, names and shapes of the state dicts of the original models, and
`values.json`, what small ones give in float64. Weights, statistics, images and directions come from SplitMix64 (below), so
that the files hold values alone. Second derivatives are taken in reverse over reverse.
"""

import json
import math
import sys
from pathlib import Path

import numpy as np
import timm
import torch
import torchvision
from timm.models.vision_transformer import VisionTransformer
from torch import nn
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

ROWS = 2
CLASSES = 10


def uniform(seed, n):
    """`n` numbers in -1..1 from SplitMix64 started at `seed`."""
    with np.errstate(over="ignore"):
        z = np.uint64(seed) + np.arange(1, n + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    return torch.from_numpy(2 * ((z >> np.uint64(11)).astype(np.float64) / 2**53) - 1)


def scaled(name, u):
    """A tensor from uniform numbers: matrices by their fan-in, scales and variances around 1, others small."""
    if name.endswith("running_var"):
        return 1 + 0.5 * u
    if name.endswith("weight") and u.dim() == 1:
        return 1 + 0.3 * u
    if name.endswith("weight"):
        return math.sqrt(2 / u[0].numel()) * u
    return 0.2 * u


class Narrow(ResNet):
    """torchvision's network, built as its constructor does, with `width` in place of 64 and a stem to choose."""

    def __init__(self, block, layers, width, cifar):
        nn.Module.__init__(self)
        self._norm_layer = nn.BatchNorm2d
        self.inplanes, self.dilation, self.groups, self.base_width = width, 1, 1, 64
        kernel, stride = (3, 1) if cifar else (7, 2)
        self.conv1 = nn.Conv2d(3, width, kernel, stride, kernel // 2, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.Identity() if cifar else nn.MaxPool2d(3, 2, 1)
        for stage, blocks in enumerate(layers):
            stride = 1 if stage == 0 else 2
            setattr(self, f"layer{stage + 1}", self._make_layer(block, width << stage, blocks, stride))
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear((width << 3) * block.expansion, CLASSES)


def fill(model):
    params = list(model.named_parameters())
    flat, offset = uniform(1, sum(p.numel() for _, p in params)), 0
    with torch.no_grad():
        for name, p in params:
            p.copy_(scaled(name, flat[offset:offset + p.numel()].reshape(p.shape)))
            offset += p.numel()
        buffers = [(name, b) for name, b in model.named_buffers() if b.is_floating_point()]
        flat, offset = uniform(2, sum(b.numel() for _, b in buffers)), 0
        for name, b in buffers:
            b.copy_(scaled(name, flat[offset:offset + b.numel()].reshape(b.shape)))
            offset += b.numel()


def values(model):
    model = model.double().eval()
    fill(model)
    params = list(model.parameters())
    n = sum(p.numel() for p in params)
    x = uniform(3, ROWS * 3 * 32 * 32).reshape(ROWS, 3, 32, 32)
    y = torch.arange(ROWS) * 3 % CLASSES
    logits = model(x)
    loss = nn.functional.cross_entropy(logits, y)
    grad = torch.cat([g.reshape(-1) for g in torch.autograd.grad(loss, params, create_graph=True)])
    v = uniform(4, n)
    hv = torch.cat([h.reshape(-1) for h in torch.autograd.grad(grad @ v, params)])
    grad = grad.detach()
    step = n // 64
    return {
        "num_params": n,
        "loss": loss.item(),
        "logits": logits.tolist(),
        "grad_norm": grad.norm().item(),
        "grad_every": grad[::step].tolist(),
        "v_hv": (v @ hv).item(),
        "hv_norm": hv.norm().item(),
        "hv_every": hv[::step].tolist(),
    }


def names(model):
    shapes = {name: list(t.shape) for name, t in model.state_dict().items() if t.is_floating_point()}
    return {"parameters": [name for name, _ in model.named_parameters()], "shapes": shapes}


def main(folder):
    folder.mkdir(parents=True, exist_ok=True)
    timm.layers.set_fused_attn(False)
    # The narrow network at full width is torchvision's own.
    own, theirs = Narrow(Bottleneck, [3, 4, 6, 3], 64, cifar=False), torchvision.models.resnet50(num_classes=CLASSES)
    theirs.load_state_dict(own.state_dict())
    image = torch.randn(2, 3, 64, 64)
    assert torch.equal(own.eval()(image), theirs.eval()(image))
    blocks = {"resnet18": (BasicBlock, [2, 2, 2, 2]), "resnet50": (Bottleneck, [3, 4, 6, 3])}
    result = {}
    for name, (block, layers) in blocks.items():
        for stem in ["cifar", "imagenet"]:
            text = f"{name}:stem={stem},width=4"
            result[text] = values(Narrow(block, layers, 4, stem == "cifar"))
    vit = VisionTransformer(img_size=32, patch_size=8, embed_dim=24, depth=2, num_heads=3, mlp_ratio=2, num_classes=CLASSES)
    result["vit:patch=8,width=24,depth=2,heads=3,mlp=2"] = values(vit)
    (folder / "values.json").write_text(json.dumps(result, indent=1) + "\n")
    originals = {name: getattr(torchvision.models, name)() for name in ["resnet18", "resnet34", "resnet50"]}
    originals["vit-b16"] = timm.create_model("vit_base_patch16_224")
    listed = {name: names(model) for name, model in originals.items()}
    (folder / "names.json").write_text(json.dumps(listed, separators=(",", ":")) + "\n")
    for text, entry in result.items():
        print(text, entry["num_params"], entry["loss"], entry["grad_norm"], entry["hv_norm"])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
