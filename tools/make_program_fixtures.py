"""Makes tests/fixtures/programs: small exported networks of many operations each, with PyTorch's float64 values.

    python tools/make_program_fixtures.py tests/fixtures/programs

needs torch and safetensors. Files and definitions are those of the reference programs (`docs/models.md`): the network as
`torch.export` writes it, data, and loss, output, gradient, Hessian and Gauss-Newton products by reverse over reverse.
"""

import copy
import io
import json
import sys
import zipfile
from pathlib import Path

import torch
from export_torch import export
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F

ROWS, WIDTH, DIRECTIONS = 4, 3, 1


class Cell(nn.Module):
    """A linear layer into a shape, many operations on that value one by one, and fixed mixtures of all their results."""

    def __init__(self, shape, operations, modules=()):
        super().__init__()
        self.shape, self.operations = shape, operations
        self.parts = nn.ModuleList(modules)
        self.first = nn.Linear(WIDTH, torch.Size(shape).numel())
        with torch.no_grad():
            features = self.features(torch.randn(ROWS, WIDTH)).shape[1]
        self.register_buffer("mixture", torch.randn(features, 3) / features**0.5)

    def features(self, x):
        z = self.first(x).reshape(-1, *self.shape)
        results = [operation(z) for operation in self.operations] + [part(z) for part in self.parts]
        results = [result[0] if isinstance(result, tuple) else result for result in results]
        return torch.cat([result.reshape(x.shape[0], -1) for result in results], 1)

    def forward(self, x):
        return self.features(x) @ self.mixture


def written(z):
    y = z.clone()
    y[:, 0::2] = z[:, 1::2] ** 2
    y[:, :, 1] *= 2
    y[z < -1] = 0.25
    return y


NETWORKS = {
    "activations": lambda: Cell(
        (4, 3),
        [
            F.relu6, F.elu, F.selu, F.silu, F.mish, F.softplus, F.softsign, F.tanhshrink, F.hardshrink, F.softshrink,
            F.logsigmoid, F.gelu, torch.atan, torch.erf, torch.sin,
            lambda z: F.gelu(z, approximate="tanh"), lambda z: F.celu(z, 0.5), lambda z: F.hardtanh(z, -0.4, 0.6),
            lambda z: F.threshold(z, 0.1, 0.3), lambda z: F.glu(z, 1), lambda z: z.clamp(-0.3, 0.4),
            lambda z: (z * z + 0.1) ** 1.5, lambda z: (z * z + 0.2) ** torch.sigmoid(z), lambda z: F.log_softmax(z, -1),
            lambda z: torch.maximum(z, z.flip(1)), lambda z: torch.remainder(z, 0.37), lambda z: z + (z.round() - z).detach(),
        ],
        [nn.PReLU(4)],
    ),
    "reductions": lambda: Cell(
        (4, 3),
        [
            lambda z: z.var(-1), lambda z: z.std((1, 2)), lambda z: torch.var_mean(z, 1, correction=0)[0],
            lambda z: z.amax(-1), lambda z: z.min(1).values, lambda z: z.prod(-1), lambda z: z.cumprod(1),
            lambda z: z.cumsum(1) * z, lambda z: z.norm(dim=-1), lambda z: z.norm(p=3, dim=1), lambda z: F.normalize(z, dim=-1),
            lambda z: torch.logsumexp(z, 1), lambda z: z.sort(1, descending=True)[0] * z, lambda z: z.topk(2, -1).values,
            lambda z: F.one_hot(z.argmax(-1), 3) * z, lambda z: z.median(-1).values, lambda z: torch.cdist(z, 2 * z[:, :2]),
            lambda z: torch.einsum("bij,bik->bjk", z, z * z), lambda z: F.cosine_similarity(z, z.flip(1) * z, dim=-1),
        ],
    ),
    "indices": lambda: Cell(
        (4, 3),
        [
            written, lambda z: z[:, torch.tensor([2, 0, 3])], lambda z: z.gather(2, z.argsort(-1)),
            lambda z: z.scatter_add(1, torch.tensor([[[0, 1, 1]]]).expand(z.shape[0], 1, 3), z[:, :1] * z[:, 1:2]),
            lambda z: z.index_add(1, torch.tensor([0, 0, 2]), z[:, 1:] * z[:, :3], alpha=0.5),
            lambda z: z.flip((1, 2)) * z, lambda z: torch.roll(z, (1, 2), (1, 2)) * z, lambda z: z.repeat(1, 2, 1) ** 2,
            lambda z: z.repeat_interleave(2, dim=1) ** 2, lambda z: z.unfold(1, 2, 1) ** 2, lambda z: z.tril(-1) + 2 * z.triu(1),
            lambda z: F.pad(z, (1, 2), mode="reflect") ** 2, lambda z: F.pad(z, (1, 2), mode="replicate") ** 2,
            lambda z: F.pad(z, (1, 2), mode="circular") ** 2, lambda z: F.pad(z, (1, -1), value=0.5) ** 2,
            lambda z: F.pixel_shuffle(z.reshape(z.shape[0], 4, 1, 3), 2) ** 2,
        ],
    ),
    "images": lambda: Cell(
        (2, 6, 5),
        [
            lambda z: F.max_pool2d(z, 3, 2, 1, ceil_mode=True), lambda z: F.max_pool2d(z, 2, 1, dilation=2),
            lambda z: F.avg_pool2d(z, 3, 2, 1, ceil_mode=True), lambda z: F.adaptive_max_pool2d(z, (4, 3)),
            lambda z: F.adaptive_avg_pool2d(z, (4, 3)), lambda z: F.interpolate(z, size=(7, 4)),
            lambda z: F.interpolate(z, size=(7, 4), mode="bicubic"),
            lambda z: F.interpolate(z, size=(3, 4), mode="bilinear", antialias=True),
            lambda z: F.unfold(z, (2, 3), padding=1, stride=(2, 1)),
            lambda z: F.grid_sample(z, torch.tanh(z.permute(0, 2, 3, 1)) * 1.2, align_corners=False),
        ],
        [
            nn.Conv2d(2, 2, (2, 3), padding="same"), nn.Conv2d(2, 2, 3, padding=1, padding_mode="reflect"),
            nn.ConvTranspose2d(2, 2, 3, stride=2, output_padding=1),
            nn.Sequential(nn.Unflatten(2, (2, 3)), nn.Conv3d(2, 2, (1, 2, 3), padding=(0, 1, 1)), nn.ConvTranspose3d(2, 1, 2)),
            nn.Sequential(nn.Flatten(2), nn.Conv1d(2, 1, 4, padding="same"), nn.MaxPool1d(3, 2), nn.ConvTranspose1d(1, 1, 3)),
        ],
    ),
    "sequences": lambda: Cell(
        (4, 4),
        [
            lambda z: F.scaled_dot_product_attention(z, z, z * z, attn_mask=torch.tensor([[True, True, False, True]])),
            lambda z: F.scaled_dot_product_attention(z, z, z * z, is_causal=True, scale=0.3),
        ],
        [
            nn.LSTM(4, 2, batch_first=True, bidirectional=True, proj_size=1), nn.GRU(4, 2, 2, batch_first=True, bias=False),
            nn.RNN(4, 2, nonlinearity="relu", batch_first=True), nn.LayerNorm((4, 4)), nn.RMSNorm(4), nn.GroupNorm(2, 4),
            nn.InstanceNorm1d(4, track_running_stats=True), nn.BatchNorm1d(4, affine=False),
        ],
    ),
}


def without_origins(archive):
    """The archive without sample inputs, devices and the origin of each operation, which names files of this machine."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(archive)) as source, zipfile.ZipFile(out, "w") as target:
        for entry in source.infolist():
            content = source.read(entry)
            if "/sample_inputs/" in entry.filename:
                continue
            if entry.filename.endswith("models/model.json"):
                model = json.loads(content)
                graph = model["graph_module"]["graph"]
                for node in graph["nodes"]:
                    node["metadata"] = {}
                for tensor in graph["tensor_values"].values():
                    del tensor["device"], tensor["layout"]
                content = json.dumps(model, separators=(",", ":")).encode()
            target.writestr(entry.filename, content)
    return out.getvalue()


def make(name, build, folder):
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    network = build().eval()
    for key, buffer in network.named_buffers():
        if "running" in key:
            buffer.uniform_(0.5, 1.5)
    x, y = torch.randn(ROWS, WIDTH), torch.randn(ROWS, 3)
    rows = {"x": {0: torch.export.Dim("batch")}}
    archive = io.BytesIO()
    torch.export.save(torch.export.export(network, (), {"x": x}, dynamic_shapes=rows, strict=False), archive)
    (folder / "net.pt2").write_bytes(without_origins(archive.getvalue()))
    network.double()
    names, parameters = zip(*network.named_parameters())
    v = torch.randn(DIRECTIONS, sum(p.numel() for p in parameters), dtype=torch.float64)

    def gradient(value, weight=None):
        return torch.autograd.grad(value, parameters, weight, create_graph=True)

    def along(gradients, direction):
        parts = direction.split([p.numel() for p in parameters])
        return sum((g.reshape(-1) * part).sum() for g, part in zip(gradients, parts))

    def flat(gradients):
        return torch.cat([g.detach().reshape(-1) for g in gradients])

    output = network(x.double())
    loss = F.mse_loss(output, y.double())
    slopes, u = gradient(loss), torch.zeros_like(output, requires_grad=True)
    # J v as the derivative of Jᵀ u with respect to u, which it is linear in.
    pulled = gradient(output, u)
    moved = [torch.autograd.grad(along(pulled, direction), u, retain_graph=True)[0] for direction in v]
    expected = {
        "output": output.detach(),
        "loss": loss.detach().reshape(1),
        "grad": flat(slopes),
        "v": v,
        "hv": torch.stack([flat(second(along(slopes, direction), parameters)) for direction in v]),
        "ggn_v": torch.stack([flat(gradient(output, 2 * jv / output.numel())) for jv in moved]),
    }
    save_file(expected, folder / "expected.safetensors")
    save_file({"x": x, "y": y}, folder / "data.safetensors")
    case = {"loss": "mse", "parameters": [{"name": name, "shape": list(p.shape)} for name, p in zip(names, parameters)]}
    (folder / "case.json").write_text(json.dumps(case) + "\n")
    print(name, sum(file.stat().st_size for file in folder.iterdir()), "bytes")


def second(value, parameters):
    """The gradient of a directional derivative, zero for what it does not depend on."""
    found = torch.autograd.grad(value, parameters, retain_graph=True, allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for g, p in zip(found, parameters)]


class TwoModes(nn.Module):
    """Computes something else in training mode: random in form, but certain in value, so that PyTorch's gradient is ours."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.drop, self.head = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.0), nn.Linear(4, 3)
        self.register_buffer("shift", torch.arange(3.0) / 3, persistent=False)

    def forward(self, x):
        x = F.relu(self.norm(self.conv(x)))
        if self.training:
            x = x * x.new_empty((x.shape[0], 1, 1, 1)).bernoulli_(1.0).div_(0.8)
        return self.head(self.drop(x.mean((2, 3)))) + self.shift


def make_training_mode(folder):
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    network, x, y = TwoModes(), torch.randn(8, 1, 6, 6), torch.arange(8) % 3
    with torch.no_grad():
        for tensor in [*network.parameters(), network.norm.running_mean]:
            tensor.add_(torch.randn_like(tensor) * 0.3)
    _, reference = export(network, x, folder / "net.safetensors", loss="cross_entropy")
    reference.unlink()
    network = copy.deepcopy(network).double().train()
    loss = F.cross_entropy(network(x.double()), y)
    slopes = torch.autograd.grad(loss, list(network.parameters()))
    expected = {"loss": loss.detach().reshape(1), "grad": torch.cat([slope.reshape(-1) for slope in slopes])}
    save_file(expected, folder / "expected.safetensors")
    save_file({"x": x, "y": y}, folder / "data.safetensors")


if __name__ == "__main__":
    make_training_mode(Path(sys.argv[1]) / "training-mode")
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        for name, build in NETWORKS.items():
            make(name, build, Path(sys.argv[1]) / name)
