"""Small networks as research code writes them, for tools/coverage/coverage.py: `RESEARCH` names them with inputs and loss."""

import math

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations

CLASSES, VOCABULARY, TOKENS, WIDTH = 10, 61, 12, 32


def vectors(features=16):
    return lambda rows: {"x": torch.randn(rows, features)}


def sequences(rows):
    return {"x": torch.randn(rows, TOKENS, 8)}


def pictures(rows):
    return {"x": torch.randn(rows, 3, 16, 16)}


def tokens(rows):
    return {"ids": torch.randint(VOCABULARY, (rows, TOKENS))}


class Residual(nn.Module):
    def __init__(self, *layers):
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x):
        return x + self.layers(x)


class Then(nn.Module):
    """A function as a layer."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def mlp(inputs, outputs, activation=nn.Tanh, hidden=WIDTH):
    return nn.Sequential(
        nn.Linear(inputs, hidden), activation(), nn.Linear(hidden, hidden), activation(), nn.Linear(hidden, outputs)
    )


# ---- transformers


class SelfAttention(nn.Module):
    def __init__(self, fused, heads=4):
        super().__init__()
        self.fused, self.heads = fused, heads
        self.c_attn, self.c_proj = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.register_buffer("mask", torch.tril(torch.ones(TOKENS, TOKENS)).view(1, 1, TOKENS, TOKENS))

    def forward(self, x):
        b, t, c = x.size()
        q, k, v = (
            part.view(b, t, self.heads, c // self.heads).transpose(1, 2) for part in self.c_attn(x).split(c, dim=2)
        )
        if self.fused:
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        else:
            scores = (q @ k.transpose(-2, -1)) * (1.0 / math.sqrt(k.size(-1)))
            y = F.softmax(scores.masked_fill(self.mask[:, :, :t, :t] == 0, float("-inf")), dim=-1) @ v
        return self.c_proj(y.transpose(1, 2).contiguous().view(b, t, c))


class NanoGpt(nn.Module):
    def __init__(self, fused):
        super().__init__()
        self.wte, self.wpe, self.ln_f = (
            nn.Embedding(VOCABULARY, WIDTH),
            nn.Embedding(TOKENS, WIDTH),
            nn.LayerNorm(WIDTH),
        )
        block = lambda: nn.Sequential(
            Residual(nn.LayerNorm(WIDTH), SelfAttention(fused)),
            Residual(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH)),
        )
        self.h, self.lm_head = nn.ModuleList([block(), block()]), nn.Linear(WIDTH, VOCABULARY, bias=False)
        self.wte.weight = self.lm_head.weight

    def forward(self, ids):
        x = self.wte(ids) + self.wpe(torch.arange(ids.size(1), device=ids.device))
        for block in self.h:
            x = block(x)
        return self.lm_head(self.ln_f(x))


class TorchEncoder(nn.Module):
    """nn.TransformerEncoder with a causal or a padding mask."""

    def __init__(self, norm_first):
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, WIDTH, padding_idx=0)
        layer = nn.TransformerEncoderLayer(WIDTH, 4, 64, batch_first=True, norm_first=norm_first, activation="gelu")
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(WIDTH, CLASSES)

    def forward(self, ids):
        return self.head(self.encoder(self.embed(ids), src_key_padding_mask=ids == 0).mean(1))


class TorchTransformer(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Transformer(WIDTH, 4, 1, 1, 64, batch_first=True)
        self.source, self.head = nn.Linear(8, WIDTH), nn.Linear(WIDTH, VOCABULARY)
        self.start = nn.Parameter(torch.randn(1, 5, WIDTH))

    def forward(self, x):
        mask = nn.Transformer.generate_square_subsequent_mask(5, dtype=x.dtype)
        return self.head(
            self.body(self.source(x), self.start.expand(x.size(0), -1, -1), tgt_mask=mask, tgt_is_causal=True)
        )


class Perceiver(nn.Module):
    def __init__(self):
        super().__init__()
        self.latents, self.embed = nn.Parameter(torch.randn(4, WIDTH)), nn.Linear(8, WIDTH)
        self.cross, self.own = (nn.MultiheadAttention(WIDTH, 4, batch_first=True) for _ in range(2))
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, CLASSES)

    def forward(self, x):
        x, latents = self.embed(x), self.latents.unsqueeze(0).repeat(x.size(0), 1, 1)
        latents = latents + self.cross(latents, x, x)[0]
        y = self.norm(latents)
        return self.head((latents + self.own(y, y, y, need_weights=False)[0]).mean(1))


class LinearAttention(nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv, self.head = nn.Linear(8, 3 * WIDTH), nn.Linear(WIDTH, CLASSES)

    def forward(self, x):
        q, k, v = self.qkv(x).chunk(3, -1)
        q, k = F.elu(q) + 1, F.elu(k) + 1
        context = torch.einsum("bnd,bne->bde", k, v)
        scale = 1 / torch.einsum("bnd,bd->bn", q, k.sum(1))
        return self.head(torch.einsum("bnd,bde,bn->bne", q, context, scale).mean(1))


class GatedMlp(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.up, self.down = nn.Linear(8, WIDTH), nn.Linear(WIDTH, 2 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.norm, self.mix, self.head = nn.LayerNorm(WIDTH), nn.Conv1d(TOKENS, TOKENS, 1), nn.Linear(WIDTH, CLASSES)

    def forward(self, x):
        x = self.embed(x)
        u, v = F.gelu(self.up(x)).chunk(2, dim=-1)
        return self.head((x + self.down(u * self.mix(self.norm(v)))).mean(dim=1))


# ---- recurrent networks


class Recurrent(nn.Module):
    """Tokens or floats through a recurrent layer; the last state is classified."""

    def __init__(self, kind, embedded=False, **more):
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, 8) if embedded else nn.Identity()
        self.rnn = kind(8, WIDTH, batch_first=True, **more)
        self.head = nn.Linear(WIDTH * (2 if more.get("bidirectional") else 1), CLASSES)

    def forward(self, x):
        return self.head(self.rnn(self.embed(x))[0][:, -1])


class LastHidden(nn.Module):
    """The final hidden state of an LSTM, not its outputs."""

    def __init__(self):
        super().__init__()
        self.lstm, self.head = nn.LSTM(8, WIDTH, num_layers=2, batch_first=True), nn.Linear(WIDTH, CLASSES)

    def forward(self, x):
        _, (h, _) = self.lstm(x)
        return self.head(h[-1])


class UnrolledCell(nn.Module):
    def __init__(self, cell):
        super().__init__()
        self.cell, self.head = cell(8, WIDTH), nn.Linear(WIDTH, CLASSES)

    def forward(self, x):
        state = None
        for step in x.unbind(1):
            state = self.cell(step, state)
        return self.head(state[0] if isinstance(state, tuple) else state)


class HandWrittenCell(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner, self.outer, self.head = (
            nn.Linear(8, 4 * WIDTH),
            nn.Linear(WIDTH, 4 * WIDTH),
            nn.Linear(WIDTH, CLASSES),
        )

    def forward(self, x):
        h = c = x.new_zeros(x.size(0), WIDTH)
        for t in range(x.size(1)):
            i, f, g, o = (self.inner(x[:, t]) + self.outer(h)).chunk(4, 1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
        return self.head(h)


# ---- convolutional networks


def conv(inputs, outputs, stride=1):
    return nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)


class PreActBlock(nn.Module):
    def __init__(self, inputs, outputs, stride=1):
        super().__init__()
        self.bn1, self.bn2 = nn.BatchNorm2d(inputs), nn.BatchNorm2d(outputs)
        self.conv1, self.conv2 = conv(inputs, outputs, stride), conv(outputs, outputs)
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False) if stride != 1 or inputs != outputs else None

    def forward(self, x):
        y = F.relu(self.bn1(x))
        shortcut = x if self.shortcut is None else self.shortcut(y)
        return self.conv2(F.relu(self.bn2(self.conv1(y)))) + shortcut


def preactivation(widths, blocks, factor=1):
    layers, last = [conv(3, 16)], 16
    for stage, width in enumerate(widths):
        for block in range(blocks):
            layers.append(PreActBlock(last, width * factor, 2 if stage > 0 and block == 0 else 1))
            last = width * factor
    return nn.Sequential(
        *layers, nn.BatchNorm2d(last), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(last, CLASSES)
    )


class UNet(nn.Module):
    def __init__(self, up, norm=nn.BatchNorm2d):
        super().__init__()
        double = lambda i, o: nn.Sequential(conv(i, o), norm(o), nn.ReLU(), conv(o, o), norm(o), nn.ReLU())
        self.down1, self.down2, self.middle = double(3, 8), double(8, 16), double(16, 32)
        self.up2, self.up1 = up(32, 16), up(16, 8)
        self.join2, self.join1, self.head = double(32, 16), double(16, 8), nn.Conv2d(8, CLASSES, 1)

    def forward(self, x):
        first = self.down1(x)
        second = self.down2(F.max_pool2d(first, 2))
        middle = self.middle(F.max_pool2d(second, 2))
        second = self.join2(torch.cat([second, self.up2(middle)], dim=1))
        return self.head(self.join1(torch.cat([first, self.up1(second)], dim=1)))


def resized(mode):
    corners = {"align_corners": True} if mode in ("bilinear", "bicubic") else {}
    return lambda i, o: nn.Sequential(nn.Upsample(scale_factor=2, mode=mode, **corners), nn.Conv2d(i, o, 1))


class SqueezeExcite(nn.Module):
    def __init__(self, channels=16):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(channels, 4), nn.Linear(4, channels)

    def forward(self, x):
        b, c, _, _ = x.size()
        y = torch.sigmoid(self.fc2(F.relu(self.fc1(x.mean((2, 3))))))
        return x * y.view(b, c, 1, 1).expand_as(x)


def small_cnn(activation=nn.ReLU, norm=nn.BatchNorm2d, pool=lambda: nn.MaxPool2d(2), *more):
    layers = [nn.Conv2d(3, 16, 3, padding=1), norm(16), activation(), pool(), *more, nn.Conv2d(16, 16, 3, padding=1)]
    return nn.Sequential(*layers, activation(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, CLASSES))


class AllActivations(nn.Module):
    """Every activation of torch.nn on its own channels of one convolution."""

    NAMES = (
        "ReLU ReLU6 LeakyReLU PReLU ELU CELU SELU GELU SiLU Mish Softplus Softsign Tanh Sigmoid LogSigmoid Hardtanh "
        "Hardswish Hardsigmoid Hardshrink Softshrink Tanhshrink Threshold"
    ).split()

    def __init__(self):
        super().__init__()
        build = lambda name: nn.Threshold(0.1, 0.0) if name == "Threshold" else getattr(nn, name)()
        self.activations = nn.ModuleList([build(name) for name in self.NAMES])
        self.conv, self.head = nn.Conv2d(3, 2 * len(self.NAMES), 3), nn.Linear(2 * len(self.NAMES), CLASSES)

    def forward(self, x):
        parts = self.conv(x).chunk(len(self.NAMES), dim=1)
        y = torch.cat([activation(part) for activation, part in zip(self.activations, parts)], dim=1)
        return self.head(y.mean(dim=(-2, -1)))


class LayerScale(nn.Module):
    def __init__(self, inner, width=WIDTH):
        super().__init__()
        self.inner, self.gamma = inner, nn.Parameter(1e-1 * torch.ones(width))

    def forward(self, x):
        return x + self.gamma * self.inner(x)


class GlobalResponseNorm(nn.Module):
    def __init__(self, channels=16):
        super().__init__()
        self.gamma, self.beta = (nn.Parameter(torch.zeros(1, channels, 1, 1)) for _ in range(2))

    def forward(self, x):
        size = torch.norm(x, p=2, dim=(2, 3), keepdim=True)
        return self.gamma * (x * size / (size.mean(dim=1, keepdim=True) + 1e-6)) + self.beta + x


class Tcn(nn.Module):
    """Causal convolutions over time with growing dilation."""

    def __init__(self):
        super().__init__()
        self.convs = nn.ModuleList([nn.Conv1d(8 if i == 0 else 16, 16, 3, dilation=2**i) for i in range(3)])
        self.head = nn.Linear(16, CLASSES)

    def forward(self, x):
        x = x.transpose(1, 2)
        for i, layer in enumerate(self.convs):
            y = F.relu(layer(F.pad(x, (2 ** (i + 1), 0))))
            x = y if i == 0 else x + y
        return self.head(x[:, :, -1])


class SpatialTransformer(nn.Module):
    def __init__(self):
        super().__init__()
        self.where = nn.Sequential(nn.Flatten(), nn.Linear(768, 6))
        self.net = small_cnn()

    def forward(self, x):
        grid = F.affine_grid(0.1 * self.where(x).view(-1, 2, 3), x.size(), align_corners=False)
        return self.net(F.grid_sample(x, grid, align_corners=False))


# ---- autoencoders, fields, equations


class TiedAutoencoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight, self.hidden_bias, self.bias = (nn.Parameter(0.2 * torch.randn(s)) for s in ((8, 16), (8,), (16,)))

    def forward(self, x):
        return F.linear(torch.tanh(F.linear(x, self.weight, self.hidden_bias)), self.weight.t(), self.bias)


class TiedMlp(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.shared, self.last = nn.Linear(16, WIDTH), nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, CLASSES)

    def forward(self, x):
        x = torch.tanh(self.first(x))
        for _ in range(3):
            x = torch.tanh(self.shared(x))
        return self.last(x)


class VariationalMean(nn.Module):
    """A variational autoencoder at the mean of its code."""

    def __init__(self):
        super().__init__()
        self.encoder, self.mean, self.log_var, self.decoder = (
            mlp(16, WIDTH),
            nn.Linear(WIDTH, 4),
            nn.Linear(WIDTH, 4),
            mlp(4, 16),
        )

    def forward(self, x):
        code = self.encoder(x)
        mean, log_var = self.mean(code), self.log_var(code)
        return torch.sigmoid(self.decoder(mean + 0.1 * torch.exp(0.5 * log_var)))


class VectorQuantised(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder, self.decoder, self.codes = nn.Linear(16, 4), nn.Linear(4, 16), nn.Embedding(8, 4)

    def forward(self, x):
        z = self.encoder(x)
        nearest = torch.cdist(z, self.codes.weight).argmin(dim=1)
        return self.decoder(z + (self.codes(nearest) - z).detach())


class Siren(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(2, WIDTH), nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 3)])

    def forward(self, x):
        for layer in self.layers[:-1]:
            x = torch.sin(3.0 * layer(x))
        return self.layers[-1](x)


class Nerf(nn.Module):
    """Positional encoding, a skip connection, and density beside colour."""

    def __init__(self):
        super().__init__()
        self.first, self.second = mlp(27, WIDTH, nn.ReLU), mlp(WIDTH + 27, WIDTH, nn.ReLU)
        self.density, self.colour = nn.Linear(WIDTH, 1), nn.Linear(WIDTH, 3)

    def forward(self, x):
        waves = [f(2.0**i * x) for i in range(4) for f in (torch.sin, torch.cos)]
        code = torch.cat([x, *waves], -1)
        y = self.second(torch.cat([self.first(code), code], -1))
        return torch.cat([F.softplus(self.density(y)), torch.sigmoid(self.colour(y))], -1)


class RandomFourier(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("frequencies", torch.randn(2, 16))
        self.net = mlp(32, 1)

    def forward(self, x):
        angles = 2 * torch.pi * x @ self.frequencies
        return self.net(torch.cat((angles.cos(), angles.sin()), dim=-1))


class Physics(nn.Module):
    """A network for u(x, t), rescaled to its domain, with the boundary condition built in."""

    def __init__(self):
        super().__init__()
        self.net = mlp(2, 1)

    def forward(self, x):
        x = 2.0 * (x - x.new_tensor([-1.0, 0.0])) / x.new_tensor([2.0, 1.0]) - 1.0
        return self.net(x) * (1 - x[:, :1] ** 2) + torch.sin(math.pi * x[:, 1:])


class NeuralOde(nn.Module):
    def __init__(self):
        super().__init__()
        self.f, self.head = mlp(16, 16), nn.Linear(16, CLASSES)

    def forward(self, x):
        step = 0.25
        for _ in range(4):
            k1 = self.f(x)
            k2 = self.f(x + step / 2 * k1)
            k3 = self.f(x + step / 2 * k2)
            k4 = self.f(x + step * k3)
            x = x + step / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        return self.head(x)


class HyperNetwork(nn.Module):
    """One network writes the weights of another, for each row."""

    def __init__(self):
        super().__init__()
        self.hyper, self.bias = mlp(16, 16 * CLASSES), nn.Parameter(torch.zeros(CLASSES))

    def forward(self, x):
        weights = self.hyper(x).view(-1, CLASSES, 16)
        return torch.bmm(weights, x.unsqueeze(2)).squeeze(2) + self.bias


class Kan(nn.Module):
    """Radial basis functions on every edge, and a base activation."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.register_buffer("grid", torch.linspace(-2, 2, 5))
        self.base, self.spline = nn.Linear(inputs, outputs), nn.Linear(5 * inputs, outputs, bias=False)

    def forward(self, x):
        basis = torch.exp(-(((x[..., None] - self.grid) / 1.0) ** 2))
        return self.base(F.silu(x)) + self.spline(basis.view(*x.shape[:-1], -1))


# ---- mixtures, sets and graphs


class SoftMixture(nn.Module):
    def __init__(self):
        super().__init__()
        self.experts, self.gate = nn.ModuleList([mlp(16, CLASSES) for _ in range(4)]), nn.Linear(16, 4)

    def forward(self, x):
        outputs = torch.stack([expert(x) for expert in self.experts], dim=1)
        return (outputs * F.softmax(self.gate(x), dim=-1).unsqueeze(-1)).sum(dim=1)


class TopTwoMixture(SoftMixture):
    def forward(self, x):
        scores, chosen = self.gate(x).topk(2, dim=-1)
        outputs = torch.stack([expert(x) for expert in self.experts], dim=1)
        picked = outputs.gather(1, chosen.unsqueeze(-1).expand(-1, -1, outputs.size(-1)))
        return (picked * scores.softmax(-1).unsqueeze(-1)).sum(dim=1)


class ScatteredMixture(SoftMixture):
    """Top-2 weights scattered into a dense gate, as GShard and its followers do."""

    def forward(self, x):
        probabilities = F.softmax(self.gate(x), dim=-1)
        values, chosen = torch.topk(probabilities, 2, dim=-1)
        gates = torch.zeros_like(probabilities).scatter(-1, chosen, values / values.sum(-1, keepdim=True))
        return sum(gates[:, i : i + 1] * expert(x) for i, expert in enumerate(self.experts))


class OneHotMixture(SoftMixture):
    def forward(self, x):
        probabilities = F.softmax(self.gate(x), dim=-1)
        mask = F.one_hot(probabilities.argmax(dim=-1), 4).to(x.dtype)
        return torch.einsum("be,ebc->bc", probabilities * mask, torch.stack([expert(x) for expert in self.experts]))


class DeepSets(nn.Module):
    def __init__(self, pool):
        super().__init__()
        self.phi, self.rho, self.pool = mlp(8, WIDTH), mlp(WIDTH, CLASSES), pool

    def forward(self, x):
        return self.rho(self.pool(self.phi(x)))


class PointNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.turn = nn.Sequential(nn.Conv1d(3, 16, 1), nn.BatchNorm1d(16), nn.ReLU())
        self.turn_head = nn.Linear(16, 9)
        self.points, self.head = (
            nn.Sequential(nn.Conv1d(3, 32, 1), nn.BatchNorm1d(32), nn.ReLU()),
            nn.Linear(32, CLASSES),
        )

    def forward(self, x):
        matrix = self.turn_head(self.turn(x).max(dim=2)[0]).view(-1, 3, 3) + torch.eye(3, dtype=x.dtype)
        x = torch.bmm(x.transpose(2, 1), matrix).transpose(2, 1)
        return self.head(torch.max(self.points(x), 2, keepdim=True)[0].view(-1, 32))


class GraphConvolution(nn.Module):
    """Dense adjacency with self-loops, symmetrically normalised."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.head = nn.Linear(8, WIDTH), nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, CLASSES)

    def forward(self, x, adjacency):
        adjacency = adjacency + torch.eye(adjacency.size(-1), dtype=x.dtype)
        scale = adjacency.sum(-1).pow(-0.5)
        adjacency = scale.unsqueeze(-1) * adjacency * scale.unsqueeze(-2)
        x = F.relu(adjacency @ self.first(x))
        return self.head((adjacency @ self.second(x)).mean(1))


class GraphAttention(nn.Module):
    def __init__(self):
        super().__init__()
        self.project, self.source, self.target = (
            nn.Linear(8, WIDTH, bias=False),
            nn.Linear(WIDTH, 1),
            nn.Linear(WIDTH, 1),
        )
        self.head = nn.Linear(WIDTH, CLASSES)

    def forward(self, x, adjacency):
        h = self.project(x)
        scores = F.leaky_relu(self.source(h) + self.target(h).transpose(1, 2), 0.2)
        scores = torch.where(adjacency > 0, scores, torch.full_like(scores, -9e15))
        return self.head(F.elu(torch.softmax(scores, -1) @ h).mean(1))


def graphs(rows):
    edges = (torch.rand(rows, 6, 6) < 0.4).float()
    return {"x": torch.randn(rows, 6, 8), "adjacency": ((edges + edges.transpose(1, 2)) > 0).float()}


class MatrixFactors(nn.Module):
    """Users and items: a product of embeddings with biases."""

    def __init__(self):
        super().__init__()
        self.users, self.items = nn.Embedding(20, 8), nn.Embedding(30, 8)
        self.user_bias, self.item_bias = nn.Embedding(20, 1), nn.Embedding(30, 1)

    def forward(self, x):
        user, item = x[:, 0], x[:, 1]
        return (self.users(user) * self.items(item)).sum(1, keepdim=True) + self.user_bias(user) + self.item_bias(item)


class BagOfWords(nn.Module):
    def __init__(self):
        super().__init__()
        self.bag, self.head = nn.EmbeddingBag(VOCABULARY, WIDTH, mode="mean"), nn.Linear(WIDTH, CLASSES)

    def forward(self, ids):
        return self.head(self.bag(ids))


class TextCnn(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.head = nn.Embedding(VOCABULARY, 16), nn.Linear(24, CLASSES)
        self.convs = nn.ModuleList([nn.Conv1d(16, 8, k) for k in (2, 3, 4)])

    def forward(self, ids):
        x = self.embed(ids).permute(0, 2, 1)
        return self.head(torch.cat([F.relu(conv(x)).max(dim=-1).values for conv in self.convs], 1))


# ---- parameters of other kinds


class Lora(nn.Module):
    """A frozen layer with a trained low-rank correction."""

    def __init__(self):
        super().__init__()
        self.base, self.head = nn.Linear(16, WIDTH).requires_grad_(False), nn.Linear(WIDTH, CLASSES)
        self.a, self.b = nn.Parameter(0.1 * torch.randn(4, 16)), nn.Parameter(torch.zeros(WIDTH, 4))

    def forward(self, x):
        return self.head(torch.tanh(self.base(x) + (x @ self.a.T @ self.b.T) * 2.0))


class BareParameters(nn.Module):
    def __init__(self):
        super().__init__()
        self.w1, self.b1 = nn.Parameter(0.3 * torch.randn(16, WIDTH)), nn.Parameter(torch.zeros(WIDTH))
        self.w2, self.scale = nn.Parameter(0.3 * torch.randn(WIDTH, CLASSES)), nn.Parameter(torch.tensor(1.5))

    def forward(self, x):
        return self.scale * (torch.tanh(x @ self.w1 + self.b1) @ self.w2)


class CosineHead(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.weight = mlp(16, WIDTH), nn.Parameter(torch.randn(CLASSES, WIDTH))

    def forward(self, x):
        return 5.0 * F.linear(F.normalize(self.body(x)), F.normalize(self.weight))


class Maxout(nn.Module):
    def __init__(self):
        super().__init__()
        self.wide, self.head = nn.Linear(16, 3 * WIDTH), nn.Linear(WIDTH, CLASSES)

    def forward(self, x):
        return self.head(self.wide(x).view(-1, WIDTH, 3).amax(dim=-1))


class BilinearLayer(nn.Module):
    def __init__(self):
        super().__init__()
        self.mix, self.head = nn.Bilinear(8, 8, WIDTH), nn.Linear(WIDTH, CLASSES)

    def forward(self, x):
        return self.head(torch.tanh(self.mix(x[:, :8], x[:, 8:])))


class Highway(nn.Module):
    def __init__(self):
        super().__init__()
        self.h, self.t, self.head = nn.Linear(16, 16), nn.Linear(16, 16), nn.Linear(16, CLASSES)

    def forward(self, x):
        gate = torch.sigmoid(self.t(x))
        return torch.log_softmax(self.head(torch.lerp(x, torch.relu(self.h(x)), gate)), dim=1)


class Siamese(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = mlp(8, 8)

    def forward(self, x):
        a, b = self.net(x[:, :8]), self.net(x[:, 8:])
        return torch.stack([F.cosine_similarity(a, b), -F.pairwise_distance(a, b)], dim=1)


def convolutional_autoencoder():
    encoder = [nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 4, 3, 2, 1), nn.ReLU()]
    decoder = [nn.ConvTranspose2d(4, 8, 3, 2, 1, 1), nn.ReLU(), nn.ConvTranspose2d(8, 3, 4, 2, 1), nn.Sigmoid()]
    return nn.Sequential(*encoder, *decoder, nn.Flatten())


def video():
    return nn.Sequential(
        nn.Conv3d(1, 8, 3, padding=1), nn.BatchNorm3d(8), nn.ReLU(), nn.MaxPool3d(2), nn.Conv3d(8, 8, 3), nn.ReLU(),
        nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(8, CLASSES),
    )  # fmt: skip


def normalised(wrap):
    return nn.Sequential(wrap(nn.Linear(16, WIDTH)), nn.Tanh(), wrap(nn.Linear(WIDTH, CLASSES)))


def audio():
    return nn.Sequential(
        nn.Conv1d(1, 8, 9, 4), nn.BatchNorm1d(8), nn.ReLU(), nn.MaxPool1d(2),
        nn.Conv1d(8, 16, 3, groups=2), nn.GroupNorm(4, 16),
        nn.GELU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(16, CLASSES),
    )  # fmt: skip


NORMS = {
    "group": lambda c: nn.GroupNorm(4, c), "layer": lambda c: nn.LayerNorm([c, 16, 16]),
    "instance": lambda c: nn.InstanceNorm2d(c, affine=True),
    "instance-tracked": lambda c: nn.InstanceNorm2d(c, affine=True, track_running_stats=True),
    "local-response": lambda c: nn.LocalResponseNorm(3),
    "rms": lambda c: nn.Sequential(Then(lambda x: x.movedim(1, -1)), nn.RMSNorm(c), Then(lambda x: x.movedim(-1, 1))),
}  # fmt: skip
POOLS = {
    "average": lambda: nn.AvgPool2d(3, 2, 1),
    "average-ceil": lambda: nn.AvgPool2d(3, 2, ceil_mode=True, count_include_pad=False),
    "max-dilated": lambda: nn.MaxPool2d(3, 2, dilation=2), "power": lambda: nn.LPPool2d(2, 2),
    "adaptive-max": lambda: nn.AdaptiveMaxPool2d(5), "adaptive-uneven": lambda: nn.AdaptiveAvgPool2d(5),
    "pixel-unshuffle": lambda: nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(64, 16, 1)),
    "reflection": lambda: nn.ReflectionPad2d(2), "replication": lambda: nn.ReplicationPad2d(1),
    "circular": lambda: nn.CircularPad2d(1),
}  # fmt: skip

CE, MSE = "cross-entropy", "mse"
words = lambda rows: {"x": tokens(rows)["ids"]}
coordinates = vectors(2)
RESEARCH = {
    "nanogpt": (lambda: NanoGpt(False), tokens, CE),
    "nanogpt-fused": (lambda: NanoGpt(True), tokens, CE),
    "transformer-encoder": (lambda: TorchEncoder(False), tokens, CE),
    "transformer-encoder-prenorm": (lambda: TorchEncoder(True), tokens, CE),
    "transformer": (TorchTransformer, sequences, CE),
    "perceiver": (Perceiver, sequences, CE),
    "linear-attention": (LinearAttention, sequences, CE),
    "gmlp": (GatedMlp, sequences, CE),
    "wideresnet-28-10": (lambda: preactivation([16, 32, 64], 4, 10), pictures, CE),
    "wideresnet-16-2": (lambda: preactivation([16, 32, 64], 2, 2), pictures, CE),
    "preact-resnet18": (lambda: preactivation([64, 128, 256, 512], 2), pictures, CE),
    "unet-transposed": (lambda: UNet(lambda i, o: nn.ConvTranspose2d(i, o, 2, 2)), pictures, CE),
    "unet-bilinear": (lambda: UNet(resized("bilinear")), pictures, CE),
    "unet-nearest": (lambda: UNet(resized("nearest"), lambda c: nn.GroupNorm(2, c)), pictures, CE),
    "unet-bicubic": (lambda: UNet(resized("bicubic"), nn.InstanceNorm2d), pictures, CE),
    "lstm-tokens": (lambda: Recurrent(nn.LSTM, True), words, CE),
    "lstm-floats": (lambda: Recurrent(nn.LSTM, num_layers=2), sequences, CE),
    "lstm-both-ways": (lambda: Recurrent(nn.LSTM, bidirectional=True), sequences, CE),
    "lstm-last-hidden": (LastHidden, sequences, CE),
    "gru-tokens": (lambda: Recurrent(nn.GRU, True), words, CE),
    "gru-floats": (lambda: Recurrent(nn.GRU, num_layers=2), sequences, CE),
    "gru-both-ways": (lambda: Recurrent(nn.GRU, bidirectional=True), sequences, CE),
    "rnn-tanh": (lambda: Recurrent(nn.RNN), sequences, CE),
    "rnn-relu": (lambda: Recurrent(nn.RNN, nonlinearity="relu"), sequences, CE),
    "unrolled-lstm-cell": (lambda: UnrolledCell(nn.LSTMCell), sequences, CE),
    "unrolled-gru-cell": (lambda: UnrolledCell(nn.GRUCell), sequences, CE),
    "unrolled-rnn-cell": (lambda: UnrolledCell(nn.RNNCell), sequences, CE),
    "hand-written-lstm": (HandWrittenCell, sequences, CE),
    "siren": (Siren, coordinates, MSE),
    "nerf": (Nerf, vectors(3), MSE),
    "random-fourier": (RandomFourier, coordinates, MSE),
    "physics-informed": (Physics, coordinates, MSE),
    "neural-ode": (NeuralOde, vectors(), CE),
    "autoencoder": (lambda: nn.Sequential(mlp(16, 4), mlp(4, 16)), vectors(), MSE),
    "autoencoder-tied": (TiedAutoencoder, vectors(), MSE),
    "autoencoder-convolutional": (convolutional_autoencoder, pictures, MSE),
    "vae-mean": (VariationalMean, vectors(), MSE),
    "vq-autoencoder": (VectorQuantised, vectors(), MSE),
    "mlp-tied": (TiedMlp, vectors(), CE),
    "mixture-soft": (SoftMixture, vectors(), CE),
    "mixture-top2": (TopTwoMixture, vectors(), CE),
    "mixture-scattered": (ScatteredMixture, vectors(), CE),
    "mixture-one-hot": (OneHotMixture, vectors(), CE),
    "squeeze-excite": (
        lambda: small_cnn(nn.ReLU, nn.BatchNorm2d, lambda: nn.MaxPool2d(2), SqueezeExcite()),
        pictures,
        CE,
    ),
    "layer-scale": (
        lambda: nn.Sequential(nn.Linear(16, WIDTH), LayerScale(mlp(WIDTH, WIDTH)), nn.Linear(WIDTH, CLASSES)),
        vectors(),
        CE,
    ),
    "response-norm": (lambda: small_cnn(nn.GELU, lambda c: GlobalResponseNorm()), pictures, CE),
    "bare-parameters": (BareParameters, vectors(), CE),
    "activations": (AllActivations, pictures, CE),
    "hypernetwork": (HyperNetwork, vectors(), CE),
    "kan": (lambda: nn.Sequential(Kan(16, 16), Kan(16, CLASSES)), vectors(), CE),
    "deepsets-sum": (lambda: DeepSets(lambda x: x.sum(1)), sequences, CE),
    "deepsets-logsumexp": (lambda: DeepSets(lambda x: x.logsumexp(1)), sequences, CE),
    "deepsets-deviation": (lambda: DeepSets(lambda x: x.std(1)), sequences, CE),
    "pointnet": (PointNet, lambda rows: {"x": torch.randn(rows, 3, 20)}, CE),
    "graph-convolution": (GraphConvolution, graphs, CE),
    "graph-attention": (GraphAttention, graphs, CE),
    "matrix-factors": (MatrixFactors, lambda rows: {"x": torch.randint(20, (rows, 2))}, MSE),
    "bag-of-words": (BagOfWords, tokens, CE),
    "text-cnn": (TextCnn, tokens, CE),
    "audio-conv1d": (audio, lambda rows: {"x": torch.randn(rows, 1, 200)}, CE),
    "tcn": (Tcn, sequences, CE),
    "video-conv3d": (video, lambda rows: {"x": torch.randn(rows, 1, 8, 8, 8)}, CE),
    "spatial-transformer": (SpatialTransformer, pictures, CE),
    "lora": (Lora, vectors(), CE),
    "weight-norm": (lambda: normalised(parametrizations.weight_norm), vectors(), CE),
    "spectral-norm": (lambda: normalised(parametrizations.spectral_norm), vectors(), CE),
    "orthogonal": (lambda: normalised(parametrizations.orthogonal), vectors(), CE),
    "bilinear-layer": (BilinearLayer, vectors(), CE),
    "cosine-head": (CosineHead, vectors(), CE),
    "maxout": (Maxout, vectors(), CE),
    "highway": (Highway, vectors(), CE),
    "siamese": (Siamese, vectors(), CE),
    **{f"norm-{name}": (lambda norm=norm: small_cnn(nn.ReLU, norm), pictures, CE) for name, norm in NORMS.items()},
    **{
        f"pool-{name}": (lambda pool=pool: small_cnn(nn.Tanh, nn.BatchNorm2d, pool), pictures, CE)
        for name, pool in POOLS.items()
    },
}
