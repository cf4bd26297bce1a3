"""Three steps of every optimiser on a small network, in float64 with PyTorch: tests/fixtures/optimizers/steps.safetensors.

    cargo test --release --test optimizers -- --ignored write_the_noise   # the noise of the crate, as numbers
    python tools/optimizer_fixture.py

SGD, AdamW, RMSprop, clipping and weight decay are PyTorch's own; SAM, ASAM, RWP, SGLD and fSGLD are their papers' formulas around
them. Each tensor is [3, n] and its name states the case: the method, then learning rate and setup.
"""

import json
import math
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn

FIXTURES = Path(__file__).resolve().parent.parent / "tests" / "fixtures"
PROBLEM = FIXTURES / "mlp-tanh-ce"

CASES = """
sgd:momentum=0 learning_rate=0.1
sgd:momentum=0.9 learning_rate=0.1 weight_decay=0.01
sgd:momentum=0.9,nesterov=true learning_rate=0.1 weight_decay=0.01 decay=weights
sgd:momentum=0.9 learning_rate=0.1 weight_decay=0.01 clip_norm=0.25
adamw learning_rate=0.01
adamw:beta1=0.8,beta2=0.95,eps=1e-6 learning_rate=0.01 weight_decay=0.1 decay=weights
adamw learning_rate=0.01 weight_decay=0.1 clip_norm=0.25
rmsprop learning_rate=0.001 weight_decay=0.01
rmsprop:alpha=0.9,eps=0.01 learning_rate=0.01 weight_decay=0.1 decay=weights clip_norm=0.25
sam:rho=0.05 learning_rate=0.1 weight_decay=0.01
sam:rho=0.1,nesterov=true learning_rate=0.1 weight_decay=0.01 clip_norm=0.25
sam:rho=0.05,base=adamw learning_rate=0.01 weight_decay=0.1
asam:rho=0.5,eta=0.01 learning_rate=0.1 weight_decay=0.01
asam:rho=1,eta=0.1,base=adamw,beta1=0.8 learning_rate=0.01 weight_decay=0.1 decay=weights
rwp:sigma=0.01 learning_rate=0.1 weight_decay=0.01
rwp:sigma=0.05,num_perturbations=2,antithetic=true learning_rate=0.1
rwp:sigma=0.05,perturbation=rademacher,base=adamw learning_rate=0.01 weight_decay=0.1
rwp:sigma=0.05,base=rmsprop learning_rate=0.01
sgld:beta_inverse=0.0001 learning_rate=0.1 weight_decay=0.01
fsgld:beta_inverse=1e-06,eta=0.2 learning_rate=0.1 weight_decay=0.01
fsgld:beta_inverse=0.0001,sigma=0.05,num_perturbations=2 learning_rate=0.1 weight_decay=0.01 clip_norm=0.25
fsgld:beta_inverse=0.0001,sigma=0.05,momentum=0.9 learning_rate=0.1 weight_decay=0.01
sgld:beta_inverse=0.0001,preconditioner=rmsprop learning_rate=0.001 weight_decay=0.01
fsgld:beta_inverse=0.0001,sigma=0.05,preconditioner=rmsprop,alpha=0.9,eps=0.001 learning_rate=0.01 weight_decay=0.01
""".strip().splitlines()


def read_model():
    spec = json.loads((PROBLEM / "model.json").read_text())
    layers = [nn.Linear(s["in"], s["out"]) if s["kind"] == "linear" else nn.Tanh() for s in spec["layers"]]
    model = nn.Sequential(*layers).double()
    model.load_state_dict(load_file(PROBLEM / "weights.safetensors"))
    assert [name for name, _ in model.named_parameters()] == spec["param_order"]
    return model


def pairs(text):
    return dict(pair.split("=") for pair in text.split(",") if pair)


def flat(tensors):
    return torch.cat([tensor.detach().reshape(-1) for tensor in tensors])


def cut(vector, like):
    return [part.view_as(p) for part, p in zip(vector.split([p.numel() for p in like]), like)]


class Case:
    """One optimiser on its own copy of the network."""

    def __init__(self, name, noise):
        method, *words = name.split(" ")
        self.kind, _, settings = method.partition(":")
        self.settings, self.setup, self.noise = pairs(settings), pairs(",".join(words)), noise
        self.model = read_model()
        self.params = list(self.model.parameters())
        data = load_file(PROBLEM / "data.safetensors")
        self.x, self.y = data["x"], data["y"]
        self.base = self.make_base()

    def number(self, name, default):
        return float(self.settings.get(name, default))

    def make_base(self):
        wd = float(self.setup.get("weight_decay", 0))
        spared = [p for n, p in self.model.named_parameters() if "weight" not in n]
        weights = [p for n, p in self.model.named_parameters() if "weight" in n]
        spared_wd = 0.0 if self.setup.get("decay") == "weights" else wd
        groups = [{"params": weights, "weight_decay": wd}, {"params": spared, "weight_decay": spared_wd}]
        rate = float(self.setup["learning_rate"])
        if "adamw" in (self.kind, self.settings.get("base")):
            betas = (self.number("beta1", 0.9), self.number("beta2", 0.999))
            return torch.optim.AdamW(groups, lr=rate, betas=betas, eps=self.number("eps", 1e-8))
        if "rmsprop" in (self.kind, self.settings.get("base"), self.settings.get("preconditioner")):
            eps = self.number("eps", 1e-5 if "preconditioner" in self.settings else 1e-8)
            return torch.optim.RMSprop(groups, lr=rate, alpha=self.number("alpha", 0.99), eps=eps)
        momentum = 0.0 if self.kind in ("sgld", "fsgld") else self.number("momentum", 0.9)
        return torch.optim.SGD(groups, lr=rate, momentum=momentum, nesterov=self.settings.get("nesterov") == "true")

    def gradient(self, step, shift=None):
        """The mean gradient of the step's batch at the parameters plus `shift`, as one list."""
        rows = [(8 * step + row) % len(self.x) for row in range(12)]
        moved = self.params if shift is None else [p + s for p, s in zip(self.params, shift)]
        moved = [p.detach().requires_grad_() for p in moved]
        names = [name for name, _ in self.model.named_parameters()]
        output = torch.func.functional_call(self.model, dict(zip(names, moved)), (self.x[rows],))
        return torch.autograd.grad(nn.functional.cross_entropy(output, self.y[rows]), moved)

    def ascent(self, g):
        """SAM: rho g / |g|; ASAM: rho T^2 g / |T g|, T = |w| + eta on weights, 1 on biases."""
        rho = self.number("rho", 0.5 if self.kind == "asam" else 0.05)
        scales = [torch.ones_like(p) for p in self.params]
        if self.kind == "asam":
            scales = [p.detach().abs() + self.number("eta", 0.01) if p.dim() > 1 else s
                      for p, s in zip(self.params, scales)]
        norm = flat([t * v for t, v in zip(scales, g)]).norm()
        return [rho * t * t * v / norm for t, v in zip(scales, g)]

    def direction(self, step):
        if self.kind in ("sam", "asam"):
            return self.gradient(step, self.ascent(self.gradient(step)))
        if self.kind in ("rwp", "fsgld"):
            coupled = self.number("beta_inverse", 1e-8) ** ((1 + self.number("eta", 0.1)) / 4)
            sigma = self.number("sigma", coupled)
            draws = self.noise[self.settings.get("perturbation", "gaussian")]
            count = int(self.settings.get("num_perturbations", 1))
            shifts = [sigma * draws[step * count + k] for k in range(count)]
            if self.settings.get("antithetic") == "true":
                shifts += [-shift for shift in shifts]
            gradients = [flat(self.gradient(step, cut(shift, self.params))) for shift in shifts]
            return cut(torch.stack(gradients).mean(0), self.params)
        return self.gradient(step)

    def step(self, step):
        rate = float(self.setup["learning_rate"]) * (0.5 if step == 2 else 1.0)
        for group in self.base.param_groups:
            group["lr"] = rate
        for p, g in zip(self.params, self.direction(step)):
            p.grad = g.clone()
        if "clip_norm" in self.setup:
            nn.utils.clip_grad_norm_(self.params, float(self.setup["clip_norm"]))
        if self.kind == "fsgld" and self.number("momentum", 0) > 0:
            self.underdamped(step, rate)
        else:
            self.base.step()
            if self.kind in ("sgld", "fsgld"):
                scale = math.sqrt(2 * rate * self.number("beta_inverse", 1e-8))
                self.add(scale * self.preconditioner().sqrt() * self.noise["langevin"][step])
        return flat(self.params)

    def preconditioner(self):
        """Li et al. 2016, from the mean square that the step has left; 1 without one."""
        if "preconditioner" not in self.settings:
            return torch.ones((), dtype=torch.float64)
        squares = flat([self.base.state[p]["square_avg"] for p in self.params])
        return 1 / (squares.sqrt() + self.number("eps", 1e-5))

    def underdamped(self, step, rate):
        """v <- m v + g + wd w - sqrt(2 (1 - m) / (rate beta)) xi, w <- w - rate v."""
        momentum, wd = self.number("momentum", 0), float(self.setup.get("weight_decay", 0))
        scale = math.sqrt(2 * (1 - momentum) * self.number("beta_inverse", 1e-8) / rate)
        g = flat([p.grad for p in self.params])
        old = getattr(self, "velocity", torch.zeros_like(g))
        self.velocity = momentum * old + g + wd * flat(self.params) - scale * self.noise["langevin"][step]
        self.add(-rate * self.velocity)

    def add(self, shift):
        with torch.no_grad():
            for p, s in zip(self.params, cut(shift, self.params)):
                p.add_(s)


def main():
    noise = load_file(FIXTURES / "optimizers" / "noise.safetensors")
    steps = {}
    for name in CASES:
        case = Case(name, noise)
        steps[name] = torch.stack([case.step(step) for step in range(3)])
    save_file(steps, FIXTURES / "optimizers" / "steps.safetensors")


if __name__ == "__main__":
    main()
