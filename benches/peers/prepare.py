"""Writes the files that all tools read: weights, data, and f64 values to check them against.

    prepare.py MODEL KIND FOLDER --batch N

does nothing where FOLDER has them already. KIND is `curvature` (reference: gradient and quadratic forms), `step`
(losses of training steps) or `memory` (images as bytes, no reference: only flatness's memory is of interest there).
"""

import argparse
import copy
import hashlib
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn

import models
from training import CHECKED_STEPS, OPTIMISERS, trainer

HERE = Path(__file__).resolve().parent
TOOLS = HERE.parents[1] / "tools"
sys.path.insert(0, str(TOOLS))

MAX_DIRECTIONS = 8
REFERENCE_ROWS = 50  # per pass of the f64 reference, whose double backward keeps every activation
NORM_IMAGES = 200  # at most, that the running statistics come from


def fit_running_statistics(model, x):
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = None  # plain averages, so that one pass forgets the initial 0 and 1
    with torch.no_grad():
        model.train()(x)
    for norm, momentum in zip(norms, momenta):
        norm.momentum = momentum


def double(x):
    return x.double() if x.is_floating_point() else x  # tokens stay whole


def curvature_reference(model, x, y):
    """By double backward in f64: the gradient's squared norm; of each direction `v . Hv / v . v` and `|Hv| / |v|`."""
    model = copy.deepcopy(model).double().eval()
    parameters = list(model.parameters())
    vectors = models.directions(model, MAX_DIRECTIONS)
    gradient, products = 0, torch.zeros(vectors.shape, dtype=torch.float64)
    for rows in range(0, len(x), REFERENCE_ROWS):
        part_x, part_y = double(x[rows : rows + REFERENCE_ROWS]), y[rows : rows + REFERENCE_ROWS]
        loss = F.cross_entropy(model(part_x), part_y, reduction="sum") / y.numel()
        part = models.flat(torch.autograd.grad(loss, parameters, create_graph=True))
        gradient = gradient + part.detach()
        for product, vector in zip(products, vectors.double()):
            product += models.flat(torch.autograd.grad(part, parameters, vector, retain_graph=True))
    forms, scales = models.quadratic_forms(vectors, products), products.norm(dim=1) / vectors.double().norm(dim=1)
    return {"gradient": gradient.square().sum().item(), "hvp": forms.tolist(), "hvp_scale": scales.tolist()}


def step_reference(model, x, y):
    """Losses of the first training steps with each optimiser, in f64."""
    losses = {}
    for optimiser in OPTIMISERS:
        step = trainer(copy.deepcopy(model).double(), double(x), y, optimiser)
        losses[optimiser] = [step().item() for _ in range(CHECKED_STEPS)]
    return {"step": losses}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model", choices=models.MODELS)
    parser.add_argument("kind", choices=["curvature", "step", "memory"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--batch", type=int, required=True)
    arguments = parser.parse_args()
    name, kind, folder, batch = arguments.model, arguments.kind, arguments.folder, arguments.batch
    sources = [HERE / "prepare.py", HERE / "models.py", HERE / "training.py", TOOLS / "export_torch.py"]
    sources += sorted((TOOLS.parent / "python" / "flatness").glob("_*.py"))
    made_by = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()
    key = f"{name} {kind} {batch} {torch.__version__} {made_by}"
    done = folder / "prepared"
    if done.exists() and done.read_text() == key:
        return
    done.unlink(missing_ok=True)
    folder.mkdir(parents=True, exist_ok=True)

    from export_torch import export  # here: it needs TOOLS on the path

    torch.manual_seed(0)
    models.plain_attention()
    generator = torch.Generator().manual_seed(1)
    model = models.MODELS[name]()
    x, y = models.rows(name, batch, generator)
    first = x[:NORM_IMAGES]
    if kind == "memory":
        x = torch.randint(256, x.shape, generator=generator, dtype=torch.uint8)
        first = x[:NORM_IMAGES].float() / 255
    fit_running_statistics(model, first)
    model.eval()
    export(model, first[:8], folder / models.WEIGHTS, loss="cross_entropy", name=name)
    save_file({"x": x.contiguous(), "y": y}, folder / models.DATA)
    torch.save(model.state_dict(), folder / models.STATE)
    references = {"curvature": curvature_reference, "step": step_reference, "memory": lambda *_: {}}
    models.write_json(folder / models.REFERENCE, references[kind](model, x, y))
    done.write_text(key)


if __name__ == "__main__":
    main()
