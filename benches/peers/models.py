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


class CausalBlock(nn.Module):
    """Attention over the tokens so far and a feed-forward net, each after a layer norm and around a shortcut."""

    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.project = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.grow, self.shrink = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x):
        queries, keys, values = self.qkv(self.norm1(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        y = F.scaled_dot_product_attention(queries, keys, values, is_causal=True)
        x = x + self.project(y.transpose(1, 2).flatten(2))
        return x + self.shrink(F.gelu(self.grow(self.norm2(x))))


class GPT(nn.Module):
    """A decoder of GPT-2's form (Radford et al. 2019); logits [N, vocabulary, T], as PyTorch's cross-entropy takes them."""

    def __init__(self, vocabulary=65, context=128, width=384, heads=6, depth=6):
        super().__init__()
        self.tokens, self.places = nn.Embedding(vocabulary, width), nn.Embedding(context, width)
        self.blocks = nn.Sequential(*(CausalBlock(width, heads) for _ in range(depth)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, vocabulary, bias=False)
        for table in (self.tokens, self.places):
            nn.init.normal_(table.weight, std=0.02)

    def forward(self, x):
        y = self.tokens(x) + self.places.weight[: x.shape[1]]
        return self.head(self.norm(self.blocks(y))).transpose(1, 2)


def vit():
    from timm.models.vision_transformer import VisionTransformer

    return VisionTransformer(img_size=32, patch_size=4, embed_dim=192, depth=9, num_heads=3, num_classes=CLASSES)


def convnext():
    import timm

    return timm.create_model("convnext_atto", num_classes=CLASSES, drop_path_rate=0.0)


class Hardsigmoid(nn.Module):
    """As torch's, whose own has no second derivative."""

    def forward(self, x):
        return F.relu6(x + 3) / 6


def mobilenetv3():
    from torchvision.models import mobilenet_v3_small

    model = mobilenet_v3_small(num_classes=CLASSES)
    for module in model.modules():
        if hasattr(module, "scale_activation"):
            module.scale_activation = Hardsigmoid()
    return model


MODELS = {
    "resnet20": lambda: ResNet(3), "resnet8": lambda: ResNet(1), "mlp": mlp,
    "resnet18": lambda: ResNet(2, (64, 128, 256, 512)), "vit": vit, "gpt": GPT, "convnext": convnext,
    "mobilenetv3": mobilenetv3,
}  # fmt: skip

def plain_attention():
    """Attention of matrix products and a softmax: PyTorch's fused kernel has no second derivatives."""
    torch.backends.cuda.enable_flash_sdp(False)  # of the CPU too


SIDES = {"mlp": 28, "convnext": 64, "mobilenetv3": 64}  # of images; 32 where nothing stands


def rows(model, count, generator):
    """Inputs and labels: tokens and the tokens behind them; or images, standard normals smoothed over 3x3 pixels and scaled
    back to unit variance (3 = root of 9)."""
    if model == "gpt":
        text = torch.randint(65, [count, 129], generator=generator)
        return text[:, :-1].contiguous(), text[:, 1:].contiguous()
    channels, side = (1 if model == "mlp" else 3), SIDES.get(model, 32)
    x = 3 * F.avg_pool2d(torch.randn(count, channels, side, side, generator=generator), 3, 1, 1)
    y = torch.randint(CLASSES, [count], generator=generator)
    y[0] = CLASSES - 1  # a data set's number of classes is its largest label plus 1
    return (x.flatten(1).contiguous() if model == "mlp" else x), y


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
