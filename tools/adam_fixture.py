"""States of AdamW after twelve steps on a small network, and its preconditioned Hessian, in float64 with PyTorch:
tests/fixtures/adam.

    python tools/adam_fixture.py

`training.pth` holds the weights and the state of an optimiser that was given the parameters in the order of the network;
`named.pth` the state of one that has them in two groups, with their names; `groups.pth` that of the same without names;
these three make the same steps. `amsgrad.pth` is that of AMSGrad, `sgd.pth` that of another optimiser. `expected.safetensors` has the
diagonal of P = (1 - beta1^t) (sqrt(v / (1 - beta2^t)) + eps), with AMSGrad that with its largest v, and all eigenvalues of
P^-1/2 H P^-1/2, in ascending order.
"""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.func import functional_call

FIXTURES = Path(__file__).resolve().parent.parent / "tests" / "fixtures"
PROBLEM = FIXTURES / "mlp-tanh-ce"
OUT = FIXTURES / "adam"
SETTINGS = {"lr": 0.02, "betas": (0.8, 0.95), "eps": 1e-5, "weight_decay": 0.0}
STEPS = 12


def network():
    layers = json.loads((PROBLEM / "model.json").read_text())["layers"]
    modules = [nn.Tanh() if layer["kind"] == "tanh" else nn.Linear(layer["in"], layer["out"]) for layer in layers]
    model = nn.Sequential(*modules).double()
    model.load_state_dict(load_file(PROBLEM / "weights.safetensors"))
    return model


def grouped(model, named):
    """Biases before weights."""
    groups = []
    for ending in ("bias", "weight"):
        own = [(name, param) for name, param in model.named_parameters() if name.endswith(ending)]
        groups.append({"params": own if named else [param for _, param in own]})
    return groups


def train(model, optimizer, x, y):
    for _ in range(STEPS):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()


def preconditioner(optimizer, model, moment):
    """The diagonal of P, in the order of the network."""
    beta1, beta2 = SETTINGS["betas"]
    moments = [optimizer.state[param][moment].flatten() for param in model.parameters()]
    root = (torch.cat(moments) / (1 - beta2**STEPS)).sqrt()
    return (1 - beta1**STEPS) * (root + SETTINGS["eps"])


def main():
    OUT.mkdir(exist_ok=True)
    data = load_file(PROBLEM / "data.safetensors")
    x, y = data["x"], data["y"]
    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), **SETTINGS)
    train(model, optimizer, x, y)
    torch.save(
        {"epoch": 3, "model_state_dict": model.state_dict(), "optimizer_state_dict": optimizer.state_dict()},
        OUT / "training.pth",
    )
    for name, named in (("named", True), ("groups", False)):
        other = network()
        again = torch.optim.AdamW(grouped(other, named), **SETTINGS)
        train(other, again, x, y)
        for one, two in zip(model.parameters(), other.parameters()):
            assert torch.equal(one, two)
        torch.save(again.state_dict(), OUT / f"{name}.pth")
    other = network()
    sgd = torch.optim.SGD(other.parameters(), lr=0.1, momentum=0.9)
    train(other, sgd, x, y)
    torch.save(sgd.state_dict(), OUT / "sgd.pth")

    other = network()
    amsgrad = torch.optim.AdamW(other.parameters(), amsgrad=True, **SETTINGS)
    train(other, amsgrad, x, y)
    torch.save(amsgrad.state_dict(), OUT / "amsgrad.pth")

    diagonal = preconditioner(optimizer, model, "exp_avg_sq")
    names, shapes = zip(*((name, param.shape) for name, param in model.named_parameters()))

    def loss(theta):
        parts = torch.split(theta, [shape.numel() for shape in shapes])
        params = {name: part.view(shape) for name, part, shape in zip(names, parts, shapes)}
        return nn.functional.cross_entropy(functional_call(model, params, (x,)), y)

    theta = torch.cat([param.detach().flatten() for param in model.parameters()])
    hessian = torch.autograd.functional.hessian(loss, theta)
    scaled = hessian / diagonal.sqrt().outer(diagonal.sqrt())
    eigenvalues = torch.linalg.eigvalsh(0.5 * (scaled + scaled.T))
    largest = preconditioner(amsgrad, other, "max_exp_avg_sq")
    expected = {"diagonal": diagonal, "diagonal_amsgrad": largest, "eigenvalues": eigenvalues}
    save_file(expected, OUT / "expected.safetensors")


if __name__ == "__main__":
    main()
